// The run machine: every decision about one run, as a pure function of what happened.
//
// No I/O, no clock, no threads, no randomness but the seed. It is fed inputs and answers with events (to be committed)
// and commands (to be carried out only after that commit). The same machine runs live, in recovery and in the
// simulator.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

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
};

struct Input {
  InputKind kind = InputKind::kStepSucceeded;
  int32_t attempt = 1;
  bool retryable = false;
  int64_t retry_after_ms = -1;
  std::string step;
  Payload payload;
  RetryPolicy retry;
};

enum class CommandKind : uint8_t {
  kAnswerStep,  // tell the worker: step, ok, payload
  kAskAttempt,  // ask the worker to try the step again: step, attempt
  kSendCall,    // step, attempt
  kStartTimer,  // feed kRetryDue for step after delay_ms
  kReleaseRun,  // the run ended: tell waiters; run_status, payload
  kStopWorker,  // drop the run's activation, cancel its calls
};

struct Command {
  CommandKind kind = CommandKind::kAnswerStep;
  bool ok = true;
  RunStatus run_status = RunStatus::kRunning;
  int32_t attempt = 1;
  int64_t delay_ms = 0;
  std::string step;
  Payload payload;
};

struct Decision {
  Status status;  // not ok: the input was refused, and events and commands are empty
  std::vector<Event> events;
  std::optional<RunEnd> end;
  std::vector<Command> commands;
};

class RunMachine {
 public:
  // Takes up a run where its history ends. `seed` draws the retry jitter.
  RunMachine(const RunHistory& history, uint64_t seed);

  // Decides what follows from `input`. `now_ms` is the loop's clock, used for elapsed limits only. The machine's own
  // state moves at once; if the commit of the decision fails, drop the machine.
  Decision decide(Input input, int64_t now_ms);

  // The sequence number that the next event will get.
  [[nodiscard]] int64_t next_seq() const { return next_seq_; }
  [[nodiscard]] bool is_done() const { return done_; }

 private:
  struct StepState {
    int32_t attempt = 1;       // the attempt under way or due
    int64_t first_at_ms = -1;  // when this process first met the step
    bool is_done = false;
    bool is_call = false;
    bool is_waiting = false;  // a retry timer runs
    RetryPolicy retry;
  };

  Decision on_success(StepState& step, Input& input);
  Decision on_failure(StepState& step, Input& input, int64_t now_ms);
  Decision on_call(StepState& step, Input& input, int64_t now_ms);
  Decision on_end(Input& input);
  void record(Decision& decision, EventKind kind, const Input& input);
  [[nodiscard]] Status refuse(const Input& input, const std::string& why) const;

  RunId run_;
  uint64_t random_state_;
  int64_t next_seq_ = 0;
  bool done_ = false;
  std::unordered_map<std::string, StepState> steps_;
};

}  // namespace stepwell
