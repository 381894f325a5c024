// Operations of the disk fail under a store, one by one or from some point on, and perhaps the power; it is opened
// again until it works.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "faults/plan.h"

namespace stepwell::testing {

// By DiskFault::Kind.
constexpr size_t kFaultKinds = 6;
constexpr std::array<const char*, kFaultKinds> kFaultNames = {"no fault",  "write error (EIO)",  "short write",
                                                              "disk full", "failed fsync (EIO)", "power off"};
using Injected = std::array<uint64_t, kFaultKinds>;

struct FaultTally {
  Tally tally;
  uint64_t rescues = 0;
  Injected injected{};  // faults that were met
};

// `count` histories of the world of `seed`. Blind: the mark that asks for a rescue is always removed, as if a failed
// sync were nothing; this must go wrong, so its failures are counted and not printed.
void run_disk_faults(uint64_t seed, const std::string& folder, bool is_blind, uint64_t count, FaultTally& total);

}  // namespace stepwell::testing
