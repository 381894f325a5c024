// The power is cut under a store at many points of its disk's log; each time it is opened again and looked through.
#pragma once

#include <cstdint>
#include <string>

#include "faults/plan.h"

namespace stepwell::testing {

// `count` points of the world of `seed`; they do not depend on how many there are. With relaxed durability losses are
// expected and only counted. Prints failures. Answers a digest of all that was done to the disk.
uint64_t run_power_cuts(uint64_t seed, const std::string& folder, Durability durability, uint64_t count, Tally& tally);

}  // namespace stepwell::testing
