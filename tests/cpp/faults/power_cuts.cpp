#include "faults/power_cuts.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <functional>
#include <utility>
#include <vector>

#include "faults/fault_vfs.h"
#include "faults/one_life.h"

namespace stepwell::testing {

namespace {

// What a store may hold: a base that all agree on and some number of calls of a work: `begin`, or `end` if the group
// under way is there, as a whole.
struct Expected {
  uint64_t base = 0;
  const SeededWork* work = nullptr;
  size_t begin = 0;
  size_t end = 0;

  // Also says what was there in full: the base of what comes next.
  Verdict judge(uint64_t digest, uint64_t& base_next) const {
    base_next = digest;
    if (digest == base + work->digest(begin) || digest == base + work->digest(end)) return Verdict::kKept;
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
    size_t answered = 0;
    for (const auto& [point, number] : points) {
      for (; done < point; ++done) {
        image.apply(log[done]);
        const bool is_ours = done >= life.log_count_at_open;
        if (is_ours && log[done].kind == DiskOp::Kind::kAnswered) ++answered;
      }
      uint64_t random = mix(seed_, 1'000'000 + number);
      const Expected expected = expect(0, plan_.first, answered);
      check_cut(image.cut(random), expected, "point " + std::to_string(point), random, tally);
    }
    return trace_of(log);
  }

 private:
  // In flight may have been the next group, which was not acknowledged.
  [[nodiscard]] Expected expect(uint64_t base, const SeededWork& work, size_t answered) const {
    return {base, &work, calls_in(answered, plan_.options, work), calls_in(answered + 1, plan_.options, work)};
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
    size_t answered = 0;
    for (size_t i = 0; i < point; ++i) {
      image.apply(log[i]);
      if (i >= life.log_count_at_open && log[i].kind == DiskOp::Kind::kAnswered) ++answered;
    }
    const Expected again = expect(base, *plan_.later[0], answered);
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

}  // namespace

uint64_t run_power_cuts(uint64_t seed, const std::string& folder, Durability durability, uint64_t count, Tally& tally) {
  return PowerCuts(seed, folder, durability).run(count, tally);
}

}  // namespace stepwell::testing
