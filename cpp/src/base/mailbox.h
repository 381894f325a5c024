// Mailbox: a bounded queue between threads. Full answers false (the caller says Busy); it never grows past its bound
// and a producer never waits. One of the few places with a mutex.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace stepwell::detail {

template <typename T>
class Mailbox {
 public:
  explicit Mailbox(size_t count_max) : count_max_(count_max) {}

  // Appends one message and wakes a taker. `force` ignores the bound: for answers to work that was admitted before.
  bool put(T message, bool force = false) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_ || (!force && waiting() >= count_max_)) return false;
      messages_.push_back(std::move(message));
    }
    ready_.notify_one();
    return true;
  }

  // Appends all of `messages` or none; `force` as above.
  bool put_all(std::vector<T>& messages, bool force = false) {
    if (messages.empty()) return true;
    {
      const std::lock_guard lock(mutex_);
      if (closed_ || (!force && waiting() + messages.size() > count_max_)) return false;
      if (messages_.empty()) {
        messages_.swap(messages);
      } else {
        messages_.insert(messages_.end(), std::make_move_iterator(messages.begin()),
                         std::make_move_iterator(messages.end()));
      }
    }
    messages.clear();
    ready_.notify_one();
    return true;
  }

  // Takes up to `taken_max` messages into `out` (cleared first); waits up to `timeout_ms` for the first (-1: without
  // end). Returns false once closed and empty.
  bool take(std::vector<T>& out, size_t taken_max, int64_t timeout_ms) {
    out.clear();
    std::unique_lock lock(mutex_);
    const auto is_ready = [this] { return !messages_.empty() || closed_ || woken_; };
    if (timeout_ms < 0) {
      ready_.wait(lock, is_ready);
    } else if (timeout_ms > 0) {
      ready_.wait_for(lock, std::chrono::milliseconds(timeout_ms), is_ready);
    }
    woken_ = false;
    if (messages_.empty()) return !closed_;
    if (taken_count_ == 0 && messages_.size() <= taken_max) {
      out.swap(messages_);
      return true;
    }
    const auto begin = messages_.begin() + static_cast<std::ptrdiff_t>(taken_count_);
    const size_t count = waiting() < taken_max ? waiting() : taken_max;
    out.assign(std::make_move_iterator(begin), std::make_move_iterator(begin + static_cast<std::ptrdiff_t>(count)));
    taken_count_ += count;
    drop_taken();
    return true;
  }

  // Looks for a message for up to `patience` before a take that would sleep, giving the core between two looks to
  // whoever wants it.
  void look(std::chrono::microseconds patience) const {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (count() == 0 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  }

  // Makes a waiting take return.
  void wake() {
    {
      const std::lock_guard lock(mutex_);
      woken_ = true;
    }
    ready_.notify_all();
  }

  // Refuses further messages; what is inside can still be taken.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

  size_t count() const {
    const std::lock_guard lock(mutex_);
    return waiting();
  }

 private:
  size_t waiting() const { return messages_.size() - taken_count_; }

  // The taken front is only erased once it is the larger part: each message is moved at most once more, however long
  // the backlog. An empty mailbox has no taken front.
  void drop_taken() {
    if (taken_count_ == messages_.size()) {
      messages_.clear();
      taken_count_ = 0;
    } else if (taken_count_ > messages_.size() / 2) {
      messages_.erase(messages_.begin(), messages_.begin() + static_cast<std::ptrdiff_t>(taken_count_));
      taken_count_ = 0;
    }
  }

  const size_t count_max_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  // Protected by mutex_.
  std::vector<T> messages_;
  size_t taken_count_ = 0;
  bool closed_ = false;
  bool woken_ = false;
};

}  // namespace stepwell::detail
