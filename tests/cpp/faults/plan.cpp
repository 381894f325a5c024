// Draws a world from its seed.
#include "faults/plan.h"

#include "base/random.h"

namespace stepwell::testing {

uint64_t mix(uint64_t seed, uint64_t salt) {
  uint64_t state = seed * 0x9E3779B97F4A7C15ULL + salt;
  return detail::next_random(state);
}

int64_t pick(uint64_t& random, int64_t bound) { return detail::random_up_to(random, bound - 1); }

Plan::Plan(uint64_t seed, const std::string& folder) : first(mix(seed, 1), WorkShape{}) {
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

}  // namespace stepwell::testing
