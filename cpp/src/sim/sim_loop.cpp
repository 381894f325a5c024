#include "sim/sim_loop.h"

#include "base/random.h"

namespace stepwell::sim {

int64_t SimClock::draw(int64_t bound) { return detail::random_up_to(random_state_, bound); }

TimerId SimClock::schedule(ProcessId process, int64_t delay_ms, bool is_post, MoveFunction<void()> task) {
  const TimerId timer = next_timer_++;
  const uint64_t shuffle = is_post ? 0 : 1 + (detail::next_random(random_state_) >> 1U);
  const Due due{now_ms_ + (delay_ms > 0 ? delay_ms : 0), {shuffle, order_++}};
  timers_.emplace(timer, due);
  due_.emplace(due, Entry{process, timer, std::move(task)});
  return timer;
}

void SimClock::cancel(TimerId timer) {
  const auto found = timers_.find(timer);
  if (found == timers_.end()) return;
  due_.erase(found->second);
  timers_.erase(found);
}

void SimClock::kill(ProcessId process) {
  for (auto entry = due_.begin(); entry != due_.end();) {
    if (entry->second.process == process) {
      timers_.erase(entry->second.timer);
      entry = due_.erase(entry);
    } else {
      ++entry;
    }
  }
  paused_until_.erase(process);
}

bool SimClock::step(int64_t until_ms) {
  while (!due_.empty() && due_.begin()->first.first <= until_ms) {
    auto node = due_.extract(due_.begin());
    now_ms_ = std::max(now_ms_, node.key().first);
    const auto paused = paused_until_.find(node.mapped().process);
    if (paused != paused_until_.end() && paused->second > now_ms_) {
      node.key().first = paused->second;
      timers_[node.mapped().timer] = node.key();
      due_.insert(std::move(node));
      continue;
    }
    Entry entry = std::move(node.mapped());
    timers_.erase(entry.timer);
    digest_ = digest_ * 1'099'511'628'211ULL ^ static_cast<uint64_t>(now_ms_) ^ (entry.timer << 20U);
    entry.task();
    return true;
  }
  now_ms_ = std::max(now_ms_, until_ms);
  return false;
}

void SimClock::run_for(int64_t ms) {
  const int64_t until = now_ms_ + ms;
  while (step(until)) {
  }
}

}  // namespace stepwell::sim
