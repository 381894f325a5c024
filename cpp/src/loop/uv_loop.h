// UvLoop: the loop of a process, on libuv. Also the one Poller.
//
// May be opened and destroyed on any thread, as long as run() is not under way; the thread that calls run() is the loop
// thread. Before run() the opening thread may use it (start timers, watch sockets): nothing is served until then.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "stepwell/function.h"
#include "stepwell/loop.h"
#include "stepwell/status.h"

namespace stepwell {

class UvLoop final : public Loop, public Poller {
 public:
  // kIo when the process is out of descriptors or memory.
  static Result<std::unique_ptr<UvLoop>> open();

  UvLoop(const UvLoop&) = delete;
  UvLoop& operator=(const UvLoop&) = delete;
  // Tasks, timers and watches that are left are destroyed, not run. Sockets are not closed. Waits briefly for a name
  // that is being resolved, then leaves the resolver's thread alone with what it needs.
  ~UvLoop() override;

  [[nodiscard]] int64_t now_ms() const override;
  [[nodiscard]] WallMs wall_ms() const override;
  void post(MoveFunction<void()> task) override;
  TimerId after(int64_t delay_ms, MoveFunction<void()> task) override;
  void cancel(TimerId timer) override;
  void expect_post(int64_t patience_us) override;
  // Blocks SIGPIPE on this thread: a peer that hangs up must not end the host's process. Stays stopped after stop().
  void run() override;
  void stop() override;

  Status watch(int fd, unsigned events, MoveFunction<void(unsigned events)> ready) override;
  void unwatch(int fd) override;
  void resolve(const std::string& host, MoveFunction<void(Result<std::vector<std::string>>)> done) override;

 private:
  struct Parts;
  explicit UvLoop(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace stepwell
