// Cuts the power under the SQLite store and lets its disk fail, thousands of times, and looks what is left.
//
//   power_cut_test [--cuts=N] [--faults=N] [--first=SEED] [--jobs=N]    N points of each kind, in worlds from SEED on,
//                                                                       in N processes (default: one a core)
//   power_cut_test --seed=SEED                               one world, as a failure's last line says
//
// A world is a seeded work whose power is cut at many points of its disk's log, the same with relaxed durability (which
// must lose something: otherwise this test could not fail), and the work again with one disk fault at a time. After
// each the store must open, hold what it acknowledged and of the rest nothing or all, and take further work.
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "faults/disk_faults.h"
#include "faults/power_cuts.h"

namespace stepwell::testing {
namespace {

// Points of a world; of its relaxed control arm, a tenth of all, since a cut of the full arm often brings a second one.
constexpr uint64_t kCutsPerWorld = 100;
constexpr uint64_t kRelaxedCutsPerWorld = 13;
constexpr uint64_t kTraceCheckEvery = 50;  // worlds that are run twice: one that does not repeat itself helps nobody
// Control arms that are smaller than this may lose nothing by chance.
constexpr uint64_t kRelaxedPointsJudged = 50;
constexpr uint64_t kBlindPointsJudged = 1'000;
constexpr uint64_t kFaultsPerWorld = 25;
// Worlds that found something once: a failed sync while opening left no mark; after a rollback no messages were seen.
constexpr std::array<uint64_t, 4> kSeedsKept = {39, 57, 102, 198};
constexpr uint64_t kFailuresPrinted = 20;  // more of them teach nothing

struct Arguments {
  uint64_t cuts = 2'000;
  uint64_t faults = 500;
  uint64_t first = 0;
  uint64_t jobs = std::max(1U, std::thread::hardware_concurrency());
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
    } else if (holds("--jobs=")) {
      arguments.jobs = std::clamp<uint64_t>(number, 1, 64);
    } else if (holds("--seed=")) {
      arguments = {kCutsPerWorld, kFaultsPerWorld, number, 1};
    } else {
      std::fprintf(
          stderr,
          "power_cut_test: unknown argument %s; expected --cuts=N, --faults=N, --first=S, --jobs=N or --seed=S\n",
          argv[i]);
      return false;
    }
  }
  return true;
}

// Plain numbers: a shard hands them to its parent through a pipe.
struct Report {
  Tally full;
  Tally relaxed;
  FaultTally faults;
  FaultTally blind;

  void add(const Report& other) {
    full.add(other.full);
    relaxed.add(other.relaxed);
    faults.tally.add(other.faults.tally);
    blind.tally.add(other.blind.tally);
    faults.rescues += other.faults.rescues;
    for (size_t i = 0; i < kFaultKinds; ++i) faults.injected[i] += other.faults.injected[i];
  }
  [[nodiscard]] uint64_t failures() const {
    return full.failures() + faults.tally.failures() + relaxed.corrupt + relaxed.violations;
  }
  // A control arm that loses nothing says that this test could not have failed.
  [[nodiscard]] bool is_control_alive() const {
    const bool is_relaxed_alive = relaxed.points < kRelaxedPointsJudged || relaxed.lost > 0;
    return is_relaxed_alive && (blind.tally.points < kBlindPointsJudged || blind.tally.lost + blind.tally.corrupt > 0);
  }
};

void print(const Report& report, uint64_t first) {
  const Tally& full = report.full;
  const Tally& relaxed = report.relaxed;
  const Tally& faults = report.faults.tally;
  const Tally& blind = report.blind.tally;
  if (!report.is_control_alive()) std::printf("FAILED a control arm lost nothing: this test could not have failed\n");
  std::string kinds;
  for (size_t i = 1; i < kFaultKinds; ++i) {
    kinds += (i == 1 ? "" : ", ") + std::to_string(report.faults.injected[i]) + " " + kFaultNames[i];
  }
  std::printf("power cuts: %" PRIu64 ", lost %" PRIu64 ", corrupt %" PRIu64 "; control arm (relaxed): %" PRIu64
              ", lost %" PRIu64 ", corrupt %" PRIu64 "; disk faults: %" PRIu64 " lives (%s), lost %" PRIu64
              ", corrupt %" PRIu64 ", %" PRIu64 " rescues; control arm (without rescue): %" PRIu64
              ", lost or corrupt %" PRIu64 "; other failures %" PRIu64 "; from seed %" PRIu64 "\n",
              full.points, full.lost, full.corrupt, relaxed.points, relaxed.lost, relaxed.corrupt, faults.points,
              kinds.c_str(), faults.lost, faults.corrupt, report.faults.rescues, blind.points,
              blind.lost + blind.corrupt, full.violations + relaxed.violations + faults.violations, first);
}

// Every `jobs`th world from `first` on, until so many points are done.
Report run_worlds(const Arguments& arguments, const std::string& folder) {
  Report report;
  for (uint64_t seed = arguments.first; report.full.points < arguments.cuts; seed += arguments.jobs) {
    const uint64_t count = std::min(kCutsPerWorld, arguments.cuts - report.full.points);
    const uint64_t trace = run_power_cuts(seed, folder, Durability::kFull, count, report.full);
    if (seed % kTraceCheckEvery == 0 && run_power_cuts(seed, folder, Durability::kFull, 0, report.full) != trace) {
      std::printf("FAILED the same seed gave another trace\n  repeat with: power_cut_test --seed=%" PRIu64 "\n", seed);
      ++report.full.violations;
    }
    run_power_cuts(seed, folder, Durability::kRelaxed, std::min(count, kRelaxedCutsPerWorld), report.relaxed);
    if (report.failures() > kFailuresPrinted) break;
  }
  for (uint64_t seed = arguments.first; report.faults.tally.points < arguments.faults; seed += arguments.jobs) {
    const uint64_t count = std::min(kFaultsPerWorld, arguments.faults - report.faults.tally.points);
    run_disk_faults(seed, folder, false, count, report.faults);
    if (report.failures() > kFailuresPrinted) break;
  }
  for (uint64_t seed = arguments.first; report.blind.tally.points < arguments.faults / 4; seed += arguments.jobs) {
    const uint64_t count = std::min(kFaultsPerWorld, arguments.faults / 4 - report.blind.tally.points);
    run_disk_faults(seed, folder, true, count, report.blind);
  }
  return report;
}

// The disk is one for a process, so each shard of the worlds is a process of its own.
Report run_shards(const Arguments& arguments, const std::string& folder) {
  if (arguments.jobs == 1) return run_worlds(arguments, folder);
  Report report;
  std::vector<std::pair<pid_t, int>> shards;
  for (uint64_t i = 0; i < arguments.jobs; ++i) {
    const auto part = [&](uint64_t whole) { return whole / arguments.jobs + (i < whole % arguments.jobs ? 1 : 0); };
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    const pid_t child = fork();
    if (child == 0) {
      const std::string own = folder + "/" + std::to_string(i);
      std::filesystem::create_directory(own);
      const Report done =
          run_worlds({part(arguments.cuts), part(arguments.faults), arguments.first + i, arguments.jobs}, own);
      std::fflush(stdout);
      _exit(write(ends[1], &done, sizeof done) == static_cast<ssize_t>(sizeof done) ? 0 : 2);
    }
    close(ends[1]);
    shards.emplace_back(child, ends[0]);
  }
  for (const auto& [child, end] : shards) {
    Report part;
    const bool is_whole = read(end, &part, sizeof part) == static_cast<ssize_t>(sizeof part);
    close(end);
    waitpid(child, nullptr, 0);
    if (is_whole) {
      report.add(part);
    } else {
      std::printf("FAILED a shard ended early\n");
      ++report.full.violations;
    }
  }
  return report;
}

int run(const Arguments& arguments) {
  std::string folder = (std::filesystem::temp_directory_path() / "stepwell_power_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 2;
  Report report = run_shards(arguments, folder);
  if (arguments.faults >= kFaultsPerWorld * 10) {
    for (const uint64_t seed : kSeedsKept) report.add(run_worlds({0, kFaultsPerWorld, seed, 1}, folder));
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
