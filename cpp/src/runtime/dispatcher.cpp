#include "runtime/dispatcher.h"

#include <algorithm>

#include "base/check.h"
#include "base/random.h"
#include "engine/judge.h"

namespace stepwell::detail {

// The answers of one start call, gathered until the last creation is committed.
struct StartBatch {
  std::vector<StartAnswer> answers;
  size_t waiting_count = 0;
  StartDone done;
};

namespace {

constexpr int kRunIdCounterBits = 20;
constexpr WallMs kRunIdEpochMs = 1'704'067'200'000;  // 2024-01-01, so that ids stay short

Item item_of(ItemKind kind, RunId run, Command& command) {
  Item item;
  item.kind = kind;
  item.run = run;
  item.ok = command.ok;
  item.attempt = command.attempt;
  item.text = std::move(command.step);
  item.payload = std::move(command.payload);
  return item;
}

int64_t payload_bytes(const Report& report) { return static_cast<int64_t>(report.payload.size()); }

}  // namespace

Dispatcher::Dispatcher(Loop& loop, Store& store, HttpTransport& transport, Sink sink, DispatcherOptions options)
    : loop_(loop),
      store_(store),
      transport_(transport),
      sink_(std::move(sink)),
      options_(options),
      self_(std::make_shared<Dispatcher*>(this)),
      streams_(loop, store, *this),
      random_state_(options.seed),
      admission_(loop, options.seed, [this](const CallRef& call, const Ruling& ruling) { on_ruling(call, ruling); }) {
  store_.watch([this, self = self_] {
    if (*self == nullptr) return;
    for (auto& [name, queue] : queues_) {
      queue->has_backlog = true;
      claim_more(*queue);
    }
    look_for_messages();
  });
  renew();
  look_for_due();
}

Dispatcher::~Dispatcher() {
  *self_ = nullptr;
  for (auto& [run, active] : active_) {
    for (auto& [step, call] : active->calls) {
      cancel_requests(transport_, *call);
    }
  }
}

void Dispatcher::serve(const std::string& queue, int32_t in_flight_max, ChannelId channel) {
  std::unique_ptr<Queue>& entry = queues_[queue];
  if (!entry) {
    entry = std::make_unique<Queue>();
    entry->name = queue;
  }
  entry->channel = channel;
  entry->in_flight_max = in_flight_max;
  claim_more(*entry);
}

// Time-ordered, so that new rows go to the end of the table; the low bits start at random, so that engines that share a
// store do not meet.
RunId Dispatcher::next_run_id() {
  const RunId base = (loop_.wall_ms() - kRunIdEpochMs) << kRunIdCounterBits;
  const RunId fresh = base + static_cast<RunId>(next_random(random_state_) & ((1U << (kRunIdCounterBits - 1)) - 1));
  last_run_id_ = last_run_id_ >= base ? last_run_id_ + 1 : fresh;
  return last_run_id_;
}

void Dispatcher::start(std::vector<StartRequest> requests, StartDone done) {
  auto batch = std::make_shared<StartBatch>();
  batch->answers.resize(requests.size());
  batch->waiting_count = requests.size();
  batch->done = std::move(done);
  if (requests.empty()) {
    batch->done(std::move(batch->answers));
    return;
  }
  const WallMs now = loop_.wall_ms();
  transitions_.reserve(transitions_.size() + requests.size());
  continuations_.reserve(continuations_.size() + requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    Continuation continuation;
    continuation.start = std::make_unique<StartRequest>();
    continuation.start->ticket = requests[i].ticket;
    continuation.answer_index = i;
    continuation.batch = batch;
    NewRun& run = requests[i].run;
    const auto served = queues_.find(run.queue);
    if (served != queues_.end() && !is_closing_) {
      Queue& queue = *served->second;
      const bool is_plain = run.wake_at < 0 && run.events.empty() && run.collapse.kind == CollapseKind::kNone;
      if (is_plain && !queue.is_limited && !queue.has_backlog && !queue.is_claiming &&
          queue.in_flight < queue.in_flight_max) {
        // Nobody waits in line: hand the run straight to the worker and save the claim's commit.
        run.claimed_by = options_.owner;
        continuation.claimed_for = &queue;
        continuation.start->run.workflow = run.workflow;
        continuation.start->run.queue = run.queue;
        continuation.start->run.key = run.key;
        continuation.start->run.input = run.input;
        continuation.start->run.priority = run.priority;
        continuation.start->run.deadline_at = run.deadline_at;
        continuation.start->run.sla_at = run.sla_at;
        continuation.start->run.sla_ms = run.sla_ms;
        continuation.start->run.breach_flow = run.breach_flow;
        continuation.start->run.budgets = run.budgets;
        continuation.start->run.version = run.version;
        continuation.start->run.group = run.group;
        ++queue.in_flight;
      } else {
        queue.has_backlog = true;
      }
    }
    Transition transition;
    transition.run = continuation.run = next_run_id();
    transition.at = now;
    continuation.wake_at = run.wake_at;
    transition.create = std::make_unique<NewRun>(std::move(run));
    transitions_.push_back(std::move(transition));
    continuations_.push_back(std::move(continuation));
  }
  flush();
}

void Dispatcher::on_started(Continuation& continuation, CommitAnswer& answer) {
  StartAnswer& out = continuation.batch->answers[continuation.answer_index];
  out.status = answer.status;
  out.run = continuation.run;
  const uint64_t ticket = continuation.start->ticket;
  const bool is_new = answer.status.is_ok() && !answer.attached;
  if (is_new) {
    ++counters_.runs_started;
    if (ticket != 0) waiters_[out.run].push_back(Waiter{ticket, {}});
    wake_by(continuation.wake_at);
  } else if (answer.attached) {
    out.attached = true;
    out.run = answer.attached->run;
    out.run_status = answer.attached->status;
    out.result = std::move(answer.attached->result);
    wake_by(answer.attached->wake_at);
    if (ticket != 0) {
      waiters_[out.run].push_back(Waiter{ticket, {}});
      if (is_final(out.run_status)) release_run(out.run, out.run_status, out.result, /*is_recorded=*/true);
    }
  }
  if (continuation.claimed_for != nullptr) {
    if (is_new && !answer.is_queued) {
      out.run_status = RunStatus::kRunning;
      RunHistory history;
      history.row.run = continuation.run;
      history.row.status = RunStatus::kRunning;
      history.row.token = history.row.claims = 1;
      history.row.workflow = std::move(continuation.start->run.workflow);
      history.row.key = std::move(continuation.start->run.key);
      history.row.input = std::move(continuation.start->run.input);
      history.row.priority = continuation.start->run.priority;
      history.row.deadline_at = continuation.start->run.deadline_at;
      history.row.sla_at = continuation.start->run.sla_at;
      history.row.sla_ms = continuation.start->run.sla_ms;
      history.row.breach_flow = std::move(continuation.start->run.breach_flow);
      history.row.budgets = std::move(continuation.start->run.budgets);
      history.row.version = std::move(continuation.start->run.version);
      history.row.group = std::move(continuation.start->run.group);
      activate(*continuation.claimed_for, std::move(history));
    } else {
      --continuation.claimed_for->in_flight;
      if (answer.is_queued) continuation.claimed_for->is_limited = continuation.claimed_for->has_backlog = true;
    }
  }
  if (--continuation.batch->waiting_count == 0) {
    continuation.batch->done(std::move(continuation.batch->answers));
    for (auto& [name, queue] : queues_) claim_more(*queue);
  }
}

void Dispatcher::report(std::vector<Report> reports) {
  for (Report& report : reports) on_report(report);
  for (auto& [name, queue] : queues_) claim_more(*queue);
  flush();
}

void Dispatcher::on_report(Report& report) {
  const auto found = active_.find(report.run);
  // Its lease is gone, and the worker has been told with kStop.
  if (found == active_.end() || found->second->token != report.token) return;
  Active& active = *found->second;
  if (report.answer) active.answers.insert_or_assign(report.step, std::move(report.answer));
  Input input;
  input.attempt = report.attempt;
  input.retryable = report.retryable;
  input.step = std::move(report.step);
  input.retry = report.retry;
  input.took_ms = report.took_ms;
  input.waited_ms = report.waited_ms;
  input.sla_ms = report.sla_ms;
  input.breach_flow = std::move(report.breach_flow);
  const bool too_large = payload_bytes(report) > options_.limits.payload_bytes_max;
  if (too_large) {
    input.payload = error_payload(code::kPayloadTooLarge,
                                  "a payload of " + std::to_string(payload_bytes(report)) + " bytes; at most " +
                                      std::to_string(options_.limits.payload_bytes_max) + " are kept",
                                  0, false);
    input.retryable = false;
  } else {
    input.payload = std::move(report.payload);
  }
  switch (report.kind) {
    case ReportKind::kRunSucceeded:
      input.kind = too_large ? InputKind::kRunFailed : InputKind::kRunSucceeded;
      break;
    case ReportKind::kRunFailed:
      input.kind = InputKind::kRunFailed;
      break;
    case ReportKind::kStepSucceeded:
      input.kind = too_large ? InputKind::kStepFailed : InputKind::kStepSucceeded;
      for (NewRun& sent : report.sent) input.creations.push_back({next_run_id(), std::move(sent)});
      break;
    case ReportKind::kStepFailed:
      input.kind = InputKind::kStepFailed;
      break;
    case ReportKind::kCall: {
      input.kind = InputKind::kCallRequested;
      input.retry = report.call->retry;
      input.spending = report.call->spending;
      auto call = std::make_shared<RunningCall>();
      call->spec = std::move(report.call);
      if (!active.calls.emplace(input.step, call).second) return;  // under way already
      call->stream = open_stream(report.run, active, input.step, *call->spec);
      break;
    }
    case ReportKind::kRunCompensated:
      input.kind = InputKind::kRunCompensated;
      break;
    case ReportKind::kMismatch:
      input.kind = InputKind::kMismatch;
      break;
    case ReportKind::kWait:
    case ReportKind::kChild:
    case ReportKind::kPark:
    case ReportKind::kDrop:
      read_wait(report, input);
  }
  feed(report.run, active, std::move(input));
  if (!report.then_park) return;
  Input park;
  park.kind = InputKind::kParkRequested;
  park.open_waits = 1;
  feed(report.run, active, std::move(park));
}

void Dispatcher::feed(RunId run, Active& active, Input input) {
  const int64_t first_seq = active.machine.next_seq();
  input.at = loop_.wall_ms();
  const WallMs now = input.at;
  Decision decision = active.machine.decide(std::move(input), loop_.now_ms());
  if (!decision.status.is_ok()) return;  // a duplicate: what counts is recorded
  if (!decision.is_for_the_store()) {
    for (Command& command : decision.commands) act_on(run, active, command);
    return;
  }
  for (Event& event : decision.events) event.at = now;
  Transition transition;
  transition.run = run;
  transition.token = active.token;
  transition.first_seq = first_seq;
  transition.at = now;
  transition.events = std::move(decision.events);
  transition.end = std::move(decision.end);
  transition.park = decision.park;
  transition.taken = std::move(decision.taken);
  transition.creations = std::move(decision.creations);
  transition.messages = std::move(decision.messages);
  transition.spends = std::move(decision.spends);
  if (!transition.spends.empty() || transition.end) transition.wake_id = next_wake_ids();
  for (Message& message : transition.messages) {
    message.id = next_run_id();
    message.at = now;
  }
  if (transition.end || transition.park) {
    --active.queue->in_flight;  // the worker is free for the next claim, which joins
    active.queue->has_backlog = active.queue->has_backlog || active.queue->is_limited;
  }
  Continuation continuation;
  continuation.run = run;
  continuation.token = active.token;
  continuation.commands = std::move(decision.commands);
  continuation.messages = transition.messages;
  continuation.queues_runs = !transition.creations.empty();
  continuation.breaches = std::count_if(transition.events.begin(), transition.events.end(),
                                        [](const Event& event) { return event.kind == EventKind::kSlaBreached; });
  continuation.wake_at = transition.park ? transition.park->wake_at : -1;
  if (!transition.spends.empty() && transition.spends.front().is_asking)
    continuation.asks = transition.events.front().step;
  for (Creation& creation : transition.creations) {
    if (creation.run == 0) creation.run = next_run_id();
    const WallMs at = creation.request.wake_at;
    if (at >= 0 && (continuation.wake_at < 0 || at < continuation.wake_at)) continuation.wake_at = at;
  }
  transitions_.push_back(std::move(transition));
  continuations_.push_back(std::move(continuation));
}

void Dispatcher::flush() {
  if (!transitions_.empty()) {
    auto shared = std::make_shared<std::vector<Continuation>>(std::move(continuations_));
    continuations_.clear();
    std::vector<Transition> batch;
    batch.swap(transitions_);
    store_.commit(std::move(batch), [this, self = self_, shared](std::vector<CommitAnswer> answers) {
      if (*self != nullptr) on_answers(*shared, answers);
    });
  }
  if (!items_.empty()) sink_(items_);
}

void Dispatcher::schedule_flush() {
  if (is_flush_scheduled_) return;
  is_flush_scheduled_ = true;
  loop_.post([this, self = self_] {
    if (*self == nullptr) return;
    is_flush_scheduled_ = false;
    flush();
  });
}

void Dispatcher::on_answers(std::vector<Continuation>& continuations, std::vector<CommitAnswer>& answers) {
  STEPWELL_CHECK(continuations.size() == answers.size(), "the store must answer each transition");
  for (size_t i = 0; i < answers.size(); ++i) {
    Continuation& continuation = continuations[i];
    if (continuation.stream) {
      streams_.commit_done(*continuation.stream, answers[i].status.is_ok(), continuation.stream_generation,
                           continuation.stream_end);
    }
    if (continuation.start) {
      on_started(continuation, answers[i]);
    } else if (continuation.done) {
      if (answers[i].status.is_ok() && !answers[i].is_known) pass_on(continuation.messages);
      continuation.done(answers[i].status);
    } else if (answers[i].status.is_ok()) {
      counters_.sla_breaches += continuation.breaches;
      act(continuation.run, continuation);
      if (continuation.is_trial) try_out(continuation.run);
      wake_by(continuation.wake_at);
      if (continuation.queues_runs) look_everywhere();
      pass_on(continuation.messages);
      if (!continuation.asks.empty()) on_asked(continuation, answers[i].refusal);
    } else {
      on_lost(continuation, answers[i].status);
    }
    if (continuation.told) continuation.told(answers[i].status);
    if (!answers[i].woken.empty()) on_woken(answers[i]);
  }
  flush();
}

// The write was refused: another engine drives the run now, or the disk failed. Nothing of it may be acknowledged.
void Dispatcher::on_lost(Continuation& continuation, const Status& status) {
  // This engine may have claimed the run anew since: that activation is sound.
  const auto found = active_.find(continuation.run);
  if (found == active_.end() || found->second->token != continuation.token) return;
  const bool ended = found->second->machine.is_done();
  if (!ended) --found->second->queue->in_flight;
  const Payload payload = error_payload(status.code(), status.message(), 0, false);
  stop(continuation.run, *found->second, payload);
  drop(continuation.run);
  if (status.kind() != StatusKind::kFenced) release_run(continuation.run, RunStatus::kRunning, payload);
}

void Dispatcher::act(RunId run, Continuation& continuation) {
  const auto found = active_.find(run);
  if (found == active_.end() || found->second->token != continuation.token) return;
  for (Command& command : continuation.commands) {
    if (command.kind == CommandKind::kStopWorker) {
      stop(run, *found->second, error_payload(code::kRunCancelled, "the run was cancelled", 0, false));
    } else if (command.kind == CommandKind::kReleaseRun) {
      const bool ok = command.run_status == RunStatus::kSucceeded;
      ++(ok ? counters_.runs_succeeded : counters_.runs_failed);
      release_run(run, command.run_status, command.payload);
      drop(run);
      return;
    } else if (command.kind == CommandKind::kPark) {
      // The store may have queued it again at once: it had been told something.
      found->second->queue->has_backlog = true;
      stop(run, *found->second, {});
      drop(run);
      look_everywhere();
      return;
    } else {
      act_on(run, *found->second, command);
    }
  }
  if (run == trial_ && found->second->machine.next_seq() > trial_seq_) next_trial();  // it gets on
}

void Dispatcher::act_on(RunId run, Active& active, Command& command) {
  switch (command.kind) {
    case CommandKind::kAnswerStep:
      ++counters_.steps_recorded;
      active.calls.erase(command.step);
      streams_.recorded(run, command.step, command.ok, command.payload);
      answer(active, item_of(ItemKind::kStepAnswer, run, command));
      return;
    case CommandKind::kAskAttempt:
      answer(active, item_of(ItemKind::kAttempt, run, command));
      return;
    case CommandKind::kSendCall:
      send_call(run, active, command.step, command.attempt);
      return;
    case CommandKind::kStartTimer: {
      ++counters_.retries;
      active.timers.push_back(
          loop_.after(command.delay_ms, [this, self = self_, run, token = active.token, step = command.step] {
            const auto found = *self == nullptr ? active_.end() : active_.find(run);
            if (*self == nullptr || found == active_.end() || found->second->token != token) return;
            Input due;
            due.kind = InputKind::kRetryDue;
            due.step = step;
            feed(run, *found->second, std::move(due));
            schedule_flush();
          }));
      return;
    }
    case CommandKind::kWakeAt:
      active.timers.push_back(loop_.after(std::max<int64_t>(command.due_at - loop_.wall_ms(), 0),
                                          [this, self = self_, run, token = active.token, step = command.step] {
                                            const auto found = *self == nullptr ? active_.end() : active_.find(run);
                                            if (*self == nullptr || found == active_.end() ||
                                                found->second->token != token)
                                              return;
                                            Input due;
                                            due.kind = InputKind::kTimeDue;
                                            due.step = step;
                                            feed(run, *found->second, std::move(due));
                                            schedule_flush();
                                          }));
      return;
    case CommandKind::kHoldCall: {
      active.calls.erase(command.step);
      Item item;
      item.kind = ItemKind::kCallHeld;
      item.run = run;
      item.text = std::move(command.step);
      item.due_at = command.due_at;
      item.payload = std::move(command.topic);
      answer(active, std::move(item));
      return;
    }
    case CommandKind::kPause: {
      if (active.untried) return;  // it is asked when it is taken up
      Item& item = items_.emplace_back();
      item.kind = ItemKind::kPause;
      item.channel = active.queue->channel;
      item.run = run;
      item.ok = command.ok;
      return;
    }
    case CommandKind::kReleaseRun:
    case CommandKind::kPark:
    case CommandKind::kStopWorker:
      STEPWELL_CHECK(false, "an end is committed before it acts");
  }
}

// Tells everybody who waits for `run` how it ended.
void Dispatcher::release_run(RunId run, RunStatus status, const Payload& payload, bool is_recorded) {
  streams_.run_ended(run);
  const auto found = waiters_.find(run);
  if (found == waiters_.end()) return;
  std::vector<Waiter> waiters = std::move(found->second);
  waiters_.erase(found);
  for (Waiter& waiter : waiters) {
    if (waiter.done) {
      StartAnswer answer;
      answer.run = run;
      answer.run_status = status;
      answer.result = payload;
      waiter.done(std::move(answer));
      continue;
    }
    Item& item = items_.emplace_back();
    item.kind = ItemKind::kRunFinished;
    item.channel = channel_of(waiter.ticket);
    item.run = run;
    item.ticket = waiter.ticket;
    item.run_status = status;
    item.ok = !is_recorded;
    item.payload = payload;
  }
}

void Dispatcher::answer(Active& active, Item item) {
  const auto waiting = active.answers.find(item.text);
  if (waiting == active.answers.end()) {
    item.channel = active.queue->channel;
    items_.push_back(std::move(item));
    return;
  }
  MoveFunction<void(Item)> answer = std::move(waiting->second);
  active.answers.erase(waiting);
  answer(std::move(item));
}

void Dispatcher::stop(RunId run, Active& active, const Payload& payload) {
  if (active.untried) return;  // no worker knows it
  const auto item = [run, &payload] {
    Item out;
    out.kind = ItemKind::kStop;
    out.run = run;
    out.payload = payload;
    return out;
  };
  for (auto& [step, answer] : std::exchange(active.answers, {})) answer(item());
  items_.push_back(item());
  items_.back().channel = active.queue->channel;
}

void Dispatcher::drop(RunId run) {
  const auto found = active_.find(run);
  if (found == active_.end()) return;
  // Moved out first: cancelling a call must not find the run again.
  const std::unique_ptr<Active> active = std::move(found->second);
  active_.erase(found);
  streams_.let_go(run);
  for (const TimerId timer : active->timers) loop_.cancel(timer);
  for (auto& [step, call] : active->calls) {
    admission_.withdraw(call->place);
    cancel_requests(transport_, *call);
  }
  if (run == trial_) next_trial();
}

}  // namespace stepwell::detail
