// SimLoop: the loop's twin with virtual time. One thread; what is due at the same instant runs in an order drawn from
// the seed.
//
// A SimProcess is one simulated process on that world clock: it can be paused (SIGSTOP) and killed (SIGKILL), which no
// real loop could do to itself. Tasks of a killed process vanish, tasks of a paused one wait.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "stepwell/loop.h"

namespace stepwell::sim {

using ProcessId = int32_t;

class SimClock {
 public:
  explicit SimClock(uint64_t seed) : random_state_(seed) {}

  int64_t now_ms() const { return now_ms_; }
  // A number of the world's seed, uniform in [0, bound].
  int64_t draw(int64_t bound);
  bool chance(int64_t percent) { return draw(99) < percent; }

  TimerId schedule(ProcessId process, int64_t delay_ms, bool is_post, MoveFunction<void()> task);
  void cancel(TimerId timer);
  void kill(ProcessId process);
  void pause(ProcessId process, int64_t until_ms) { paused_until_[process] = until_ms; }
  // Runs the next task; false when there is none up to `until_ms` (the clock then stands there).
  bool step(int64_t until_ms);
  // Runs all that is due within the next `ms`.
  void run_for(int64_t ms);
  // A digest of all that ran so far: the same seed must give the same digest.
  uint64_t digest() const { return digest_; }

 private:
  struct Entry {
    ProcessId process;
    TimerId timer;
    MoveFunction<void()> task;
  };
  // Posts keep their order; timers due together are shuffled by the middle key.
  using Due = std::pair<int64_t, std::pair<uint64_t, uint64_t>>;

  uint64_t random_state_;
  int64_t now_ms_ = 1'000;
  uint64_t order_ = 0;
  TimerId next_timer_ = 1;
  uint64_t digest_ = 0;
  std::map<Due, Entry> due_;
  std::unordered_map<TimerId, Due> timers_;
  std::unordered_map<ProcessId, int64_t> paused_until_;
};

class SimLoop final : public Loop {
 public:
  SimLoop(SimClock& clock, ProcessId process) : clock_(clock), process_(process) {}

  [[nodiscard]] int64_t now_ms() const override { return clock_.now_ms(); }
  [[nodiscard]] WallMs wall_ms() const override { return 1'750'000'000'000 + clock_.now_ms(); }
  void post(MoveFunction<void()> task) override { clock_.schedule(process_, 0, true, std::move(task)); }
  TimerId after(int64_t delay_ms, MoveFunction<void()> task) override {
    return clock_.schedule(process_, delay_ms, false, std::move(task));
  }
  void cancel(TimerId timer) override { clock_.cancel(timer); }
  void run() override {}  // the world drives the clock
  void stop() override {}

 private:
  SimClock& clock_;
  ProcessId process_;
};

}  // namespace stepwell::sim
