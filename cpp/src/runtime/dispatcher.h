// The dispatcher: events in, commands out. It owns the run machines and is the only one who speaks to all the seams.
//
// Loop thread only. What the machines decide is gathered and committed as one batch; commands act only after their
// commit. Items for the host leave through `Sink`. It knows no threads, so the simulator drives the very same code.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/admission.h"
#include "runtime/calls.h"
#include "runtime/streams.h"
#include "stepwell/engine.h"
#include "stepwell/http.h"
#include "stepwell/loop.h"
#include "stepwell/runtime.h"
#include "stepwell/store.h"

namespace stepwell::detail {

using Sink = MoveFunction<void(std::vector<Item>&)>;  // takes the items, leaving the vector empty
using StartDone = MoveFunction<void(std::vector<StartAnswer>)>;
using WaitDone = MoveFunction<void(Result<StartAnswer>)>;

struct StartBatch;

struct DispatcherOptions {
  Limits limits;
  int64_t lease_ms = 30'000;
  OwnerId owner = 1;  // random per engine
  uint64_t seed = 1;  // run ids and retry jitter
};

class Dispatcher : private StreamHost {
 public:
  Dispatcher(Loop& loop, Store& store, HttpTransport& transport, Sink sink, DispatcherOptions options);
  virtual ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  void serve(const std::string& queue, int32_t in_flight_max, ChannelId channel = 0);
  void start(std::vector<StartRequest> requests, StartDone done);
  void report(std::vector<Report> reports);
  void wait(RunId run, WaitDone done);
  void cancel(RunId run, StatusDone done);
  void tell(Message message, StatusDone done);
  void send(std::vector<HttpRequest> requests, uint64_t ticket);
  void set_limits(const std::string& queue, const QueueLimits& limits, StatusDone done);
  void keep(Document document, StatusDone done);
  void read_stream(StreamAsk ask);
  void change_budget(BudgetChange change, StatusDone done);
  // Stops claiming, gives the leases back and completes when all of that is committed.
  void release_all(StatusDone done);

  [[nodiscard]] Counters counters() const;
  [[nodiscard]] AdmissionStage& admission() { return admission_; }
  // Threads of the host that wait in Runtime::record.
  // Whether something was decided that is not on its way to the store or the host yet.
  [[nodiscard]] bool is_flush_due() const { return is_flush_scheduled_ || !transitions_.empty() || !items_.empty(); }
  [[nodiscard]] int64_t asking_count() const;
  // Whether somebody waits for the end of a run.
  [[nodiscard]] bool is_awaited() const { return !waiters_.empty(); }

 private:
  struct Queue {
    std::string name;
    ChannelId channel = 0;
    int32_t in_flight_max = 0;
    int32_t in_flight = 0;
    bool is_claiming = false;
    bool has_backlog = true;    // until a claim came back short
    bool is_claim_due = false;  // a timer will claim what few places are free
    bool is_limited = false;    // in the store, as far as it is known here
  };
  struct Active {
    Active(const RunHistory& history, uint64_t seed)
        : machine(history, seed), token(history.row.token), kept_streams(history.streams) {}
    RunMachine machine;
    LeaseToken token;
    Queue* queue = nullptr;
    int32_t priority = 0;
    std::unordered_map<std::string, std::shared_ptr<RunningCall>> calls;
    std::unordered_map<std::string, MoveFunction<void(Item)>> answers;  // of steps whose reporter waits
    std::vector<TimerId> timers;
    std::vector<KeptStream> kept_streams;  // of former lives
    std::unique_ptr<RunHistory> untried;   // not handed out yet: other suspects go first
  };
  struct Waiter {
    uint64_t ticket = 0;
    WaitDone done;
  };
  // What to do when a transition of the batch under way is answered.
  struct Continuation {
    RunId run = 0;
    LeaseToken token = 0;
    std::vector<Command> commands;
    std::unique_ptr<StartRequest> start;  // a creation; its input is kept for the activation
    size_t answer_index = 0;
    std::shared_ptr<StartBatch> batch;
    Queue* claimed_for = nullptr;
    StatusDone done;
    StatusDone told;                     // who ordered it hears after the commit
    std::vector<Message> messages;       // what other runs of this engine are told after the commit
    bool queues_runs = false;            // creations
    WallMs wake_at = -1;                 // of a run that was laid aside
    int64_t breaches = 0;                // of agreed times, among its events
    bool is_trial = false;               // its run counts as taken up once more, and is handed out
    std::string asks;                    // a step: its call is sent if budgets have room for it
    std::shared_ptr<LiveStream> stream;  // whose text this is, up to there
    int64_t stream_generation = 0;
    int64_t stream_end = 0;
  };

  void feed(RunId run, Active& active, Input input);
  void act(RunId run, Continuation& continuation);
  void act_on(RunId run, Active& active, Command& command);
  void release_run(RunId run, RunStatus status, const Payload& payload, bool is_recorded = false);
  void answer(Active& active, Item item);
  // Tells the worker, on all ways, that the run is no longer its own.
  void stop(RunId run, Active& active, const Payload& payload);
  void drop(RunId run);
  void on_report(Report& report);
  void on_answers(std::vector<Continuation>& continuations, std::vector<CommitAnswer>& answers);
  void on_started(Continuation& continuation, CommitAnswer& answer);
  void on_lost(Continuation& continuation, const Status& status);
  void on_claimed(Queue& queue, int32_t asked, Result<ClaimAnswer> claimed);
  void activate(Queue& queue, RunHistory history);
  void hand_over(RunId run, Active& active, RunHistory history);
  // Suspects (dispatcher_trials.cpp).
  void put_aside(RunId run, Active& active, RunHistory history);
  void begin_trial(RunId run, const Active& active);
  void next_trial();
  void try_out(RunId run);
  void recount(RunId run, const Active& active, int32_t claims);
  void send_call(RunId run, Active& active, const std::string& step, int32_t attempt);
  std::shared_ptr<LiveStream> open_stream(RunId run, Active& active, const std::string& step, const CallSpec& call);
  bool keep(const std::shared_ptr<LiveStream>& stream, StreamPart part) override;
  void hand_out(Item item) override;
  void flush_all() override { flush(); }
  void on_ruling(const CallRef& call, const Ruling& ruling);
  struct Attempt;
  void begin_attempt(const CallRef& call, std::shared_ptr<RunningCall> running, const CallPass& pass);
  void request(const std::shared_ptr<Attempt>& attempt, const CallPass& pass, CallId RunningCall::* slot);
  void hedge(const std::shared_ptr<Attempt>& attempt);
  void on_verdict(Attempt& attempt, Verdict verdict);
  void claim_more(Queue& queue);
  void claim(Queue& queue, int32_t count);
  void claim_at(Queue& queue, WallMs at);
  void renew();
  void read_wait(Report& report, Input& input);
  void pass_on(std::vector<Message>& messages);
  void look_for_messages();
  void look_everywhere();
  // The one timer for all runs that wait in the store.
  void wake_by(WallMs at);
  void look_for_due();
  void schedule_flush();
  void flush();
  RunId next_run_id();
  // Budgets (ledger.cpp).
  int64_t next_wake_ids();
  void on_asked(const Continuation& continuation, const BudgetRefusal& refusal);
  void on_woken(CommitAnswer& answer);

  Loop& loop_;
  Store& store_;
  HttpTransport& transport_;
  Sink sink_;
  const DispatcherOptions options_;
  // Tells late callbacks of the loop that the dispatcher is gone.
  std::shared_ptr<Dispatcher*> self_;

  Streams streams_;
  std::unordered_map<RunId, std::unique_ptr<Active>> active_;
  std::unordered_map<RunId, std::vector<Waiter>> waiters_;
  std::unordered_map<std::string, std::unique_ptr<Queue>> queues_;
  std::vector<Transition> transitions_;
  std::vector<Continuation> continuations_;
  std::vector<Item> items_;
  std::deque<RunId> suspects_;  // put aside
  RunId trial_ = 0;             // the one suspect that is handed out; 0: none
  int64_t trial_seq_ = 0;       // how far its history went then
  bool is_flush_scheduled_ = false;
  bool is_closing_ = false;
  WallMs wake_at_ = -1;
  TimerId wake_timer_ = 0;
  bool is_looking_for_due_ = false;
  uint64_t random_state_;
  AdmissionStage admission_;
  RunId last_run_id_ = 0;
  Counters counters_;
};

}  // namespace stepwell::detail
