// The door: one engine in a process, with its loop thread and its store thread.
//
// Python (or any other host) pulls batches of work with poll and pushes batches of reports with complete; the core
// never calls the host. Every function may be called from any thread; those that wait say so and must be called without
// the GIL. A forked child gets kClosed with code::kForked from all of them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "stepwell/call.h"
#include "stepwell/counters.h"
#include "stepwell/egress.h"
#include "stepwell/function.h"
#include "stepwell/history.h"
#include "stepwell/item.h"
#include "stepwell/limits.h"
#include "stepwell/retention.h"
#include "stepwell/status.h"
#include "stepwell/store.h"
#include "stepwell/test_world.h"
#include "stepwell/types.h"

namespace stepwell {

struct RuntimeOptions {
  std::string path;  // a SQLite file; empty: memory, nothing survives
  Durability durability = Durability::kFull;
  Limits limits;
  int64_t lease_ms = 30'000;  // renewed at a third of it, on the loop thread
  std::string ca_bundle;      // PEM file for TLS; empty: curl's own
  std::string proxy;          // empty: none; the environment is read by the caller, once
  std::string no_proxy;
  EgressPolicy egress;  // where calls may go
  int32_t connections_per_host_max = 8192;
  std::optional<TestWorld> test_world;               // for users' tests only
  std::shared_ptr<const RetentionPolicy> retention;  // none: nothing is ever deleted
};

struct StartRequest {
  NewRun run;
  uint64_t ticket = 0;  // not 0: a kRunFinished item with this ticket follows when the run ends
};

enum class ReportKind : uint8_t {
  kRunSucceeded = 0,   // run, payload
  kRunFailed = 1,      // run, payload (error)
  kStepSucceeded = 2,  // run, step, attempt, payload
  kStepFailed = 3,     // run, step, attempt, payload (error), retryable, retry
  kCall = 4,           // run, step, call
  kWait = 5,           // run, step, topic, due_at: wait for a message of that topic, for a time, or for either
  kChild = 6,          // run, step, child: start a run and wait for its end
  kPark = 7,  // run, open_waits: nothing is left to do but wait for these; it may be laid aside (kStop follows)
  kDrop = 8,  // run, step: a wait that nobody waits for any more
  kRunCompensated = 9,  // run, payload (error): it failed, and its steps were undone
  kMismatch = 10,       // run, payload (error): code and history differ; it is paused
};

struct Report {
  ReportKind kind = ReportKind::kRunSucceeded;
  bool retryable = false;
  int32_t attempt = 1;
  RunId run = 0;
  LeaseToken token = 0;  // of the activation that reports; an older one's reports are dropped
  std::string step;
  Payload payload;
  RetryPolicy retry;
  std::unique_ptr<CallSpec> call;
  std::string topic;
  WallMs due_at = -1;
  bool then_park = false;  // with kWait and kChild: and there is nothing else to do
  int32_t open_waits = 0;
  int64_t took_ms = -1;  // of the attempt; see Event
  int64_t waited_ms = -1;
  int64_t sla_ms = -1;  // of the step, with kStepSucceeded and kStepFailed; see Input
  std::string breach_flow;
  std::unique_ptr<NewRun> child;
  std::vector<NewRun> sent;  // with kStepSucceeded: runs that begin with the step's commit, or not at all
  // Set: the answer goes here, on the loop thread, and not out as an item. Destroyed unused when there will be none.
  MoveFunction<void(Item)> answer;
};

class Runtime {
 public:
  // Opens the store (waits for its recovery) and starts the threads.
  static Result<std::unique_ptr<Runtime>> open(RuntimeOptions options);
  virtual ~Runtime() = default;  // close first; the destructor closes with no patience

  // Runs of `queue` may be handed to this host, at most `in_flight_max` at once; their items go to `channel`. May be
  // called again to change both.
  virtual Status serve(const std::string& queue, int32_t in_flight_max, ChannelId channel) = 0;
  // Durable when it returns. One answer a request, in order. Waits.
  virtual Result<std::vector<StartAnswer>> start(std::vector<StartRequest> requests) = 0;
  // The same without waiting: a kStarted item with `ticket` brings the answers.
  virtual Status start_async(std::vector<StartRequest> requests, uint64_t ticket) = 0;
  // Takes up to `count_max` items of channel 0, waiting `timeout_ms` for the first (-1: ever). kClosed once all is
  // taken.
  virtual Result<std::vector<Item>> poll(size_t count_max, int64_t timeout_ms) = 0;
  // Makes poll return now, empty-handed if need be.
  virtual void wake() = 0;
  // Opens a channel for an event loop: `event_fd` (an eventfd, non-blocking) becomes readable when there are items to
  // take, and when the engine is closed. It stays the caller's, who closes it after close_channel.
  virtual Result<ChannelId> open_channel(int event_fd) = 0;
  virtual void close_channel(ChannelId channel) = 0;
  // Takes up to `count_max` items of a channel and clears its eventfd; never waits. kClosed once closed and empty.
  virtual Result<std::vector<Item>> take(ChannelId channel, size_t count_max) = 0;
  // Hands in reports; all or none are taken (kBusy when the inbox is full).
  virtual Status complete(std::vector<Report> reports) = 0;
  // Hands in a step's report and waits for its answer: a kStepAnswer, a kAttempt, or a kStop. kFenced when the run is
  // no longer this activation's.
  virtual Result<Item> record(Report report) = 0;
  // Waits for a run's end. kTimeout after `timeout_ms` (-1: without end); kNotFound for an unknown run.
  virtual Result<StartAnswer> wait(RunId run, int64_t timeout_ms) = 0;
  // The same without waiting: a kRunFinished item with `ticket` follows (kNotFound in its payload: no such run).
  virtual Status watch(RunId run, uint64_t ticket) = 0;
  // Reads on in a stream: a kStreamText item with the ask's ticket follows, once there is something or its patience
  // ends.
  virtual Status read_stream(StreamAsk ask) = 0;
  // Waits for the store's answer.
  virtual Result<std::vector<RunHistory>> find(FindRequest request) = 0;
  // Limits hold for every engine of the store, and outlive this one. Both wait for the store's answer.
  virtual Status set_limits(const std::string& queue, QueueLimits limits) = 0;
  virtual Result<QueueView> look(const std::string& queue) = 0;
  virtual Status set_call_limits(const std::string& name, CallLimits limits) = 0;
  virtual Status set_breaker(const std::string& name, BreakerPolicy policy) = 0;
  virtual Result<CallsView> look_at_calls() = 0;
  // A small named value, kept beside the runs: see Transition::document. Both wait for the store's answer.
  virtual Status keep(Document document) = 0;
  virtual Result<std::vector<Document>> documents(const std::string& kind, const std::string& name) = 0;
  // Budgets' accounts; see BudgetChange and Store::budgets. Both wait for the store's answer.
  virtual Status change_budget(BudgetChange change) = 0;
  virtual Result<std::vector<BudgetRow>> budgets(const std::string& name) = 0;
  // One slice of a copy of the store, made while it is used; see BackupSlice. Waits.
  virtual Result<BackupProgress> backup(BackupSlice slice) = 0;
  // Tells a run something from outside (see Message; id and at are set here). Durable when it returns. Waits.
  virtual Status tell(Message message) = 0;
  // Ends a run as cancelled, its calls in flight included. Ok also when it had ended before. Waits.
  virtual Status cancel(RunId run) = 0;
  // Sends plain requests that belong to no run and are not recorded; a kHttp item each, with tickets from `ticket` on.
  virtual Status send(std::vector<HttpRequest> requests, uint64_t ticket) = 0;
  [[nodiscard]] virtual Counters counters() const = 0;
  // Hands out `count` empty kAttempt items of run 0: what the border alone can carry is measured with them.
  virtual Status for_test_hand_out(size_t count) = 0;
  // These three need a test_world. The first two wait for the loop thread. A jump moves the engine's time forward by
  // `by_ms`, unless something has happened since the view with `activity` was taken; says whether it did.
  virtual Result<TestView> for_test_view() = 0;
  virtual Result<bool> for_test_jump(int64_t activity, int64_t by_ms) = 0;
  // The engine's time minus the machine's. Never waits.
  [[nodiscard]] virtual int64_t for_test_ahead_ms() const = 0;
  // Stops intake, gives activations `deadline_ms` to finish, commits, gives back leases, joins the threads. Idempotent.
  // Waits.
  virtual Status close(int64_t deadline_ms) = 0;
};

}  // namespace stepwell
