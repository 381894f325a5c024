// TestLoop: a loop without libuv, for the tests of adapters. The thread that calls run or run_until is the loop thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "stepwell/loop.h"

namespace stepwell::testing {

class TestLoop : public Loop {
 public:
  [[nodiscard]] int64_t now_ms() const override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  [[nodiscard]] WallMs wall_ms() const override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  }

  void post(MoveFunction<void()> task) override {
    {
      const std::lock_guard lock(mutex_);
      if (stopped_) return;
      tasks_.push_back(std::move(task));
    }
    ready_.notify_one();
  }

  TimerId after(int64_t delay_ms, MoveFunction<void()> task) override {
    const TimerId timer = ++last_timer_;
    timers_.emplace(std::make_pair(now_ms() + delay_ms, timer), std::move(task));
    return timer;
  }

  void cancel(TimerId timer) override {
    std::erase_if(timers_, [timer](const auto& entry) { return entry.first.second == timer; });
  }

  void run() override {
    run_until([] { return false; }, -1);
  }

  void stop() override {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    ready_.notify_one();
  }

  // Serves until `is_done` holds, checked after each batch of tasks. False when `patience_ms` (-1: endless) passed
  // first.
  template <typename IsDone>
  bool run_until(IsDone is_done, int64_t patience_ms = 20'000) {
    const int64_t deadline = now_ms() + patience_ms;
    while (!is_done()) {
      std::deque<MoveFunction<void()>> batch;
      {
        std::unique_lock lock(mutex_);
        const auto has_work = [this] { return !tasks_.empty() || stopped_; };
        if (timers_.empty() && patience_ms < 0) {
          ready_.wait(lock, has_work);
        } else {
          const int64_t next = timers_.empty() ? deadline : timers_.begin()->first.first;
          const int64_t until = patience_ms < 0 ? next : std::min(next, deadline);
          ready_.wait_for(lock, std::chrono::milliseconds(std::max<int64_t>(until - now_ms(), 0)), has_work);
        }
        if (stopped_) return is_done();
        batch.swap(tasks_);
      }
      for (auto& task : batch) task();
      while (!timers_.empty() && timers_.begin()->first.first <= now_ms()) {
        auto timer = timers_.extract(timers_.begin());
        timer.mapped()();
      }
      if (patience_ms >= 0 && now_ms() >= deadline) return is_done();
    }
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<MoveFunction<void()>> tasks_;  // protected by mutex_
  bool stopped_ = false;                    // protected by mutex_
  std::map<std::pair<int64_t, TimerId>, MoveFunction<void()>> timers_;
  TimerId last_timer_ = 0;
};

}  // namespace stepwell::testing
