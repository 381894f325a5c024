// A run's events, in the order they happened: what was recorded, and therefore never runs again.
//
// The start (input) and the end (result or error) of a run live in its row, not in events: a run without steps costs
// one row. Events are appended, never changed. Plain values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stepwell/status.h"
#include "stepwell/types.h"

namespace stepwell {

// The numbers are stored; they never change their meaning.
enum class EventKind : uint8_t {
  kStepSucceeded = 1,      // payload: the value
  kStepFailed = 2,         // payload: the error, after the last attempt
  kStepAttemptFailed = 3,  // payload: the error; another attempt follows
  kTimerSet = 4,           // a wait with a deadline began; payload: the wall time it is due, in decimal
  kChildStarted = 5,       // payload: the child's run id, in decimal
  kMismatch = 6,           // the code did not fit the history, and the run was paused; payload: the error that says how
  kSlaBreached = 7,        // of the step, or (no step) of the run; payload: what its breach_flow is told, as JSON
  kCallReserved = 8,       // an estimate was reserved for a call; payload: {usd (in picodollars), tokens, budgets}
  kCallHeld = 9,           // it was asked for, and a budget had no room: the call was not sent; payload: the same
  kCallSettled = 10,       // payload: {"as": "spent", "returned" or "doubt", usd, tokens, and "odd" with a reason}
};

// What somebody outside tells a run: a signal, a child's end, a request to cancel or pause. Kept until a wait takes it.
struct Message {
  int64_t id = 0;     // unique in the store and growing: the order in which a run takes them
  RunId to = 0;       // the run
  std::string topic;  // "signal:NAME", "child:STEP", "cancel", "pause", "resume"
  std::string key;    // not empty: a second message with it, to this run and topic, is dropped
  Payload payload;
  WallMs at = 0;
};

struct Event {
  EventKind kind = EventKind::kStepSucceeded;
  int32_t attempt = 1;  // from 1
  std::string step;     // identity: scope + name + occurrence, as the worker wrote it
  Payload payload;
  WallMs at = 0;  // when it was recorded: the attempt ended
  // Of an attempt, in milliseconds: how long it took, and how long it had waited before for a thread, a timer or a
  // place. -1: unknown.
  int64_t took_ms = -1;
  int64_t waited_ms = -1;
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
  int32_t priority = 0;     // smaller runs first
  WallMs wake_at = -1;      // kWaiting: when it goes on by itself; -1: only a message wakes it
  WallMs deadline_at = -1;  // it is ended as failed then; -1: none
  RunId parent = 0;         // told of its end with a message "child:STEP"; 0: none
  std::string parent_step;
  std::string version;  // of the code that it was started with
  std::string group;    // see NewRun
  WallMs sla_at = -1;   // see NewRun
  int64_t sla_ms = -1;
  std::string breach_flow;
  std::string budgets;  // see NewRun
  Status damage;        // not ok: payloads of it that were asked for cannot be read, and are empty; says which, and why
};

// What is kept of a step's stream until the step is recorded: the text so far. A generation is an answer that did not
// begin as the one before it; they count from 1.
struct KeptStream {
  std::string step;
  int64_t generation = 1;
  std::string text;
};

// More text of a step's stream, for readers outside and for the next life; see KeptStream. It follows what is kept of
// the step, or (offset 0) takes its place. The step's success lets go of it.
struct StreamPart {
  std::string step;
  int64_t generation = 1;
  int64_t offset = 0;  // in bytes
  std::string text;
};

struct RunHistory {
  RunRow row;
  std::vector<Event> events;
  std::vector<Message> messages;  // not yet taken, oldest first
  std::vector<KeptStream> streams;
};

}  // namespace stepwell
