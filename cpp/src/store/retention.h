// What a policy says of one run. Pure; any thread.
#pragma once

#include "stepwell/history.h"
#include "stepwell/retention.h"

namespace stepwell::detail {

enum class Fate : uint8_t { kKeep, kTrim, kDelete };

// `row` has ended.
Fate fate_of(const RetentionPolicy& policy, const RunRow& row, WallMs now);
// The shortest time that the policy names: no run younger than that is touched. -1: it names none.
int64_t shortest_ms(const RetentionPolicy& policy);

}  // namespace stepwell::detail
