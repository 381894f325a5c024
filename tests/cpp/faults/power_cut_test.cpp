// Cuts the power under the SQLite store and lets its disk fail, thousands of times, and looks what is left.
//
//   power_cut_test [--cuts=N] [--faults=N] [--first=SEED]    N points of each kind, in worlds from SEED on
//   power_cut_test --seed=SEED                               one world, as a failure's last line says
//
// A world is a seeded work whose power is cut at many points of its disk's log, the same with relaxed durability (which
// must lose something: otherwise this test could not fail), and the work again with one disk fault at a time. After
// each the store must open, hold what it acknowledged and of the rest nothing or all, and take further work.
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "faults/fault_vfs.h"
#include "faults/one_life.h"
#include "faults/seeded_work.h"

namespace stepwell::testing {
namespace {

constexpr uint64_t kCutsPerWorld = 100;
constexpr uint64_t kRelaxedCutsPerWorld = 13;  // a tenth of all, since a cut of the full arm often brings a second one
constexpr uint64_t kTraceCheckEvery = 50;  // worlds that are run twice: one that does not repeat itself helps nobody
// Control arms that are smaller than this may lose nothing by chance.
constexpr uint64_t kRelaxedPointsJudged = 50;
constexpr uint64_t kBlindPointsJudged = 1'000;
constexpr uint64_t kFaultsPerWorld = 25;
constexpr uint64_t kFailuresPrinted = 20;  // more of them teach nothing

struct Tally {
  uint64_t points = 0;
  uint64_t lost = 0;
  uint64_t corrupt = 0;
  uint64_t violations = 0;  // anything else that must not be

  [[nodiscard]] uint64_t failures() const { return lost + corrupt + violations; }
};

uint64_t mix(uint64_t seed, uint64_t salt) {
  uint64_t state = seed * 0x9E3779B97F4A7C15ULL + salt;
  return detail::next_random(state);
}

int64_t pick(uint64_t& random, int64_t bound) { return detail::random_up_to(random, bound - 1); }

// The works of a seed, each with runs of its own, and how the store is set up.
struct Plan {
  Plan(uint64_t seed, const std::string& folder) : first(mix(seed, 1), WorkShape{}) {
    for (int i = 1; i <= 5; ++i) {
      const WorkShape shape{6, RunId{1'000'000} * i, "later " + std::to_string(i), false};
      later.push_back(std::make_unique<SeededWork>(mix(seed, 100 + static_cast<uint64_t>(i)), shape));
    }
    uint64_t random = mix(seed, 2);
    constexpr int64_t kBatches[] = {1, 1, 2, 7};
    options.path = folder + "/runs.db";
    options.commit_batch_max = kBatches[pick(random, 4)];
    options.cache_bytes = pick(random, 2) == 0 ? 64 << 10 : 1 << 20;
    options.wal_bytes_max = (16 << 10) << pick(random, 5);
    options.wal_bytes_initial = (64 << 10) * pick(random, 3);
  }

  SeededWork first;
  std::vector<std::unique_ptr<SeededWork>> later;
  SqliteOptions options;
};

enum class Verdict : uint8_t { kKept, kLost, kCorrupt };

// What a store may hold: a base that all agree on and some number of calls of a work; `begin` to `end` are wanted.
struct Expected {
  uint64_t base = 0;
  const SeededWork* work = nullptr;
  size_t begin = 0;
  size_t end = 0;

  // Also says what was there in full: the base of what comes next.
  Verdict judge(uint64_t digest, uint64_t& base_next) const {
    base_next = digest;
    for (size_t i = begin; i <= end; ++i) {
      if (base + work->digest(i) == digest) return Verdict::kKept;
    }
    for (size_t i = 0; i < begin; ++i) {
      if (base + work->digest(i) == digest) return Verdict::kLost;
    }
    return Verdict::kCorrupt;
  }
};

uint64_t trace_of(const std::vector<DiskOp>& log) {
  uint64_t trace = 0;
  for (const DiskOp& op : log) {
    const bool is_name = op.kind == DiskOp::Kind::kCreate;  // its folder is drawn anew each time
    const uint64_t bytes = is_name ? 0 : std::hash<std::string>()(op.bytes);
    trace = mix(trace ^ bytes, static_cast<uint64_t>(op.kind) + static_cast<uint64_t>(op.offset));
  }
  return trace;
}

// The power is cut at points of the log of one work.
class PowerCuts {
 public:
  PowerCuts(uint64_t seed, const std::string& folder, Durability durability)
      : seed_(seed), disk_(folder, mix(seed, 3)), plan_(seed, folder) {
    plan_.options.durability = durability;
  }

  // Points do not depend on how many there are. Answers a digest of all that was done to the disk.
  uint64_t run(uint64_t count, Tally& tally) {
    const OneLife life = live(disk_, plan_.options, plan_.first);
    if (!check_undisturbed(life, plan_.first.digest())) {
      ++tally.violations;
      return 0;
    }
    const std::vector<DiskOp> log = disk_.log();
    std::vector<std::pair<size_t, uint64_t>> points;
    for (uint64_t i = 0; i < count; ++i) points.emplace_back(mix(seed_, 1'000 + i) % (log.size() + 1), i);
    std::sort(points.begin(), points.end());
    DiskImage image({});
    size_t done = 0;
    size_t transactions = 0;
    for (const auto& [point, number] : points) {
      for (; done < point; ++done) {
        image.apply(log[done]);
        const bool is_ours = done >= life.log_count_at_open;
        if (is_ours && log[done].kind == DiskOp::Kind::kCommitted) ++transactions;
      }
      uint64_t random = mix(seed_, 1'000'000 + number);
      const Expected expected = expect(0, plan_.first, transactions);
      check_cut(image.cut(random), expected, "point " + std::to_string(point), random, tally);
    }
    return trace_of(log);
  }

 private:
  // In flight may have been the next transaction, which was not acknowledged.
  [[nodiscard]] Expected expect(uint64_t base, const SeededWork& work, size_t transactions) const {
    return {base, &work, calls_in(transactions, plan_.options, work), calls_in(transactions + 1, plan_.options, work)};
  }

  void check_cut(const DiskFiles& left, const Expected& expected, const std::string& where, uint64_t& random,
                 Tally& tally) {
    uint64_t base = 0;
    OneLife life;
    if (!check_reopened(left, expected, *plan_.later[0], where, life, base, tally)) return;
    const bool is_relaxed = plan_.options.durability == Durability::kRelaxed;
    if (is_relaxed || pick(random, 4) != 0) return;
    // Once more, in the life that began with a recovery.
    const std::vector<DiskOp>& log = disk_.log();
    const auto point = static_cast<size_t>(pick(random, static_cast<int64_t>(log.size()) + 1));
    DiskImage image(disk_.base());
    size_t transactions = 0;
    for (size_t i = 0; i < point; ++i) {
      image.apply(log[i]);
      if (i >= life.log_count_at_open && log[i].kind == DiskOp::Kind::kCommitted) ++transactions;
    }
    const Expected again = expect(base, *plan_.later[0], transactions);
    check_reopened(image.cut(random), again, *plan_.later[1], where + ", then " + std::to_string(point), life, base,
                   tally);
  }

  // Opens over what is left and gives it `work`. `base` becomes what the disk had kept.
  bool check_reopened(const DiskFiles& left, const Expected& expected, const SeededWork& work, const std::string& where,
                      OneLife& life, uint64_t& base, Tally& tally) {
    ++tally.points;
    disk_.restart(left);
    life = live(disk_, plan_.options, work);
    std::string wrong = life.violation;
    if (!life.opened.is_ok()) wrong = life.opened.to_string();
    if (wrong.empty() && (life.acked_count != work.calls().size() || !life.seen))
      wrong = "further work was refused: " + life.refusal.to_string();
    const std::string integrity = integrity_of(plan_.options.path);
    if (wrong.empty() && integrity != "ok") wrong = "integrity check: " + integrity;
    const Verdict verdict = wrong.empty() ? expected.judge(*life.seen - work.digest(), base) : Verdict::kCorrupt;
    if (verdict == Verdict::kKept) return true;
    ++(verdict == Verdict::kLost ? tally.lost : tally.corrupt);
    const bool is_relaxed = plan_.options.durability == Durability::kRelaxed;
    if (is_relaxed && verdict == Verdict::kLost) return false;
    if (wrong.empty()) wrong = verdict == Verdict::kLost ? "acknowledged work was lost" : "half a transition was kept";
    std::printf("FAILED power cut (%s) at %s: %s\n  repeat with: power_cut_test --seed=%" PRIu64 "\n",
                is_relaxed ? "relaxed" : "full", where.c_str(), wrong.c_str(), seed_);
    return false;
  }

  bool check_undisturbed(const OneLife& life, uint64_t digest) {
    std::string wrong = life.violation;
    if (!life.opened.is_ok()) wrong = life.opened.to_string();
    size_t transactions = 0;
    for (size_t i = life.log_count_at_open; i < disk_.log().size(); ++i) {
      transactions += disk_.log()[i].kind == DiskOp::Kind::kCommitted ? 1 : 0;
    }
    if (wrong.empty() && life.seen != digest) wrong = "the store holds something else than the model";
    if (wrong.empty() && transactions != transactions_in(plan_.options, plan_.first)) {
      wrong = "expected " + std::to_string(transactions_in(plan_.options, plan_.first)) + " transactions, saw " +
              std::to_string(transactions);
    }
    if (wrong.empty()) return true;
    std::printf("FAILED undisturbed: %s\n  repeat with: power_cut_test --seed=%" PRIu64 "\n", wrong.c_str(), seed_);
    return false;
  }

  const uint64_t seed_;
  FaultDisk disk_;
  Plan plan_;
};

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

  // Answers how many rescues there were.
  uint64_t run(uint64_t count, Tally& tally) {
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
    return rescues_;
  }

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
    if (disk_.commit_count_since_failure() > 0 && !is_harmless)
      return refuse("the store wrote on after a disk error in " + disk_.failed_name());
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
  bool is_older(uint64_t digest) const { return std::find(older_.begin(), older_.end(), digest) != older_.end(); }

  std::string refuse(const std::string& what) {
    verdict_ = Verdict::kKept;
    return what;
  }
  std::string corrupt(const std::string& what) {
    verdict_ = Verdict::kCorrupt;
    return what;
  }

  void tell(const SeededWork& work, const DiskFault& fault, const OneLife& life, bool was_marked) {
    constexpr const char* kNames[] = {"no fault", "write error", "short write", "disk full", "sync error", "power off"};
    story_ += std::string(was_marked ? " rescue," : "") + " life with " + kNames[static_cast<size_t>(fault.kind)];
    if (fault.kind != DiskFault::Kind::kNone) {
      story_ += (fault.is_lasting ? " from " : " at ") + std::to_string(fault.at);
      if (!disk_.has_failed()) story_ += " (not met)";
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

  // Of the fault under way.
  uint64_t random_ = 0;
  std::vector<uint64_t> possible_;  // digests
  std::vector<uint64_t> older_;
  Verdict verdict_ = Verdict::kKept;
  std::string story_;
};

struct Arguments {
  uint64_t cuts = 2'000;
  uint64_t faults = 500;
  uint64_t first = 0;
};

bool read_arguments(int argc, char** argv, Arguments& arguments) {
  if (getrandom(&arguments.first, sizeof arguments.first, 0) != static_cast<ssize_t>(sizeof arguments.first)) {
    arguments.first = 1;
  }
  arguments.first >>= 16U;
  for (int i = 1; i < argc; ++i) {
    const auto holds = [&](const char* name) { return std::strncmp(argv[i], name, std::strlen(name)) == 0; };
    const char* equals = std::strchr(argv[i], '=');
    const uint64_t number = equals == nullptr ? 0 : std::strtoull(equals + 1, nullptr, 10);
    if (holds("--cuts=")) {
      arguments.cuts = number;
    } else if (holds("--faults=")) {
      arguments.faults = number;
    } else if (holds("--first=")) {
      arguments.first = number;
    } else if (holds("--seed=")) {
      arguments = {kCutsPerWorld, kFaultsPerWorld, number};
    } else {
      std::fprintf(stderr,
                   "power_cut_test: unknown argument %s; expected --cuts=N, --faults=N, --first=S or --seed=S\n",
                   argv[i]);
      return false;
    }
  }
  return true;
}

struct Report {
  Tally full;
  Tally relaxed;
  Tally faults;
  Tally blind;
  uint64_t rescues = 0;

  [[nodiscard]] uint64_t failures() const {
    return full.failures() + faults.failures() + relaxed.corrupt + relaxed.violations;
  }
  // A control arm that loses nothing says that this test could not have failed.
  [[nodiscard]] bool is_control_alive() const {
    const bool is_relaxed_alive = relaxed.points < kRelaxedPointsJudged || relaxed.lost > 0;
    return is_relaxed_alive && (blind.points < kBlindPointsJudged || blind.lost + blind.corrupt > 0);
  }
};

void print(const Report& report, uint64_t first) {
  const Tally& full = report.full;
  const Tally& relaxed = report.relaxed;
  const Tally& faults = report.faults;
  const Tally& blind = report.blind;
  if (!report.is_control_alive()) std::printf("FAILED a control arm lost nothing: this test could not have failed\n");
  std::printf("power cuts: %" PRIu64 " points, %" PRIu64 " lost, %" PRIu64 " corrupt; relaxed arm: %" PRIu64
              " points, %" PRIu64 " lost, %" PRIu64 " corrupt; disk faults: %" PRIu64 ", %" PRIu64 " lost, %" PRIu64
              " corrupt, %" PRIu64 " rescues; without rescue: %" PRIu64 ", %" PRIu64 " lost or corrupt; %" PRIu64
              " other failures; from seed %" PRIu64 "\n",
              full.points, full.lost, full.corrupt, relaxed.points, relaxed.lost, relaxed.corrupt, faults.points,
              faults.lost, faults.corrupt, report.rescues, blind.points, blind.lost + blind.corrupt,
              full.violations + relaxed.violations + faults.violations, first);
}

int run(const Arguments& arguments) {
  std::string folder = (std::filesystem::temp_directory_path() / "stepwell_power_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 2;
  Report report;
  for (uint64_t seed = arguments.first; report.full.points < arguments.cuts; ++seed) {
    const uint64_t count = std::min(kCutsPerWorld, arguments.cuts - report.full.points);
    const uint64_t trace = PowerCuts(seed, folder, Durability::kFull).run(count, report.full);
    if (seed % kTraceCheckEvery == 0 && PowerCuts(seed, folder, Durability::kFull).run(0, report.full) != trace) {
      std::printf("FAILED the same seed gave another trace\n  repeat with: power_cut_test --seed=%" PRIu64 "\n", seed);
      ++report.full.violations;
    }
    PowerCuts(seed, folder, Durability::kRelaxed).run(std::min(count, kRelaxedCutsPerWorld), report.relaxed);
    if (report.failures() > kFailuresPrinted) break;
  }
  for (uint64_t seed = arguments.first; report.faults.points < arguments.faults; ++seed) {
    const uint64_t count = std::min(kFaultsPerWorld, arguments.faults - report.faults.points);
    report.rescues += DiskFaults(seed, folder, false).run(count, report.faults);
    DiskFaults(seed, folder, true).run(count / 4, report.blind);
    if (report.failures() > kFailuresPrinted) break;
  }
  std::filesystem::remove_all(folder);
  print(report, arguments.first);
  return report.failures() == 0 && report.is_control_alive() ? 0 : 1;
}

}  // namespace
}  // namespace stepwell::testing

int main(int argc, char** argv) {
  stepwell::testing::Arguments arguments;
  return stepwell::testing::read_arguments(argc, argv, arguments) ? stepwell::testing::run(arguments) : 2;
}
