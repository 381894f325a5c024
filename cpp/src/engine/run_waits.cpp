// The run machine's part that waits: for messages, for times, for children; and lays the run aside meanwhile.
#include <algorithm>
#include <utility>

#include "engine/judge.h"
#include "stepwell/engine.h"

namespace stepwell {

namespace {

bool is_order(const std::string& topic) { return topic == "cancel" || topic == "pause" || topic == "resume"; }

WallMs earlier(WallMs one, WallMs other) {
  if (one < 0 || other < 0) return std::max(one, other);
  return std::min(one, other);
}

Event event_of(EventKind kind, const std::string& step, Payload payload) {
  Event event;
  event.kind = kind;
  event.step = step;
  event.payload = std::move(payload);
  return event;
}

}  // namespace

// Only what somebody ordered and what time decides; waits are answered when the worker comes to them again.
Decision RunMachine::on_taken_up(Input& input) {
  if (damage_.is_ok() && deadline_at_ >= 0 && deadline_at_ <= input.at) return timed_out(input);
  Decision decision;
  take_orders(decision);
  if (decision.end) return decision;
  if (!damage_.is_ok()) {
    input.payload = detail::error_payload(damage_.code(), damage_.message(), 0, false);
    Decision paused = on_mismatch(input);
    paused.taken.insert(paused.taken.end(), decision.taken.begin(), decision.taken.end());
    return paused;
  }
  judge_run_sla(decision, input.at);
  if (pause_id_ != 0) return lay_aside(decision, -1, true);
  wake_at_own_time(decision);
  return decision;
}

// One timer at a time, for whichever of the run's own times comes first.
void RunMachine::wake_at_own_time(Decision& decision) const {
  const WallMs at = earlier(deadline_at_, sla_at_);
  if (at < 0) return;
  Command& wake = decision.commands.emplace_back();
  wake.kind = CommandKind::kWakeAt;
  wake.due_at = at;
}

Decision RunMachine::timed_out(Input& input) {
  return give_up(input, code::kRunTimeout, "the run did not end by its deadline");
}

// Ends the run, whatever its worker is doing.
Decision RunMachine::give_up(Input& input, ErrorCode why, const std::string& message) {
  input.kind = InputKind::kRunFailed;
  input.payload = detail::error_payload(why, message, 0, false);
  Decision decision = on_end(input);
  decision.commands.insert(decision.commands.begin(), Command{});
  decision.commands.front().kind = CommandKind::kStopWorker;
  return decision;
}

// Obeys "cancel", "pause" and "resume", in order, and takes them. A pause that stands is taken only when the run is
// laid aside: a crash before that must not forget it.
void RunMachine::take_orders(Decision& decision) {
  bool is_cancelled = false;
  for (auto message = inbox_.begin(); message != inbox_.end();) {
    if (!is_order(message->topic)) {
      ++message;
      continue;
    }
    is_cancelled = is_cancelled || message->topic == "cancel";
    if (message->topic == "pause" && pause_id_ == 0) pause_id_ = message->id;
    if (message->id == pause_id_) {
      ++message;
      continue;
    }
    if (message->topic == "resume" && pause_id_ != 0) {
      take_pause(decision);  // moves what is behind it
      message = inbox_.begin();
      continue;
    }
    decision.taken.push_back(message->id);
    message = inbox_.erase(message);
  }
  if (!is_cancelled) return;
  Input cancel;
  cancel.kind = InputKind::kCancelRequested;
  Decision end = on_end(cancel);
  end.taken = std::move(decision.taken);
  decision = std::move(end);
}

void RunMachine::take_pause(Decision& decision) {
  decision.taken.push_back(pause_id_);
  std::erase_if(inbox_, [this](const Message& message) { return message.id == pause_id_; });
  pause_id_ = 0;
}

Decision& RunMachine::lay_aside(Decision& decision, WallMs wake_at, bool is_paused) {
  if (pause_id_ != 0) take_pause(decision);
  is_parked_ = true;
  decision.park = Park{wake_at, static_cast<int64_t>(inbox_.size()), is_paused};
  decision.commands.emplace_back().kind = CommandKind::kPark;
  return decision;
}

Decision RunMachine::on_wait(StepState& step, Input& input) {
  Decision decision;
  if (step.is_wait) {
    decision.status = refuse(input, "wait \"" + input.step + "\" is under way already");
    return decision;
  }
  step.is_wait = true;
  step.topic = std::move(input.topic);
  if (step.due_at < 0 && input.due_at >= 0) {
    // Recorded, so that the wait does not begin anew after a crash.
    step.due_at = input.due_at;
    decision.events.push_back(event_of(EventKind::kTimerSet, input.step, std::to_string(step.due_at)));
    ++next_seq_;
  }
  try_to_answer(decision, step, input.step, input.at);
  return decision;
}

Decision RunMachine::on_child(StepState& step, Input& input) {
  Decision decision;
  if (step.is_wait) {
    decision.status = refuse(input, "child \"" + input.step + "\" is under way already");
    return decision;
  }
  step.is_wait = true;
  step.topic = "child:" + input.step;
  if (step.child == 0) {
    step.child = input.creation->run;
    input.creation->request.parent = run_;
    input.creation->request.parent_step = input.step;
    if (input.creation->request.budgets.empty()) input.creation->request.budgets = budgets_;
    decision.events.push_back(event_of(EventKind::kChildStarted, input.step, std::to_string(step.child)));
    ++next_seq_;
    decision.creations.push_back(std::move(*input.creation));
  }
  try_to_answer(decision, step, input.step, input.at);
  return decision;
}

void RunMachine::try_to_answer(Decision& decision, StepState& step, const std::string& name, WallMs at) {
  const auto found = std::find_if(inbox_.begin(), inbox_.end(), [&step](const Message& message) {
    return !step.topic.empty() && message.topic == step.topic;
  });
  if (found != inbox_.end()) {
    decision.taken.push_back(found->id);
    Payload payload = std::move(found->payload);
    inbox_.erase(found);
    bool ok = true;
    if (step.child != 0) {
      ok = !payload.empty() && payload[0] == static_cast<char>('0' + static_cast<int>(RunStatus::kSucceeded));
      payload.erase(0, 1);
    }
    answer_wait(decision, step, name, ok, std::move(payload));
  } else if (step.due_at >= 0 && step.due_at <= at) {
    const bool is_sleep = step.topic.empty();
    answer_wait(
        decision, step, name, is_sleep,
        is_sleep ? "null" : detail::error_payload(code::kSignalTimeout, "nothing came by the deadline", 0, false));
  } else if (step.due_at >= 0) {
    Command& wake = decision.commands.emplace_back();
    wake.kind = CommandKind::kWakeAt;
    wake.step = name;
    wake.due_at = step.due_at;
  }
}

void RunMachine::answer_wait(Decision& decision, StepState& step, const std::string& name, bool ok, Payload payload) {
  step.is_done = true;
  decision.events.push_back(event_of(ok ? EventKind::kStepSucceeded : EventKind::kStepFailed, name, payload));
  ++next_seq_;
  Command& told = decision.commands.emplace_back();
  told.kind = CommandKind::kAnswerStep;
  told.step = name;
  told.ok = ok;
  told.payload = std::move(payload);
}

Decision RunMachine::on_message(Input& input) {
  Decision decision;
  const Message& message = *input.message;
  if (!met_messages_.insert(message.id).second) {
    decision.status = refuse(input, "the message is known");
    return decision;
  }
  inbox_.push_back(message);
  if (is_order(message.topic)) {
    const bool was_pausing = pause_id_ != 0;
    take_orders(decision);
    const bool is_pausing = pause_id_ != 0;
    if (!decision.end && is_pausing != was_pausing) {
      Command& rest = decision.commands.emplace_back();
      rest.kind = CommandKind::kPause;
      rest.ok = is_pausing;
    }
    return decision;
  }
  for (auto& [name, step] : steps_) {
    if (!step.is_wait || step.is_done || step.topic != message.topic) continue;
    try_to_answer(decision, step, name, input.at);
    return decision;
  }
  return decision;
}

Decision RunMachine::on_time(Input& input) {
  Decision decision;
  if (input.step.empty()) {
    if (deadline_at_ >= 0 && deadline_at_ <= input.at) return timed_out(input);
    judge_run_sla(decision, input.at);
    wake_at_own_time(decision);  // the other one, or the same once more if the clock was set back
    return decision;
  }
  const auto found = steps_.find(input.step);
  if (found == steps_.end() || found->second.is_done) {
    decision.status = refuse(input, "nobody waits for this time");
    return decision;
  }
  try_to_answer(decision, found->second, found->first, input.at);
  return decision;
}

// Laid aside, a run costs nothing but its rows. Not when it would be back in a moment, and not while anything of it is
// under way: the worker may have asked before it saw an answer that is on its way.
Decision RunMachine::on_park(const Input& input) {
  Decision decision;
  WallMs wake_at = deadline_at_;
  const bool is_pausing = pause_id_ != 0;
  int32_t open_waits = 0;
  for (const auto& [name, step] : steps_) {
    // Nobody has come to it since the run was taken up: a wait that `first` dropped, in an earlier activation.
    if (step.is_done || step.is_held || step.first_at_ms < 0) continue;
    if (!step.is_wait) {
      decision.status = refuse(input, "step \"" + name + "\" is under way");
      return decision;
    }
    ++open_waits;
    wake_at = earlier(wake_at, step.due_at);
  }
  if (open_waits != input.open_waits) {
    // Going on is up to whoever has the answer that the worker had not seen when it asked.
    decision.status = refuse(input, "an answer is on its way");
    return decision;
  }
  if ((open_waits == 0 && !is_pausing) || (!is_pausing && wake_at >= 0 && wake_at - input.at < kParkMsMin)) {
    decision.status = refuse(input, "there is nothing to wait for that is worth it");
    return decision;
  }
  // However soon the agreed time ends: nobody would ask again after it.
  return lay_aside(decision, earlier(wake_at, sla_at_), is_pausing);
}

// Another branch was faster. A child that nobody waits for is not wanted either.
Decision RunMachine::on_drop(const Input& input) {
  Decision decision;
  const auto found = steps_.find(input.step);
  if (found == steps_.end() || !found->second.is_wait || found->second.is_done) {
    decision.status = refuse(input, "there is no such wait");
    return decision;
  }
  if (found->second.child != 0) {
    // An event carries the message: it is committed with one or not at all.
    Message message;
    message.to = found->second.child;
    message.topic = "cancel";
    answer_wait(decision, found->second, found->first, false,
                detail::error_payload(code::kRunCancelled, "nobody waited for it any more", 0, false));
    decision.commands.clear();
    decision.messages.push_back(std::move(message));
    return decision;
  }
  steps_.erase(found);
  return decision;
}

Decision RunMachine::on_mismatch(Input& input) {
  Decision decision;
  decision.events.push_back(event_of(EventKind::kMismatch, "", std::move(input.payload)));
  ++next_seq_;
  return lay_aside(decision, -1, true);
}

}  // namespace stepwell
