#include "store/queue_line.h"

#include <algorithm>

namespace stepwell::detail {

bool QueueLine::has_room(const std::string& group) const {
  if (group.empty() || !limits_.has_groups()) return true;
  const auto found = groups_.find(group);
  if (found == groups_.end()) return limits_.group_in_flight_max != 0;
  const Group& counts = found->second;
  const bool is_within = limits_.group_in_flight_max < 0 || counts.ready + counts.leased < limits_.group_in_flight_max;
  return is_within && (!limits_.is_fair || counts.ready < kFairReadyMax);
}

bool QueueLine::may_lease(const std::string& group) const {
  if (group.empty() || limits_.group_in_flight_max < 0) return true;
  const auto found = groups_.find(group);
  return limits_.group_in_flight_max > (found == groups_.end() ? 0 : found->second.leased);
}

int64_t QueueLine::claimable(int64_t count_max, WallMs now, WallMs& more_at) {
  more_at = -1;
  if (limits_.is_paused) return 0;
  if (limits_.in_flight_max >= 0) count_max = std::min(count_max, limits_.in_flight_max - leased_count_);
  if (count_max <= 0 || limits_.rate_count <= 0) return std::max<int64_t>(count_max, 0);
  while (!starts_.empty() && starts_.front().first + limits_.rate_period_ms <= now) {
    started_count_ -= starts_.front().second;
    starts_.pop_front();
  }
  const int64_t left = std::max<int64_t>(limits_.rate_count - started_count_, 0);
  // If none has been taken up yet, this claim's own will be the first to be forgotten.
  if (left < count_max) more_at = (starts_.empty() ? now : starts_.front().first) + limits_.rate_period_ms;
  return std::min(count_max, left);
}

void QueueLine::count_started(WallMs at, int64_t count) {
  if (limits_.rate_count <= 0 || count <= 0) return;
  started_count_ += count;
  if (!starts_.empty() && starts_.back().first == at) {
    starts_.back().second += count;
  } else {
    starts_.emplace_back(at, count);
  }
}

void QueueLine::count_ready(const std::string& group, int64_t count, int64_t turn) {
  last_turn_ = std::max(last_turn_, turn);
  if (group.empty() || !limits_.has_groups()) return;
  groups_[group].ready += count;
  forget_if_empty(group);
}

void QueueLine::count_leased(const std::string& group, int64_t count) {
  leased_count_ += count;
  if (group.empty() || !limits_.has_groups()) return;
  groups_[group].leased += count;
  forget_if_empty(group);
}

void QueueLine::count_held(const std::string& group, int64_t count) {
  held_count_ += count;
  groups_[group].held += count;
  forget_if_empty(group);
}

void QueueLine::forget_if_empty(const std::string& group) {
  const auto found = groups_.find(group);
  const Group& counts = found->second;
  if (counts.ready <= 0 && counts.leased <= 0 && counts.held <= 0) groups_.erase(found);
}

bool QueueLine::is_held(const std::string& group) const {
  const auto found = groups_.find(group);
  return found != groups_.end() && found->second.held > 0;
}

std::vector<std::string> QueueLine::held_groups() const {
  std::vector<std::string> names;
  for (const auto& [name, counts] : groups_) {
    if (counts.held > 0) names.push_back(name);
  }
  std::sort(names.begin(), names.end());  // the same order in every store
  return names;
}

}  // namespace stepwell::detail
