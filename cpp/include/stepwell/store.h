// The store: where runs and their histories are kept. Fifteen functions; a transition is data, not SQL.
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
#include "stepwell/queue.h"
#include "stepwell/retention.h"
#include "stepwell/status.h"
#include "stepwell/transition.h"
#include "stepwell/types.h"

namespace stepwell {

enum class Durability : uint8_t { kFull, kRelaxed };

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
  bool is_failed = false;     // with a workflow alone, or with nothing: only kFailed and kDead
  bool is_breached = false;   // instead: only those with a kSlaBreached event
  RunId before = 0;           // of a list: only runs below this one, for the next page; 0: the newest
  bool with_payloads = true;  // inputs and results
};

struct ClaimAnswer {
  std::vector<RunHistory> runs;
  WallMs more_at = -1;      // when the queue's rate lets the next one through; -1: it does not hold anything back
  bool is_limited = false;  // the queue has limits: a place that becomes free may let another run through
};

struct DueAnswer {
  int64_t queued_count = 0;  // waiting runs that are queued now
  WallMs next_at = -1;       // when the next one is due; -1: none has a time
};

// A copy of the store in another file, made while commits go on: call after call with the same path, until is_finished.
struct BackupSlice {
  std::string path;
  int64_t page_count_max = 256;  // of 4 KiB, copied between two transactions
  bool is_given_up = false;      // the copy is not wanted any more
};

struct BackupProgress {
  int64_t done_count = 0;  // pages
  int64_t page_count = 0;
  bool is_finished = false;  // the file is whole, synced, and under its name
};

using CommitDone = MoveFunction<void(std::vector<CommitAnswer>)>;
using ClaimDone = MoveFunction<void(Result<ClaimAnswer>)>;
using StatusDone = MoveFunction<void(Status)>;
using FindDone = MoveFunction<void(Result<std::vector<RunHistory>>)>;
using DueDone = MoveFunction<void(Result<DueAnswer>)>;
using DocumentsDone = MoveFunction<void(Result<std::vector<Document>>)>;
using BudgetsDone = MoveFunction<void(Result<std::vector<BudgetRow>>)>;
using PruneDone = MoveFunction<void(Result<PruneAnswer>)>;
using BackupDone = MoveFunction<void(Result<BackupProgress>)>;
using MessagesDone = MoveFunction<void(Result<std::vector<Message>>)>;

class Store {
 public:
  virtual ~Store() = default;

  // Applies each transition atomically, in order; each has its own answer. Many calls may share one disk sync.
  virtual void commit(std::vector<Transition> transitions, CommitDone done) = 0;
  // Leases up to count_max queued runs (by priority, oldest first, as the queue's limits allow) and runs whose lease
  // ended, with their events, the messages that they have not taken and their streams: token + 1, claims + 1. Here as
  // in load and find, a payload that cannot be read is its row's `damage`, and no failure of the store.
  virtual void claim(ClaimRequest request, ClaimDone done) = 0;
  // Queues up to count_max waiting runs whose time has come by `now`.
  virtual void due(WallMs now, int64_t count_max, DueDone done) = 0;
  // The messages not yet taken by runs that `owner` leases, for stores that several engines share.
  virtual void messages(OwnerId owner, MessagesDone done) = 0;
  // One run with its events, messages and streams; kNotFound when there is none.
  virtual void load(RunId run, MoveFunction<void(Result<RunHistory>)> done) = 0;
  // Extends every lease of `owner` to `until`.
  virtual void renew(OwnerId owner, WallMs until, StatusDone done) = 0;
  virtual void look(const std::string& queue, MoveFunction<void(Result<QueueView>)> done) = 0;
  // Puts new limits in the place of the old ones, for runs that are queued already, too.
  virtual void set_limits(const std::string& queue, QueueLimits limits, StatusDone done) = 0;
  // All documents of a kind by name, or the one of that name.
  virtual void documents(const std::string& kind, const std::string& name, DocumentsDone done) = 0;
  // The account of that name and those below it ("NAME/..."), by name; with no name all, at most kBudgetListCountMax.
  virtual void budgets(const std::string& name, BudgetsDone done) = 0;
  virtual void find(FindRequest request, FindDone done) = 0;
  // Lets go of what the policy says, a slice at a time (see retention.h).
  virtual void prune(PruneRequest request, PruneDone done) = 0;
  // kInvalid for stores without a file; kConflict, code::kStoreTarget, when something of that name is there.
  virtual void backup(BackupSlice slice, BackupDone done) = 0;
  // `changed` runs on the loop thread when another engine may have queued work or sent a message. Stores of one engine
  // never call it.
  virtual void watch(MoveFunction<void()> changed) = 0;
  // Finishes what was accepted, then completes; later calls answer kClosed.
  virtual void close(StatusDone done) = 0;
};

}  // namespace stepwell
