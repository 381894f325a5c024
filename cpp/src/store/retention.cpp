#include "store/retention.h"

#include <algorithm>

namespace stepwell::detail {

namespace {

int64_t time_for(const RetentionTimes& times, RunStatus status) {
  switch (status) {
    case RunStatus::kFailed:
      return times.failed_ms;
    case RunStatus::kDead:
      return times.dead_ms;
    default:
      return times.finished_ms;
  }
}

}  // namespace

Fate fate_of(const RetentionPolicy& policy, const RunRow& row, WallMs now) {
  const auto own = policy.by_workflow.find(row.workflow);
  const int64_t time = time_for(own == policy.by_workflow.end() ? policy.times : own->second, row.status);
  if (time < 0 || now - row.finished_at < time) return Fate::kKeep;
  return row.key.empty() || now - row.created_at >= policy.key_ms ? Fate::kDelete : Fate::kTrim;
}

int64_t shortest_ms(const RetentionPolicy& policy) {
  int64_t shortest = -1;
  const auto add = [&shortest](const RetentionTimes& times) {
    for (const int64_t time : {times.finished_ms, times.failed_ms, times.dead_ms}) {
      if (time >= 0) shortest = shortest < 0 ? time : std::min(shortest, time);
    }
  };
  add(policy.times);
  for (const auto& [workflow, times] : policy.by_workflow) add(times);
  return shortest;
}

}  // namespace stepwell::detail
