// ShiftedLoop: another loop's thread with a time of its own, which can be moved forward. For users' tests.
//
// Loop thread only, except post, stop and ahead_ms. Timers started here follow its time; those started on the loop
// beneath do not notice a jump, so that sockets keep the time of their peers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "loop/timer_heap.h"
#include "stepwell/loop.h"

namespace stepwell {

class ShiftedLoop final : public Loop {
 public:
  // `beneath` must outlive this.
  ShiftedLoop(Loop& beneath, int64_t ahead_ms) : beneath_(beneath), ahead_ms_(ahead_ms) {}
  ShiftedLoop(const ShiftedLoop&) = delete;
  ShiftedLoop& operator=(const ShiftedLoop&) = delete;
  ~ShiftedLoop() override;

  [[nodiscard]] int64_t now_ms() const override { return beneath_.now_ms() + ahead_ms_; }
  [[nodiscard]] WallMs wall_ms() const override { return beneath_.wall_ms() + ahead_ms_; }
  void post(MoveFunction<void()> task) override { beneath_.post(std::move(task)); }
  TimerId after(int64_t delay_ms, MoveFunction<void()> task) override;
  void cancel(TimerId timer) override;
  void expect_post(int64_t patience_us) override { beneath_.expect_post(patience_us); }
  void run() override { beneath_.run(); }
  void stop() override { beneath_.stop(); }

  // Moves the time forward by `by_ms` (> 0); timers that are due then fire in later iterations.
  void jump(int64_t by_ms);
  // Until the next timer (0: it is due); -1 without one.
  [[nodiscard]] int64_t next_in_ms() const;
  // Any thread.
  [[nodiscard]] int64_t ahead_ms() const { return ahead_ms_; }

 private:
  void arm();
  void fire();

  Loop& beneath_;
  std::atomic<int64_t> ahead_ms_;
  detail::TimerHeap timers_;
  TimerId armed_ = 0;
};

}  // namespace stepwell
