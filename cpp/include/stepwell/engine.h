// The run machine: every decision about one run, as a pure function of what happened.
//
// No I/O, no clock, no threads, no randomness but the seed. It is fed inputs and answers with events (to be committed)
// and commands (to be carried out only after that commit). The same machine runs live, in recovery and in the
// simulator.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "stepwell/call.h"
#include "stepwell/history.h"
#include "stepwell/status.h"
#include "stepwell/store.h"
#include "stepwell/types.h"

namespace stepwell {

enum class InputKind : uint8_t {
  kStepSucceeded,  // step, attempt, payload
  kStepFailed,     // step, attempt, payload, retryable, retry_after_ms, retry
  kCallRequested,  // step, retry
  kCallSucceeded,  // step, attempt, payload
  kCallFailed,     // step, attempt, payload, retryable, retry_after_ms, retry
  kRetryDue,       // step
  kRunSucceeded,   // payload
  kRunFailed,      // payload
  kRunCrashed,     // payload: claimed too often without an end
  kCancelRequested,
  kTakenUp,         // the run was claimed: what was it told meanwhile? A damaged history pauses it
  kWaitRequested,   // step, topic (empty: time alone), due_at
  kChildRequested,  // step, creation
  kMessage,         // message
  kTimeDue,         // step: its wait's deadline; empty: the run's
  kParkRequested,   // open_waits: the worker has nothing to do but wait for so many
  kWaitDropped,     // step: nobody waits for it any more
  kRunCompensated,  // payload: the error
  kMismatch,        // payload: how the code and the history differ
  kCallHeld,        // step, topic, due_at: the call may not be sent before that message or time
  kReserved,        // step: budgets had room for the call
  kBudgetReached,   // step, topic, due_at, and payload (the error) if it fails: one had none
};

struct Input {
  InputKind kind = InputKind::kStepSucceeded;
  int32_t attempt = 1;
  bool retryable = false;
  int64_t retry_after_ms = -1;
  std::string step;
  Payload payload;
  RetryPolicy retry;
  WallMs at = 0;  // the wall time of the input
  std::string topic;
  WallMs due_at = -1;  // -1: no deadline
  std::optional<Creation> creation;
  std::vector<Creation> creations;  // with kStepSucceeded: what the step sent to queues
  std::optional<Message> message;
  int32_t open_waits = 0;
  int64_t took_ms = -1;  // with what ends an attempt; see Event
  int64_t waited_ms = -1;
  int64_t sla_ms = -1;      // with what ends a step's attempt: all attempts together, their waiting included; -1: none
  std::string breach_flow;  // see NewRun
  bool maybe_done = false;  // with kCallFailed
  Usage usage;              // with kCallSucceeded
  Spending spending;        // with kCallRequested
};

enum class CommandKind : uint8_t {
  kAnswerStep,  // tell the worker: step, ok, payload
  kAskAttempt,  // ask the worker to try the step again: step, attempt
  kSendCall,    // step, attempt
  kStartTimer,  // feed kRetryDue for step after delay_ms
  kReleaseRun,  // the run ended: tell waiters; run_status, payload
  kStopWorker,  // drop the run's activation, cancel its calls
  kPark,        // the run waits in the store from now on: drop it
  kPause,       // ok: tell the worker to come to rest and to ask for parking; not ok: to go on after all
  kWakeAt,      // feed kTimeDue for step at the wall time due_at
  kHoldCall,    // step, due_at, topic: the worker waits for either, as for a sleep or a signal, and asks for the call
                // anew
};

struct Command {
  CommandKind kind = CommandKind::kAnswerStep;
  bool ok = true;
  RunStatus run_status = RunStatus::kRunning;
  int32_t attempt = 1;
  int64_t delay_ms = 0;
  WallMs due_at = -1;
  std::string step;
  std::string topic;
  Payload payload;
};

struct Decision {
  Status status;  // not ok: the input was refused, and events and commands are empty
  std::vector<Event> events;
  std::optional<RunEnd> end;
  std::vector<Command> commands;
  std::optional<Park> park;  // this and what follows is committed with the events
  std::vector<int64_t> taken;
  std::vector<Message> messages;    // without ids
  std::vector<Creation> creations;  // those of breach flows with run 0: whoever commits them draws the id
  std::vector<Spend> spends;
  [[nodiscard]] bool is_for_the_store() const { return !events.empty() || end || park || !taken.empty(); }
};

inline constexpr int64_t kParkMsMin = 1'000;   // a wait shorter than this is sat out in memory
inline constexpr int64_t kHoldMsMin = 30'000;  // a call whose next attempt is further away lets its run leave memory

class RunMachine {
 public:
  // Takes up a run where its history ends. `seed` draws the retry jitter.
  RunMachine(const RunHistory& history, uint64_t seed);

  // Decides what follows from `input`. `now_ms` is the loop's clock, used for elapsed limits only. The machine's own
  // state moves at once; if the commit of the decision fails, drop the machine.
  Decision decide(Input input, int64_t now_ms);

  // The sequence number that the next event will get.
  [[nodiscard]] int64_t next_seq() const { return next_seq_; }
  // Ended or laid aside: it takes no more inputs.
  [[nodiscard]] bool is_done() const { return done_ || is_parked_; }

 private:
  struct StepState {
    int32_t attempt = 1;       // the attempt under way or due
    int64_t first_at_ms = -1;  // when this process first met the step
    bool is_done = false;
    bool is_call = false;     // asked for, and not held
    bool is_held = false;     // as a call: its worker waits before it asks anew
    bool is_waiting = false;  // a retry timer runs
    bool is_wait = false;     // for a message or a time
    RetryPolicy retry;
    std::string topic;
    WallMs due_at = -1;
    RunId child = 0;
    int64_t spent_ms = 0;                          // by the attempts that failed
    std::shared_ptr<detail::CallAccount> account;  // of a call that costs
  };

  Decision on_success(StepState& step, Input& input);
  Decision on_failure(StepState& step, Input& input, int64_t now_ms);
  Decision on_call(StepState& step, Input& input, int64_t now_ms);
  Decision on_call_held(StepState& step, Input& input);
  Decision on_reserved(StepState& step, Input& input);
  void send_or_reserve(Decision& decision, StepState& step, const std::string& name);
  Decision on_end(Input& input);
  void tell_family(Decision& decision, const RunEnd& end) const;
  Decision on_taken_up(Input& input);
  Decision on_wait(StepState& step, Input& input);
  Decision on_child(StepState& step, Input& input);
  Decision on_message(Input& input);
  Decision on_time(Input& input);
  Decision on_park(const Input& input);
  Decision on_drop(const Input& input);
  Decision on_mismatch(Input& input);
  // Answers the wait with the oldest message of its topic, or with its deadline, or leaves it.
  void try_to_answer(Decision& decision, StepState& step, const std::string& name, WallMs at);
  void answer_wait(Decision& decision, StepState& step, const std::string& name, bool ok, Payload payload);
  void take_orders(Decision& decision);
  void take_pause(Decision& decision);
  Decision& lay_aside(Decision& decision, WallMs wake_at, bool is_paused);
  void wake_at_own_time(Decision& decision) const;
  [[nodiscard]] Decision timed_out(Input& input);
  [[nodiscard]] Decision give_up(Input& input, ErrorCode why, const std::string& message);
  void record(Decision& decision, EventKind kind, const Input& input);
  // Record a breach, once, if there is one (run_sla.cpp).
  void judge_run_sla(Decision& decision, WallMs at);
  void judge_step_sla(Decision& decision, const StepState& step, const Input& input);
  static int64_t spent_ms(int64_t took_ms, int64_t waited_ms);
  void record_breach(Decision& decision, const std::string& step, int64_t sla_ms, int64_t took_ms,
                     const std::string& flow, WallMs at);
  [[nodiscard]] Status refuse(const Input& input, const std::string& why) const;
  // Of an event that holds a time or a run. Anything else is damage, which is kept for kTakenUp.
  int64_t number_in(const Event& event);

  RunId run_;
  uint64_t random_state_;
  int64_t next_seq_ = 0;
  bool done_ = false;
  bool is_parked_ = false;
  int64_t pause_id_ = 0;                   // the message "pause" that stands; 0: none
  WallMs deadline_at_ = -1, sla_at_ = -1;  // -1: none, or breached already
  std::string breach_flow_;
  std::string workflow_;
  int64_t sla_ms_ = -1;
  RunId parent_ = 0;
  std::string parent_step_;
  std::string budgets_;
  Status damage_;               // not ok: something of the history cannot be read
  std::vector<Message> inbox_;  // not yet taken, oldest first
  std::unordered_set<int64_t> met_messages_;
  std::unordered_map<std::string, StepState> steps_;
};

}  // namespace stepwell
