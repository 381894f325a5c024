// SplitMix64 (Steele, Lea, Flood 2014): a seeded generator of one word of state, so that a seed reproduces a run.
// Not for secrets.
#pragma once

#include <cstdint>

namespace stepwell::detail {

inline uint64_t next_random(uint64_t& state) {
  state += 0x9E3779B97F4A7C15ULL;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// Uniform in [0, bound]; the bias of the modulus is far below what a back-off notices.
inline int64_t random_up_to(uint64_t& state, int64_t bound) {
  return bound <= 0 ? 0 : static_cast<int64_t>(next_random(state) % (static_cast<uint64_t>(bound) + 1));
}

}  // namespace stepwell::detail
