// Runs seeded worlds. `sim_test --seeds=N [--first=S]` tries N seeds from S (default: drawn from the clock's entropy);
// `sim_test --seed=S` repeats one. A failure prints the one line that reproduces it.
#include <sys/random.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "sim/sim_world.h"

namespace {

constexpr uint64_t kSeedsJudged = 200;  // about one late write a world

uint64_t number_after(const char* text) { return std::strtoull(std::strchr(text, '=') + 1, nullptr, 10); }

bool holds(uint64_t seed, stepwell::sim::WorldReport& total) {
  const auto report = stepwell::sim::SimWorld(seed).run();
  total.runs += report.runs;
  total.crashes += report.crashes;
  total.pauses += report.pauses;
  total.requests += report.requests;
  total.steps += report.steps;
  total.held += report.held;
  total.refused += report.refused;
  total.cancelled += report.cancelled;
  if (!report.violation.empty()) {
    std::printf("FAILED %s\n  repeat with: sim_test --seed=%" PRIu64 "\n", report.violation.c_str(), seed);
    return false;
  }
  // A world that does not repeat itself cannot be debugged: every 50th seed is run twice.
  if (seed % 50 == 0 && stepwell::sim::SimWorld(seed).run().digest != report.digest) {
    std::printf("FAILED the same seed gave another trace\n  repeat with: sim_test --seed=%" PRIu64 "\n", seed);
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t count = 200;
  uint64_t first = 0;
  if (getrandom(&first, sizeof first, 0) != static_cast<ssize_t>(sizeof first)) first = 1;
  first >>= 16U;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--seeds=", 8) == 0) {
      count = number_after(argv[i]);
    } else if (std::strncmp(argv[i], "--first=", 8) == 0) {
      first = number_after(argv[i]);
    } else if (std::strncmp(argv[i], "--seed=", 7) == 0) {
      first = number_after(argv[i]);
      count = 1;
    } else {
      std::fprintf(stderr, "sim_test: unknown argument %s; expected --seeds=N, --first=S or --seed=S\n", argv[i]);
      return 2;
    }
  }
  stepwell::sim::WorldReport total;
  uint64_t failed = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) failed += holds(seed, total) ? 0 : 1;
  std::printf("sim: %" PRIu64 " seeds from %" PRIu64 ": %" PRId64 " runs, %" PRId64 " steps, %" PRId64
              " requests, %" PRId64 " crashes, %" PRId64 " pauses, %" PRId64 " calls held, %" PRId64
              " cancelled, %" PRId64 " late writes refused, %" PRIu64 " failed\n",
              count, first, total.runs, total.steps, total.requests, total.crashes, total.pauses, total.held,
              total.cancelled, total.refused, failed);
  const bool is_blind = count >= kSeedsJudged && total.refused == 0;
  if (is_blind) std::printf("FAILED no owner came back after its lease: the fence was not tested\n");
  const bool holds_none = count >= kSeedsJudged && total.held == 0;
  if (holds_none) std::printf("FAILED no call was ever held: the admission stage was not tested\n");
  return failed == 0 && !is_blind && !holds_none ? 0 : 1;
}
