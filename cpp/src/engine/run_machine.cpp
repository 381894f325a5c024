#include <algorithm>
#include <charconv>
#include <system_error>

#include "engine/budget.h"
#include "engine/judge.h"
#include "engine/retry.h"
#include "stepwell/engine.h"

namespace stepwell {

namespace {

Command answer(const std::string& step, int32_t attempt, bool ok, Payload payload) {
  Command command;
  command.attempt = attempt;
  command.kind = CommandKind::kAnswerStep;
  command.step = step;
  command.ok = ok;
  command.payload = std::move(payload);
  return command;
}

Command attempt_command(CommandKind kind, const std::string& step, int32_t attempt) {
  Command command;
  command.kind = kind;
  command.step = step;
  command.attempt = attempt;
  return command;
}

Command hold_command(const std::string& step, WallMs due_at, std::string topic) {
  Command command = attempt_command(CommandKind::kHoldCall, step, 1);
  command.due_at = due_at;
  command.topic = std::move(topic);
  return command;
}

// What the store found comes first: what is wrong in what it could not read follows from it.
void note_damage(Status& damage, const std::string& what) {
  if (damage.is_ok()) damage = {StatusKind::kIo, code::kStoreCorrupt, "the history is damaged: " + what};
}

RunStatus end_status(InputKind kind) {
  switch (kind) {
    case InputKind::kRunSucceeded:
      return RunStatus::kSucceeded;
    case InputKind::kCancelRequested:
      return RunStatus::kCancelled;
    case InputKind::kRunCrashed:
      return RunStatus::kDead;
    case InputKind::kRunCompensated:
      return RunStatus::kCompensated;
    default:
      return RunStatus::kFailed;
  }
}

}  // namespace

RunMachine::RunMachine(const RunHistory& history, uint64_t seed)
    : run_(history.row.run),
      random_state_(seed),
      next_seq_(history.row.event_count),
      done_(is_final(history.row.status)),
      deadline_at_(history.row.deadline_at),
      sla_at_(history.row.sla_at),
      breach_flow_(history.row.breach_flow),
      workflow_(history.row.workflow),
      sla_ms_(history.row.sla_ms),
      parent_(history.row.parent),
      parent_step_(history.row.parent_step),
      budgets_(history.row.budgets),
      damage_(history.row.damage),
      inbox_(history.messages) {
  for (const Message& message : inbox_) met_messages_.insert(message.id);
  for (const Event& event : history.events) {
    if (event.kind == EventKind::kSlaBreached && event.step.empty()) sla_at_ = -1;
    if (event.kind == EventKind::kMismatch || event.kind == EventKind::kSlaBreached) continue;
    StepState& step = steps_[event.step];
    if (event.kind >= EventKind::kCallReserved) {
      if (!step.account) step.account = std::make_shared<detail::CallAccount>();
      if (!step.account->replay(event))
        note_damage(damage_, "step \"" + event.step + "\": its reservation cannot be read");
      continue;
    }
    step.attempt = event.attempt;
    switch (event.kind) {
      case EventKind::kStepAttemptFailed:
        ++step.attempt;
        step.spent_ms += spent_ms(event.took_ms, event.waited_ms);
        break;
      case EventKind::kTimerSet:
        step.due_at = number_in(event);
        break;
      case EventKind::kChildStarted:
        step.child = number_in(event);
        break;
      default:
        step.is_done = true;
    }
  }
}

int64_t RunMachine::number_in(const Event& event) {
  int64_t number = -1;
  const char* end = event.payload.data() + event.payload.size();
  const auto [stop, error] = std::from_chars(event.payload.data(), end, number);
  if (error != std::errc() || stop != end || number < 0) {
    note_damage(damage_, "step \"" + event.step + "\": expected a number, the history has \"" + event.payload + "\"");
  }
  return number;
}

Decision RunMachine::decide(Input input, int64_t now_ms) {
  if (is_done()) {
    Decision late;
    late.status = refuse(input, is_parked_ ? "the run waits in the store" : "the run has ended");
    return late;
  }
  switch (input.kind) {
    case InputKind::kRunSucceeded:
    case InputKind::kRunFailed:
    case InputKind::kRunCrashed:
    case InputKind::kRunCompensated:
    case InputKind::kCancelRequested:
      return on_end(input);
    case InputKind::kTakenUp:
      return on_taken_up(input);
    case InputKind::kMessage:
      return on_message(input);
    case InputKind::kTimeDue:
      return on_time(input);
    case InputKind::kParkRequested:
      return on_park(input);
    case InputKind::kWaitDropped:
      return on_drop(input);
    case InputKind::kMismatch:
      return on_mismatch(input);
    default:
      break;
  }
  if (next_seq_ >= Limits().steps_per_run_max) {
    return give_up(input, code::kRunTooLong,
                   "its history holds " + std::to_string(next_seq_) + " events, the most there may be");
  }
  StepState& step = steps_[input.step];
  if (step.first_at_ms < 0) step.first_at_ms = now_ms;
  Decision decision;
  if (step.is_done) {
    // A recorded step never runs again (promise 2): a second result is refused, whoever brings it.
    decision.status = refuse(input, "step \"" + input.step + "\" is recorded already");
    return decision;
  }
  switch (input.kind) {
    case InputKind::kStepSucceeded:
    case InputKind::kCallSucceeded:
      return on_success(step, input);
    case InputKind::kStepFailed:
    case InputKind::kCallFailed:
      return on_failure(step, input, now_ms);
    case InputKind::kCallRequested:
      return on_call(step, input, now_ms);
    case InputKind::kCallHeld:
      return on_call_held(step, input);
    case InputKind::kReserved:
    case InputKind::kBudgetReached:
      return on_reserved(step, input);
    case InputKind::kWaitRequested:
      return on_wait(step, input);
    case InputKind::kChildRequested:
      return on_child(step, input);
    default:  // kRetryDue
      if (!step.is_waiting) {
        decision.status = refuse(input, "no retry is due for step \"" + input.step + "\"");
        return decision;
      }
      step.is_waiting = false;
      send_or_reserve(decision, step, input.step);
      return decision;
  }
}

Decision RunMachine::on_success(StepState& step, Input& input) {
  Decision decision;
  step.is_done = true;
  if (step.account) next_seq_ += step.account->succeed(input.step, input.usage, decision);
  record(decision, EventKind::kStepSucceeded, input);
  decision.creations = std::move(input.creations);
  for (Creation& sent : decision.creations) {
    if (sent.request.budgets.empty()) sent.request.budgets = budgets_;
  }
  judge_step_sla(decision, step, input);
  decision.commands.push_back(answer(input.step, input.attempt, true, std::move(input.payload)));
  return decision;
}

Decision RunMachine::on_failure(StepState& step, Input& input, int64_t now_ms) {
  Decision decision;
  // A worker that resumes a run does not know how often the step had failed before: the history does.
  input.attempt = std::max(input.attempt, step.attempt);
  const RetryPolicy& policy = step.is_call ? step.retry : input.retry;
  const detail::FailedAttempt failed{input.attempt, input.retryable, input.retry_after_ms, now_ms - step.first_at_ms};
  const detail::RetryDecision retry = detail::decide_retry(policy, failed, random_state_);
  if (step.account) next_seq_ += step.account->fail(input.step, input.maybe_done, decision);
  if (!retry.again) {
    step.is_done = true;
    record(decision, EventKind::kStepFailed, input);
    judge_step_sla(decision, step, input);
    decision.commands.push_back(answer(input.step, input.attempt, false, std::move(input.payload)));
    return decision;
  }
  record(decision, EventKind::kStepAttemptFailed, input);
  step.attempt = input.attempt + 1;
  step.spent_ms += spent_ms(input.took_ms, input.waited_ms);
  if (step.is_call && retry.delay_ms >= kHoldMsMin) {
    step.is_call = false;
    step.is_held = true;
    decision.commands.push_back(hold_command(input.step, input.at + retry.delay_ms, {}));
    return decision;
  }
  step.is_waiting = true;
  Command timer = attempt_command(CommandKind::kStartTimer, input.step, step.attempt);
  timer.delay_ms = retry.delay_ms;
  decision.commands.push_back(std::move(timer));
  return decision;
}

Decision RunMachine::on_call(StepState& step, Input& input, int64_t now_ms) {
  Decision decision;
  if (step.is_call) {
    decision.status = refuse(input, "call \"" + input.step + "\" is under way already");
    return decision;
  }
  step.is_call = true;
  step.is_held = false;
  step.retry = input.retry;
  step.first_at_ms = now_ms;
  if (!input.spending.budgets.empty()) {
    if (!step.account) step.account = std::make_shared<detail::CallAccount>();
    step.account->take(std::move(input.spending));
  }
  send_or_reserve(decision, step, input.step);
  return decision;
}

// A call that costs is sent once the store has kept its reservation, and has said that there was room.
void RunMachine::send_or_reserve(Decision& decision, StepState& step, const std::string& name) {
  if (step.is_call && step.account && step.account->is_needed()) {
    next_seq_ += step.account->ask(run_, name, next_seq_, decision);
    return;
  }
  const CommandKind kind = step.is_call ? CommandKind::kSendCall : CommandKind::kAskAttempt;
  decision.commands.push_back(attempt_command(kind, name, step.attempt));
}

Decision RunMachine::on_reserved(StepState& step, Input& input) {
  Decision decision;
  if (!step.is_call || !step.account) {
    decision.status = refuse(input, "call \"" + input.step + "\" has asked for no reservation");
    return decision;
  }
  if (input.kind == InputKind::kReserved) {
    step.account->on_granted();
    decision.commands.push_back(attempt_command(CommandKind::kSendCall, input.step, step.attempt));
    return decision;
  }
  step.account->on_refused();
  if (input.payload.empty()) return on_call_held(step, input);
  input.kind = InputKind::kCallFailed;
  input.attempt = step.attempt;
  step.is_done = true;
  record(decision, EventKind::kStepFailed, input);
  decision.commands.push_back(answer(input.step, input.attempt, false, std::move(input.payload)));
  return decision;
}

// It has not been sent, so that no attempt is used up.
Decision RunMachine::on_call_held(StepState& step, Input& input) {
  Decision decision;
  if (!step.is_call || step.is_waiting) {
    decision.status = refuse(input, "call \"" + input.step + "\" is not about to be sent");
    return decision;
  }
  step.is_call = false;
  if (step.account) next_seq_ += step.account->fail(input.step, /*maybe_done=*/false, decision);
  step.is_held = true;
  decision.commands.push_back(hold_command(input.step, input.due_at, std::move(input.topic)));
  return decision;
}

Decision RunMachine::on_end(Input& input) {
  Decision decision;
  done_ = true;
  RunEnd end;
  end.status = end_status(input.kind);
  if (input.kind == InputKind::kCancelRequested) {
    input.payload = detail::error_payload(code::kRunCancelled, "run " + run_name(run_) + " was cancelled", 0, false);
    decision.commands.push_back(attempt_command(CommandKind::kStopWorker, {}, 1));
  }
  end.payload = input.payload;
  for (auto& [name, step] : steps_) {
    if (step.account) next_seq_ += step.account->abandon(name, decision);
  }
  tell_family(decision, end);
  if (input.kind != InputKind::kCancelRequested) judge_run_sla(decision, input.at);
  Command release = attempt_command(CommandKind::kReleaseRun, {}, 1);
  release.run_status = end.status;
  release.payload = std::move(input.payload);
  decision.end = std::move(end);
  decision.commands.push_back(std::move(release));
  return decision;
}

// Its parent hears how it ended; children that still run are not wanted any more.
void RunMachine::tell_family(Decision& decision, const RunEnd& end) const {
  if (parent_ != 0) {
    Message& message = decision.messages.emplace_back();
    message.to = parent_;
    message.topic = "child:" + parent_step_;
    message.payload = static_cast<char>('0' + static_cast<int>(end.status)) + end.payload;
  }
  for (const auto& [name, step] : steps_) {
    if (step.child == 0 || step.is_done) continue;
    Message& message = decision.messages.emplace_back();
    message.to = step.child;
    message.topic = "cancel";
  }
}

void RunMachine::record(Decision& decision, EventKind kind, const Input& input) {
  Event event;
  event.kind = kind;
  event.attempt = input.attempt;
  event.step = input.step;
  event.payload = input.payload;
  event.took_ms = input.took_ms;
  event.waited_ms = input.waited_ms;
  decision.events.push_back(std::move(event));
  ++next_seq_;
}

Status RunMachine::refuse(const Input& input, const std::string& why) const {
  return {StatusKind::kInvalid, code::kInternal,
          "run " + run_name(run_) + ": input " + std::to_string(static_cast<int>(input.kind)) + " refused: " + why};
}

}  // namespace stepwell
