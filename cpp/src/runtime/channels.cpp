#include "runtime/channels.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

namespace stepwell::detail {

Channels::Channels(size_t count_max) : count_max_(count_max), pump_(std::make_shared<Channel>(count_max, -1)) {}

Result<ChannelId> Channels::open(int event_fd) {
  const std::lock_guard lock(mutex_);
  if (is_closed_) return Status(StatusKind::kClosed, code::kClosed, "the engine is closed");
  for (size_t number = 1; number < others_.size(); ++number) {
    if (others_[number]) continue;
    others_[number] = std::make_shared<Channel>(count_max_, event_fd);
    return static_cast<ChannelId>(number);
  }
  return Status(StatusKind::kBusy, code::kBusy,
                "an engine serves at most " + std::to_string(others_.size() - 1) + " event loops at once");
}

void Channels::close(ChannelId channel) {
  if (channel == 0) return;
  // Under the lock, as the signal is: afterwards nobody writes to the descriptor.
  const std::lock_guard lock(mutex_);
  others_[channel].reset();
}

void Channels::put(std::vector<Item>& items) {
  const auto other = [&items](ChannelId channel) {
    return std::stable_partition(items.begin(), items.end(),
                                 [channel](const Item& item) { return item.channel != channel; });
  };
  while (!items.empty()) {
    const ChannelId channel = items.back().channel;
    const auto begin = other(channel);
    if (begin == items.begin()) {  // mostly all are for one
      put_one(channel, items);
      items.clear();
      return;
    }
    std::vector<Item> part(std::make_move_iterator(begin), std::make_move_iterator(items.end()));
    items.erase(begin, items.end());
    put_one(channel, part);
  }
}

void Channels::put_one(ChannelId number, std::vector<Item>& items) {
  if (number == 0) {
    pump_put_ += items.size();
    pump_->box.put_all(items, /*force=*/true);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (const auto& channel = others_[number]) {
    channel->box.put_all(items, /*force=*/true);
    channel->signal();
  }
}

// One write until the taker has looked; what it takes then includes all that was put before.
void Channels::Channel::signal() {
  if (!is_signalled.exchange(true)) eventfd_write(event_fd, 1);
}

bool Channels::take(ChannelId number, std::vector<Item>& out, size_t count_max, int64_t timeout_ms) {
  if (number == 0) {
    pump_done_ += pump_taken_.exchange(0);
    const bool is_open = pump_->box.take(out, count_max, timeout_ms);
    pump_taken_ = out.size();
    return is_open;
  }
  std::shared_ptr<Channel> channel;
  {
    const std::lock_guard lock(mutex_);
    channel = others_[number];
    if (!channel) {
      out.clear();
      return false;
    }
    channel->is_signalled = false;  // first: what is put from here on signals again
    eventfd_t ignored = 0;
    eventfd_read(channel->event_fd, &ignored);
  }
  const bool is_open = channel->box.take(out, count_max, 0);
  if (out.size() == count_max) {  // there may be more
    const std::lock_guard lock(mutex_);
    if (others_[number] == channel) channel->signal();
  }
  return is_open;
}

void Channels::wake_pump() { pump_->box.wake(); }

void Channels::close_all() {
  pump_->box.close();
  const std::lock_guard lock(mutex_);
  is_closed_ = true;
  for (const auto& channel : others_) {
    if (!channel) continue;
    channel->box.close();
    channel->signal();
  }
}

size_t Channels::count() const { return pump_->box.count() + count_of_others(); }

size_t Channels::open_count() const {
  const size_t done =
      pump_done_;  // first: so that what is put and done meanwhile counts as open, never as less than none
  return pump_put_ - done + count_of_others();
}

size_t Channels::count_of_others() const {
  size_t sum = 0;
  const std::lock_guard lock(mutex_);
  for (const auto& channel : others_) sum += channel ? channel->box.count() : 0;
  return sum;
}

}  // namespace stepwell::detail
