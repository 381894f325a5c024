// TimerHeap: any number of timers behind the loop's one. Adding, forgetting and firing cost O(log n); forgetting
// removes for good, because most timers are deadlines that never fire and must not pile up until they are due. Loop
// thread only. It knows no clock: times are the caller's milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "stepwell/function.h"
#include "stepwell/loop.h"

namespace stepwell::detail {

class TimerHeap {
 public:
  // Timers due at the same millisecond fire in the order they were added.
  TimerId add(int64_t due_ms, MoveFunction<void()> task);
  // The forgotten timer's task, for the caller to destroy when the heap is whole again; empty for unknown and fired
  // ids.
  MoveFunction<void()> remove(TimerId timer);

  [[nodiscard]] bool is_empty() const { return heap_.empty(); }
  // Requires a timer.
  [[nodiscard]] int64_t due_ms_min() const { return heap_.front().due_ms; }
  // Timers added from now on have this order or a later one.
  [[nodiscard]] uint64_t next_order() const { return next_order_; }
  // Takes the earliest task that is due at `now_ms` and was added before `order_end`; empty when there is none. The
  // bound keeps a timer that renews itself with no delay from holding the loop.
  MoveFunction<void()> take_due(int64_t now_ms, uint64_t order_end);

 private:
  struct Entry {
    int64_t due_ms;
    uint64_t order;
    uint32_t slot;
  };
  struct Slot {
    MoveFunction<void()> task;
    uint32_t generation = 0;  // makes the id of a reused slot a new one
    uint32_t position = 0;    // in heap_, while in use
    bool is_used = false;
  };

  static bool is_earlier(const Entry& a, const Entry& b) {
    return a.due_ms != b.due_ms ? a.due_ms < b.due_ms : a.order < b.order;
  }
  void put(size_t position, const Entry& entry);
  void sift_up(size_t position, const Entry& entry);
  void sift_down(size_t position, const Entry& entry);
  MoveFunction<void()> take_at(size_t position);

  std::vector<Entry> heap_;  // a binary heap, the earliest first
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  uint64_t next_order_ = 0;
};

}  // namespace stepwell::detail
