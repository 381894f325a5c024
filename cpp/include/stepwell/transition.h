// A transition: what is kept at once or not at all. Data, not SQL; plain values, any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "stepwell/budget.h"
#include "stepwell/history.h"
#include "stepwell/queue.h"
#include "stepwell/status.h"
#include "stepwell/types.h"

namespace stepwell {

// A run to create. `key` is unique within `workflow` when not empty; `fingerprint` decides whether a second start with
// the same key is the same request (attach) or another one (kConflict, code::kKeyConflict).
struct NewRun {
  std::string workflow;
  std::string queue;
  std::string key;
  uint64_t fingerprint = 0;
  Payload input;
  // Not 0: the run is created already leased by this owner (token 1), saving the claim; in a queue with limits it is
  // queued all the same.
  OwnerId claimed_by = 0;
  int32_t priority = 0;
  WallMs wake_at = -1;  // not before then: the run is created waiting
  WallMs deadline_at = -1;
  RunId parent = 0;
  std::string parent_step;
  std::string version;
  std::vector<Event> events;  // a fork: what another run had recorded, as if this one had
  std::string group;          // whom the queue's limits a group and its turns count; empty: nobody
  Collapse collapse;          // with no key, and never together with claimed_by
  WallMs sla_at = -1;         // a run that has not ended by then gets one kSlaBreached event; -1: none
  int64_t sla_ms = -1;        // how long that was, for the event
  std::string breach_flow;    // the workflow that is started with that event's payload; empty: none
  std::string budgets;        // which budgets its calls count against, as the application names them; children inherit
};

// A run that a step brings into being; both are kept or neither. A key that is known makes it nothing.
struct Creation {
  RunId run = 0;
  NewRun request;
};

// Leaves the lease and memory. Unless somebody has sent a message that the run's driver did not know of: then the run
// is queued again at once.
struct Park {
  WallMs wake_at = -1;
  int64_t message_count_known = 0;  // not yet taken ones
  bool is_paused = false;           // only a message "resume" or "cancel" wakes it
};

struct RunEnd {
  RunStatus status = RunStatus::kSucceeded;  // a final one
  Payload payload;                           // result or error
};

// "Apply this atomically": to create a run, or to append events to a leased one and perhaps end it.
// For an existing run it is fenced by `token` (kFenced if the run's token differs or the run is final) and idempotent
// by `first_seq`: events the store already has are not appended twice.
struct Transition {
  RunId run = 0;
  LeaseToken token = 0;
  int64_t first_seq = 0;  // sequence number of events[0]; the row's event_count before this transition
  WallMs at = 0;
  std::vector<Event> events;
  std::optional<RunEnd> end;
  bool release = false;  // give the lease back: the run is queued again
  std::optional<Park> park;
  int32_t claims = -1;              // of a leased run: how often it counts as taken up; -1: as the claim counted
  std::vector<int64_t> taken;       // ids of messages to this run that its events answer
  std::vector<Message> messages;    // to other runs; those that have ended take none
  std::vector<Creation> creations;  // children, and what the step sent to queues
  std::vector<StreamPart> parts;    // of streams
  std::vector<Spend> spends;        // applied with the events, and like them once
  std::unique_ptr<NewRun> create;
  // Instead of all that: a message from outside to `run`, which needs no lease. kNotFound for an unknown run,
  // kConflict for one that has ended, kBusy when it has too many. A known key is answered ok.
  std::unique_ptr<Message> message;
  // Or: a document to keep, which needs no run. Its version says which one it replaces (0: none, -1: whichever there
  // is; kConflict otherwise); an empty body deletes.
  std::unique_ptr<Document> document;
  std::unique_ptr<BudgetChange> budget;  // or: a change of an account
  // With spends, an end or a change of an account: from here on, kBudgetWakeCountMax ids for messages of the store.
  int64_t wake_id = 0;
};

// One answer a transition. For a creation that met an existing run, by its key with the same fingerprint or by its
// collapse, `attached` holds that run.
struct CommitAnswer {
  Status status;
  std::unique_ptr<RunRow> attached;
  bool is_known = false;       // the message's key had been used: this one was dropped
  bool is_queued = false;      // a creation with claimed_by: its queue has limits, so it waits for a claim
  BudgetRefusal refusal;       // of the spends
  std::vector<Message> woken;  // calls that budgets have room for now: the store has sent these
  std::string wakes_more;      // a budget that has room for more than one transition wakes
};

}  // namespace stepwell
