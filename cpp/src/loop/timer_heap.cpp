#include "loop/timer_heap.h"

#include <utility>

namespace stepwell::detail {

TimerId TimerHeap::add(int64_t due_ms, MoveFunction<void()> task) {
  uint32_t slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  slots_[slot].task = std::move(task);
  slots_[slot].is_used = true;
  heap_.emplace_back();
  sift_up(heap_.size() - 1, Entry{due_ms, next_order_++, slot});
  return (uint64_t{slots_[slot].generation} << 32U) | (uint64_t{slot} + 1);
}

MoveFunction<void()> TimerHeap::remove(TimerId timer) {
  const uint64_t number = timer & 0xFFFFFFFFU;
  if (number == 0 || number > slots_.size()) return {};
  const Slot& slot = slots_[number - 1];
  if (!slot.is_used || slot.generation != timer >> 32U) return {};
  return take_at(slot.position);
}

MoveFunction<void()> TimerHeap::take_due(int64_t now_ms, uint64_t order_end) {
  if (heap_.empty() || heap_.front().due_ms > now_ms || heap_.front().order >= order_end) return {};
  return take_at(0);
}

MoveFunction<void()> TimerHeap::take_at(size_t position) {
  const uint32_t number = heap_[position].slot;
  Slot& slot = slots_[number];
  MoveFunction<void()> task = std::move(slot.task);
  slot.is_used = false;
  ++slot.generation;
  free_slots_.push_back(number);
  const Entry last = heap_.back();
  heap_.pop_back();
  if (position < heap_.size()) {
    const bool goes_up = position > 0 && is_earlier(last, heap_[(position - 1) / 2]);
    goes_up ? sift_up(position, last) : sift_down(position, last);
  }
  return task;
}

void TimerHeap::put(size_t position, const Entry& entry) {
  heap_[position] = entry;
  slots_[entry.slot].position = static_cast<uint32_t>(position);
}

void TimerHeap::sift_up(size_t position, const Entry& entry) {
  while (position > 0) {
    const size_t parent = (position - 1) / 2;
    if (!is_earlier(entry, heap_[parent])) break;
    put(position, heap_[parent]);
    position = parent;
  }
  put(position, entry);
}

void TimerHeap::sift_down(size_t position, const Entry& entry) {
  for (;;) {
    size_t child = 2 * position + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && is_earlier(heap_[child + 1], heap_[child])) ++child;
    if (!is_earlier(heap_[child], entry)) break;
    put(position, heap_[child]);
    position = child;
  }
  put(position, entry);
}

}  // namespace stepwell::detail
