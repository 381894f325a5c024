#include "faults/disk_faults.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "faults/fault_vfs.h"
#include "faults/one_life.h"

namespace stepwell::testing {

namespace {

// One operation of the disk fails, or more; then perhaps the power; and the store is opened again until it works.
class DiskFaults {
 public:
  // Blind: the mark that asks for a rescue is always removed, as if a failed sync were nothing; this must go wrong.
  DiskFaults(uint64_t seed, const std::string& folder, bool is_blind)
      : seed_(seed),
        is_blind_(is_blind),
        disk_(folder, mix(seed, 4)),
        plan_(seed, folder),
        mark_(plan_.options.path + ".failed") {}

  void run(uint64_t count, Tally& tally) {
    disk_.set_fault({});
    (void)live(disk_, plan_.options, plan_.first);
    first_ops_ = disk_.op_count();
    disk_.set_fault({});
    open_ops_ = live(disk_, plan_.options, *plan_.later[0]).op_count_at_open;
    later_ops_ = disk_.op_count();
    for (uint64_t i = 0; i < count; ++i) {
      random_ = mix(seed_, 2'000'000 + i);
      verdict_ = Verdict::kKept;
      story_.clear();
      const std::string wrong = run_one();
      ++tally.points;
      if (wrong.empty()) continue;
      ++(verdict_ == Verdict::kLost ? tally.lost : verdict_ == Verdict::kCorrupt ? tally.corrupt : tally.violations);
      if (is_blind_) continue;
      std::printf("FAILED disk fault %" PRIu64 ": %s\n  %s\n  repeat with: power_cut_test --seed=%" PRIu64 "\n", i,
                  wrong.c_str(), story_.c_str(), seed_);
    }
  }
  [[nodiscard]] uint64_t rescues() const { return rescues_; }
  // Faults that were met, by kind.
  [[nodiscard]] const Injected& injected() const { return injected_; }

 private:
  // Empty, or what went wrong.
  std::string run_one() {
    disk_.restart({});
    possible_ = {0};
    const bool is_young = pick(random_, 2) == 0;
    if (!is_young) {
      if (std::string wrong = run_life(plan_.first, {}); !wrong.empty()) return wrong;
      if (pick(random_, 2) == 0) cut_power();
    }
    const auto life_count = static_cast<size_t>(2 + pick(random_, 3));
    for (size_t i = 0; i < life_count; ++i) {
      const SeededWork& work = i == 0 && is_young ? plan_.first : *plan_.later[i];
      const int64_t op_count = &work == &plan_.first ? first_ops_ : later_ops_;
      const bool is_last = i + 1 == life_count;
      const bool is_faulty = i == 0 || (!is_last && pick(random_, 2) == 0);
      const bool was_marked = std::filesystem::exists(mark_);
      const DiskFault fault = is_faulty ? draw_fault(op_count, i > 0) : DiskFault{};
      if (std::string wrong = run_life(work, fault); !wrong.empty()) return wrong;
      const bool is_over = fault.kind == DiskFault::Kind::kPowerOff && disk_.has_failed();
      if (is_blind_) std::filesystem::remove(mark_);
      if (!is_last && (is_over || pick(random_, 2) == 0)) {
        // The mark itself may have come too late for the disk.
        if (disk_.has_failed() && !was_marked && pick(random_, 2) == 0) std::filesystem::remove(mark_);
        cut_power();
      }
      disk_.heal();
    }
    const std::string integrity = integrity_of(plan_.options.path);
    if (integrity == "ok") return {};
    verdict_ = Verdict::kCorrupt;
    return "integrity check: " + integrity;
  }

  DiskFault draw_fault(int64_t op_count, bool may_cut) {
    using Kind = DiskFault::Kind;
    constexpr Kind kKinds[] = {Kind::kSyncError, Kind::kSyncError, Kind::kWriteError, Kind::kShortWrite,
                               Kind::kFull,      Kind::kPowerOff,  Kind::kPowerOff};
    DiskFault fault;
    fault.kind = kKinds[pick(random_, may_cut ? 7 : 5)];
    // Often while the store opens, which is but a few of the operations.
    fault.at = pick(random_, pick(random_, 3) == 0 ? open_ops_ + 2 : op_count);
    fault.is_lasting = pick(random_, 4) == 0;
    if (is_blind_ && fault.kind != Kind::kPowerOff) fault.kind = Kind::kSyncError;
    return fault;
  }

  void cut_power() {
    story_ += " power cut;";
    disk_.cut_power(random_);
  }

  std::string run_life(const SeededWork& work, const DiskFault& fault) {
    disk_.set_fault(fault);
    const bool was_marked = std::filesystem::exists(mark_);
    const OneLife life = live(disk_, plan_.options, work);
    const bool has_failed = disk_.has_failed();
    if (has_failed) ++injected_[static_cast<size_t>(fault.kind)];
    tell(work, fault, life, was_marked);
    if (!life.violation.empty()) return refuse(life.violation);
    if (!life.opened.is_ok()) {
      if (!has_failed) return corrupt("it does not open: " + life.opened.to_string());
      return {};
    }
    if (was_marked && life.is_marked) return refuse("the mark of a disk error was ignored");
    rescues_ += was_marked ? 1 : 0;
    const bool is_whole = life.acked_count == work.calls().size();
    if (!is_whole && !has_failed)
      return corrupt("work was refused though the disk was well: " + life.refusal.to_string());
    // A rescue is done with both files' rollback journals before it ends; SQLite ignores errors of emptying them.
    const bool is_harmless = was_marked && disk_.failed_name().ends_with("-journal");
    if (disk_.commit_count_since_failure() > 0 && !is_harmless) return refuse("the store wrote on after a disk error");
    if (has_failed && !is_whole && !std::filesystem::exists(mark_)) return refuse("a disk error left no mark");
    return narrow(work, life, fault);
  }

  // What may be on the disk after this life, given what might have been there before, and what was seen.
  std::string narrow(const SeededWork& work, const OneLife& life, const DiskFault& fault) {
    const size_t next = next_of(work, life.acked_count);
    if (!life.seen) {
      // The look was in the group that failed, or the disk is gone altogether.
      const bool is_excused = next == work.calls().size() || fault.kind == DiskFault::Kind::kPowerOff;
      if (!is_excused) return refuse("the store does not read any more");
      std::vector<uint64_t> possible;
      for (const uint64_t base : possible_) {
        for (size_t i = 0; i < life.acked_count; ++i) older_.push_back(base + work.digest(i));
        for (const size_t count : {life.acked_count, next}) possible.push_back(base + work.digest(count));
      }
      possible_ = std::move(possible);
      return {};
    }
    const uint64_t base = *life.seen - work.digest(life.acked_count);
    if (std::find(possible_.begin(), possible_.end(), base) == possible_.end()) {
      if (life.acked_count < work.calls().size()) return refuse("after its failure the store reads something else");
      verdict_ = is_older(base) ? Verdict::kLost : Verdict::kCorrupt;
      return verdict_ == Verdict::kLost ? "acknowledged work was lost" : "something else is there than was written";
    }
    older_.push_back(base);
    for (size_t i = 0; i < life.acked_count; ++i) older_.push_back(base + work.digest(i));
    possible_ = {*life.seen};
    if (life.acked_count < work.calls().size()) {
      // The transaction that failed may be there all the same, as a whole.
      possible_.push_back(base + work.digest(next));
    }
    return {};
  }

  // The calls that share the transaction which was under way.
  [[nodiscard]] size_t next_of(const SeededWork& work, size_t acked_count) const {
    const auto batch = static_cast<size_t>(plan_.options.commit_batch_max);
    return std::min(acked_count + (acked_count == 0 ? 1 : batch), work.calls().size());
  }
  [[nodiscard]] bool is_older(uint64_t digest) const {
    return std::find(older_.begin(), older_.end(), digest) != older_.end();
  }

  std::string refuse(const std::string& what) {
    verdict_ = Verdict::kKept;
    return what;
  }
  std::string corrupt(const std::string& what) {
    verdict_ = Verdict::kCorrupt;
    return what;
  }

  void tell(const SeededWork& work, const DiskFault& fault, const OneLife& life, bool was_marked) {
    story_ += std::string(was_marked ? " rescue," : "") + " life with " + kFaultNames[static_cast<size_t>(fault.kind)];
    if (fault.kind != DiskFault::Kind::kNone) {
      story_ += (fault.is_lasting ? " from " : " at ") + std::to_string(fault.at);
      story_ +=
          disk_.has_failed() ? " of " + std::filesystem::path(disk_.failed_name()).filename().string() : " (not met)";
    }
    story_ += life.opened.is_ok()
                  ? ": " + std::to_string(life.acked_count) + " of " + std::to_string(work.calls().size()) + " calls;"
                  : ": refused at open;";
  }

  const uint64_t seed_;
  const bool is_blind_;
  FaultDisk disk_;
  Plan plan_;
  const std::string mark_;
  int64_t first_ops_ = 0;
  int64_t later_ops_ = 0;
  int64_t open_ops_ = 0;
  uint64_t rescues_ = 0;
  Injected injected_{};

  // Of the fault under way.
  uint64_t random_ = 0;
  std::vector<uint64_t> possible_;  // digests
  std::vector<uint64_t> older_;
  Verdict verdict_ = Verdict::kKept;
  std::string story_;
};

}  // namespace

void run_disk_faults(uint64_t seed, const std::string& folder, bool is_blind, uint64_t count, FaultTally& total) {
  DiskFaults faults(seed, folder, is_blind);
  faults.run(count, total.tally);
  total.rescues += faults.rescues();
  for (size_t i = 0; i < kFaultKinds; ++i) total.injected[i] += faults.injected()[i];
}

}  // namespace stepwell::testing
