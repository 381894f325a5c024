// A queue's limits, and how several starts become one run. Plain values; any thread.
//
// Limits belong to the store and hold for all engines that share it; they may change while runs are under way. They
// count runs that are being driven: one that sleeps or waits for somebody in the store has given its place back.
#pragma once

#include <cstdint>
#include <string>

#include "stepwell/types.h"

namespace stepwell {

struct QueueLimits {
  int64_t in_flight_max = -1;        // runs driven at once, over all engines; -1: no limit
  int64_t group_in_flight_max = -1;  // runs of one group driven at once; -1: no limit
  int64_t rate_count = 0;            // at most so many are taken up in any period of rate_period_ms; 0: no limit
  int64_t rate_period_ms = 0;
  bool is_fair = false;    // groups take turns; otherwise the oldest run goes first
  bool is_paused = false;  // nothing is taken up
  [[nodiscard]] bool has_groups() const { return group_in_flight_max >= 0 || is_fair; }
  [[nodiscard]] bool is_any() const { return in_flight_max >= 0 || rate_count > 0 || is_paused || has_groups(); }
  friend bool operator==(const QueueLimits&, const QueueLimits&) = default;
};

struct QueueView {
  QueueLimits limits;
  int64_t queued_count = 0;   // waiting for a worker, those held back by their group's limit included
  int64_t held_count = 0;     // of these, held back by their group's limit
  int64_t running_count = 0;  // leased
};

// How a start meets an earlier one with the same `key` (of the same workflow and kind), if that can still take it in.
enum class CollapseKind : uint8_t {
  kNone = 0,
  kDebounce = 1,   // into one that has not begun: it gets the new input, and waits anew
  kSingleton = 2,  // into one that has not ended: nothing changes
  kBatch = 3,      // into one that has not begun and holds fewer than count_max items: inputs are JSON arrays, joined
};

struct Collapse {
  CollapseKind kind = CollapseKind::kNone;
  std::string key;
  int64_t wait_ms_max = -1;  // kDebounce: so long after its creation a run is not put off any more; -1: for ever
  int64_t count_max = 0;     // kBatch: a run that is full begins at once
};

// A small named value of the application, kept beside the runs: schedules, definitions. Not for payloads.
struct Document {
  std::string kind;
  std::string name;
  int64_t version = 0;  // counts the changes, from 1; 0: there is none
  WallMs at = 0;
  std::string body;
};

}  // namespace stepwell
