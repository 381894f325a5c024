// QueueLine: what a queue with limits lets through. It counts; the store keeps the rows. Queues without limits have
// none.
//
// A run of a group stands in the ready line only while its group may take another one up; the others are held, group by
// group, and one is let in when a place becomes free. So a claim never looks at runs that may not be taken, however
// many there are. In a fair queue a group has few runs in the ready line, and each new one goes to its end: groups take
// turns.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "stepwell/queue.h"

namespace stepwell::detail {

// Of a fair queue, so many runs of one group may stand in the ready line.
inline constexpr int64_t kFairReadyMax = 4;

class QueueLine {
 public:
  explicit QueueLine(const QueueLimits& limits) : limits_(limits) {}

  [[nodiscard]] const QueueLimits& limits() const { return limits_; }
  // Whether one more run of `group` may stand in the ready line.
  [[nodiscard]] bool has_room(const std::string& group) const;
  // Whether a run of `group` that stands in the ready line may be taken up: limits may have shrunk since it came there.
  [[nodiscard]] bool may_lease(const std::string& group) const;
  // How many of `count_max` may be taken up now. 0 for the rate's sake: `more_at` says when that ends.
  [[nodiscard]] int64_t claimable(int64_t count_max, WallMs now, WallMs& more_at);
  // Where in the ready line a run goes: by age, or to the end.
  [[nodiscard]] int64_t turn_of(RunId run) {
    return last_turn_ = limits_.is_fair ? std::max(run, last_turn_ + 1) : run;
  }

  // Runs that come and go, by where they stand; `count` may be negative.
  void count_ready(const std::string& group, int64_t count, int64_t turn = 0);
  void count_leased(const std::string& group, int64_t count);
  void count_held(const std::string& group, int64_t count);
  // Runs were taken up at `at`. Counted only where there is a rate.
  void count_started(WallMs at, int64_t count);

  // New limits, the same queue: what was taken up lately still counts.
  void keep_starts_of(const QueueLine& other) {
    starts_ = other.starts_;
    started_count_ = other.started_count_;
  }

  [[nodiscard]] int64_t leased_count() const { return leased_count_; }
  [[nodiscard]] int64_t held_count() const { return held_count_; }
  // Groups that have runs held.
  [[nodiscard]] std::vector<std::string> held_groups() const;
  [[nodiscard]] bool is_held(const std::string& group) const;

 private:
  struct Group {
    int64_t ready = 0;
    int64_t leased = 0;
    int64_t held = 0;
  };
  void forget_if_empty(const std::string& group);

  QueueLimits limits_;
  int64_t leased_count_ = 0;
  int64_t held_count_ = 0;
  int64_t last_turn_ = 0;
  int64_t started_count_ = 0;
  std::unordered_map<std::string, Group> groups_;
  std::deque<std::pair<WallMs, int64_t>> starts_;  // those of the last period, oldest first
};

}  // namespace stepwell::detail
