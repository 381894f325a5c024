#include "loop/shifted_loop.h"

#include <algorithm>
#include <utility>

namespace stepwell {

ShiftedLoop::~ShiftedLoop() {
  if (armed_ != 0) beneath_.cancel(armed_);
}

TimerId ShiftedLoop::after(int64_t delay_ms, MoveFunction<void()> task) {
  const TimerId timer = timers_.add(now_ms() + std::max<int64_t>(delay_ms, 0), std::move(task));
  arm();
  return timer;
}

void ShiftedLoop::cancel(TimerId timer) {
  if (timers_.remove(timer)) arm();
}

void ShiftedLoop::jump(int64_t by_ms) {
  ahead_ms_ += by_ms;
  arm();
}

int64_t ShiftedLoop::next_in_ms() const {
  return timers_.is_empty() ? -1 : std::max<int64_t>(timers_.due_ms_min() - now_ms(), 0);
}

void ShiftedLoop::arm() {
  if (armed_ != 0) beneath_.cancel(std::exchange(armed_, 0));
  if (timers_.is_empty()) return;
  armed_ = beneath_.after(next_in_ms(), [this] { fire(); });
}

void ShiftedLoop::fire() {
  armed_ = 0;
  const int64_t now = now_ms();
  const uint64_t order_end = timers_.next_order();
  while (MoveFunction<void()> task = timers_.take_due(now, order_end)) task();
  arm();
}

}  // namespace stepwell
