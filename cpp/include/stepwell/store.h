// The store: where runs and their histories are kept. Eight functions; a transition is data, not SQL.
//
// MemoryStore (nothing survives), SqliteStore (one file, one process, group commit), SimStore (wraps one, injects
// faults). Every function is called on the loop thread and returns at once; its completion arrives later on the loop
// thread, never inside the call, and completions come in the order of the calls. A store that failed to write (kIo)
// refuses every later write with the same status: nothing is acknowledged that was not kept.
//
// Durability: SqliteStore with Durability::kFull has synced the file (fdatasync of the WAL) before a commit completes;
// kRelaxed survives a crash of the process but may lose the last moments at a power cut, never older ones.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "stepwell/function.h"
#include "stepwell/history.h"
#include "stepwell/status.h"
#include "stepwell/types.h"

namespace stepwell {

enum class Durability : uint8_t { kFull, kRelaxed };

// A run to create. `key` is unique within `workflow` when not empty; `fingerprint` decides whether a second start with
// the same key is the same request (attach) or another one (kConflict, code::kKeyConflict).
struct NewRun {
  std::string workflow;
  std::string queue;
  std::string key;
  uint64_t fingerprint = 0;
  Payload input;
  // Not 0: the run is created already leased by this owner (token 1), saving the claim.
  OwnerId claimed_by = 0;
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
  std::unique_ptr<NewRun> create;
};

// One answer a transition. For a keyed creation that met an existing run with the same fingerprint, `attached` holds
// that run and nothing was written.
struct CommitAnswer {
  Status status;
  std::unique_ptr<RunRow> attached;
};

struct ClaimRequest {
  std::string queue;
  int32_t count_max = 0;
  OwnerId owner = 0;
  WallMs now = 0;
  WallMs lease_until = 0;
};

struct FindRequest {
  RunId run = 0;         // either this,
  std::string workflow;  // or a workflow with key, or a workflow alone (newest first)
  std::string key;
  int64_t count_max = 1;
  bool with_events = false;
};

using CommitDone = MoveFunction<void(std::vector<CommitAnswer>)>;
using ClaimDone = MoveFunction<void(Result<std::vector<RunHistory>>)>;
using StatusDone = MoveFunction<void(Status)>;
using FindDone = MoveFunction<void(Result<std::vector<RunHistory>>)>;

class Store {
 public:
  virtual ~Store() = default;

  // Applies each transition atomically, in order; each has its own answer. Many calls may share one disk sync.
  virtual void commit(std::vector<Transition> transitions, CommitDone done) = 0;
  // Leases up to count_max queued runs (oldest first) and runs whose lease ended, with their events: token + 1, claims
  // + 1.
  virtual void claim(ClaimRequest request, ClaimDone done) = 0;
  // One run with its events; kNotFound when there is none.
  virtual void load(RunId run, MoveFunction<void(Result<RunHistory>)> done) = 0;
  // Extends every lease of `owner` to `until`.
  virtual void renew(OwnerId owner, WallMs until, StatusDone done) = 0;
  // Queued runs of `queue`, for depth and wake-up.
  virtual void depth(const std::string& queue, MoveFunction<void(Result<int64_t>)> done) = 0;
  virtual void find(FindRequest request, FindDone done) = 0;
  // `changed` runs on the loop thread when another process may have queued work. Stores of one process never call it.
  virtual void watch(MoveFunction<void()> changed) = 0;
  // Finishes what was accepted, then completes; later calls answer kClosed.
  virtual void close(StatusDone done) = 0;
};

}  // namespace stepwell
