// A run's events, in the order they happened: what was recorded, and therefore never runs again.
//
// The start (input) and the end (result or error) of a run live in its row, not in events: a run without steps costs
// one row. Events are appended, never changed. Plain values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stepwell/types.h"

namespace stepwell {

// The numbers are stored; they never change their meaning.
enum class EventKind : uint8_t {
  kStepSucceeded = 1,      // payload: the value
  kStepFailed = 2,         // payload: the error, after the last attempt
  kStepAttemptFailed = 3,  // payload: the error; another attempt follows
};

struct Event {
  EventKind kind = EventKind::kStepSucceeded;
  int32_t attempt = 1;  // from 1
  std::string step;     // identity: scope + name + occurrence, as the worker wrote it
  Payload payload;
  WallMs at = 0;
};

// One row of the store, as queries see it.
struct RunRow {
  RunId run = 0;
  RunStatus status = RunStatus::kQueued;
  LeaseToken token = 0;
  int32_t claims = 0;       // times it was handed to a worker; a crash leaves its mark here
  int64_t event_count = 0;  // the next event's sequence number
  std::string workflow;
  std::string queue;
  std::string key;  // empty: none
  Payload input;
  Payload result;  // the value, or the error once failed
  WallMs created_at = 0;
  WallMs finished_at = 0;
};

struct RunHistory {
  RunRow row;
  std::vector<Event> events;
};

}  // namespace stepwell
