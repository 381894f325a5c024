// Plan: what a seed's world does, and how the results of many are counted.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "faults/seeded_work.h"
#include "store/sqlite_store.h"

namespace stepwell::testing {

struct Tally {
  uint64_t points = 0;
  uint64_t lost = 0;
  uint64_t corrupt = 0;
  uint64_t violations = 0;  // anything else that must not be

  [[nodiscard]] uint64_t failures() const { return lost + corrupt + violations; }
  void add(const Tally& other) {
    points += other.points;
    lost += other.lost;
    corrupt += other.corrupt;
    violations += other.violations;
  }
};

enum class Verdict : uint8_t { kKept, kLost, kCorrupt };

// A number of the seed's own, for each salt.
uint64_t mix(uint64_t seed, uint64_t salt);
// In [0, bound).
int64_t pick(uint64_t& random, int64_t bound);

// The works of a seed, each with runs of its own, and how the store is set up.
struct Plan {
  Plan(uint64_t seed, const std::string& folder);

  SeededWork first;
  std::vector<std::unique_ptr<SeededWork>> later;
  SqliteOptions options;
};

}  // namespace stepwell::testing
