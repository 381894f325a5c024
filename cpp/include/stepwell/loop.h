// The loop: one thread, its clock, its timers, and the one door through which other threads come in.
//
// UvLoop (libuv) in a process, SimLoop (virtual time, seeded order) in tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "stepwell/function.h"
#include "stepwell/status.h"
#include "stepwell/types.h"

namespace stepwell {

using TimerId = uint64_t;  // 0 is never a timer

// Eight functions. All of them are for the loop's own thread, except post and stop.
class Loop {
 public:
  virtual ~Loop() = default;

  // Monotonic milliseconds, for durations. May lag by the length of one loop iteration.
  [[nodiscard]] virtual int64_t now_ms() const = 0;
  // Milliseconds since 1970, only for what is persisted.
  [[nodiscard]] virtual WallMs wall_ms() const = 0;
  // Runs `task` on the loop thread, after this call. Any thread. Wake-ups coalesce; tasks are neither lost nor
  // reordered for one posting thread. After stop, tasks are dropped.
  virtual void post(MoveFunction<void()> task) = 0;
  // Runs `task` once, `delay_ms` (>= 0) from now, never inside this call.
  virtual TimerId after(int64_t delay_ms, MoveFunction<void()> task) = 0;
  // Forgets a timer; unknown and fired ids are ignored.
  virtual void cancel(TimerId timer) = 0;
  // A hint: another thread will post within microseconds, so for up to `patience_us` the loop had better look again
  // (sockets too) than sleep. Sleeping and waking cost 5 to 10 microseconds.
  virtual void expect_post(int64_t patience_us) { (void)patience_us; }
  // Serves until stop. The calling thread becomes the loop thread.
  virtual void run() = 0;
  // Makes run return after the current iteration. Any thread; idempotent.
  virtual void stop() = 0;
};

// What a socket is watched for; also what is reported, kError included.
enum PollEvent : unsigned { kPollRead = 1, kPollWrite = 2, kPollError = 4 };

// Sockets and names, for adapters that bring their own protocol (curl, hiredis). Loop thread only.
class Poller {
 public:
  virtual ~Poller() = default;

  // Reports events on `fd` until unwatch; watching again replaces events and callback. The callback is level-triggered
  // and may unwatch or watch from inside.
  virtual Status watch(int fd, unsigned events, MoveFunction<void(unsigned events)> ready) = 0;
  // Must be called before `fd` is closed: libuv aborts on a closed descriptor (libuv#1495).
  virtual void unwatch(int fd) = 0;
  // Resolves `host` to numeric addresses (IPv4 and IPv6, the system's order) off the loop thread; never answers inside
  // the call.
  virtual void resolve(const std::string& host, MoveFunction<void(Result<std::vector<std::string>>)> done) = 0;
};

}  // namespace stepwell
