// Channels: where items wait for the host. Number 0 is the pump's; each of the others belongs to one asyncio loop of
// the host, whose eventfd becomes readable when there is something to take. The host closes its eventfd itself, after
// `close`.
//
// put is for the loop thread; everything else may be called from any thread.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/mailbox.h"
#include "stepwell/runtime.h"

namespace stepwell::detail {

class Channels {
 public:
  explicit Channels(size_t count_max);

  // kBusy when all numbers are taken.
  Result<ChannelId> open(int event_fd);
  // What waits in it is dropped, and what still comes for it too: its taker is gone.
  void close(ChannelId channel);
  // Distributes the items and leaves the vector empty.
  void put(std::vector<Item>& items);
  // As Mailbox::take. Without waiting for numbers other than 0. False once closed and empty.
  bool take(ChannelId channel, std::vector<Item>& out, size_t count_max, int64_t timeout_ms);
  void wake_pump();
  void close_all();
  size_t count() const;
  // The same, and what the pump has taken and not yet passed on: it has when it comes back for more.
  size_t open_count() const;

 private:
  struct Channel {
    Channel(size_t count_max, int fd) : box(count_max), event_fd(fd) {}
    void signal();
    Mailbox<Item> box;
    const int event_fd;  // -1: the pump's
    std::atomic<bool> is_signalled{false};
  };

  void put_one(ChannelId channel, std::vector<Item>& items);
  size_t count_of_others() const;

  const size_t count_max_;
  const std::shared_ptr<Channel> pump_;
  std::atomic<size_t> pump_put_{0};
  std::atomic<size_t> pump_done_{0};
  std::atomic<size_t> pump_taken_{0};  // with its last take
  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::array<std::shared_ptr<Channel>, 256> others_;
  bool is_closed_ = false;
};

}  // namespace stepwell::detail
