// The dispatcher's part that gets runs and gives them back: claims, leases, waiting, cancelling.
#include <algorithm>

#include "base/random.h"
#include "engine/judge.h"
#include "runtime/dispatcher.h"

namespace stepwell::detail {

namespace {
constexpr int32_t kClaimCountMax = 512;
constexpr int64_t kClaimPatienceMs = 1;
}  // namespace

// Claims at once when many places are free, so that acknowledgements and the next lease share a commit in large groups;
// a few free places wait a moment for company.
void Dispatcher::claim_more(Queue& queue) {
  if (queue.is_claiming || !queue.has_backlog || is_closing_) return;
  const int32_t free = queue.in_flight_max - queue.in_flight;
  if (free <= 0) return;
  if (free >= queue.in_flight_max / 4 || free >= kClaimCountMax / 2) {
    claim(queue, std::min(free, kClaimCountMax));
    return;
  }
  if (queue.is_claim_due) return;
  queue.is_claim_due = true;
  loop_.after(kClaimPatienceMs, [this, self = self_, &queue] {
    if (*self == nullptr) return;
    queue.is_claim_due = false;
    const int32_t places = queue.in_flight_max - queue.in_flight;
    if (places > 0 && queue.has_backlog && !queue.is_claiming && !is_closing_) {
      claim(queue, std::min(places, kClaimCountMax));
    }
  });
}

void Dispatcher::claim(Queue& queue, int32_t count) {
  flush();  // what has ended goes first, into the same group commit
  queue.is_claiming = true;
  queue.has_backlog = false;  // what is queued from now on may miss this claim, and says so
  ClaimRequest request;
  request.queue = queue.name;
  request.count_max = count;
  request.owner = options_.owner;
  request.now = loop_.wall_ms();
  request.lease_until = request.now + options_.lease_ms;
  store_.claim(std::move(request), [this, self = self_, &queue, count](Result<ClaimAnswer> claimed) {
    if (*self != nullptr) on_claimed(queue, count, std::move(claimed));
  });
}

void Dispatcher::on_claimed(Queue& queue, int32_t asked, Result<ClaimAnswer> claimed) {
  queue.is_claiming = false;
  if (!claimed) return;  // the store is poisoned; every later write says so
  if (static_cast<int32_t>(claimed->runs.size()) == asked) queue.has_backlog = true;
  queue.is_limited = claimed->is_limited;
  if (claimed->more_at >= 0) claim_at(queue, claimed->more_at);
  for (RunHistory& history : claimed->runs) {
    ++queue.in_flight;
    activate(queue, std::move(history));
  }
  claim_more(queue);
  flush();
}

// The queue's rate lets the next run through at `at`.
void Dispatcher::claim_at(Queue& queue, WallMs at) {
  loop_.after(std::max<int64_t>(at - loop_.wall_ms(), 0), [this, self = self_, &queue] {
    if (*self == nullptr) return;
    queue.has_backlog = true;
    claim_more(queue);
  });
}

void Dispatcher::set_limits(const std::string& name, const QueueLimits& limits, StatusDone done) {
  const auto known = queues_.find(name);
  Queue* queue = known == queues_.end() ? nullptr : known->second.get();
  store_.set_limits(
      name, limits,
      [this, self = self_, queue, is_any = limits.is_any(), done = std::move(done)](Status status) mutable {
        if (*self == nullptr) return;
        if (queue != nullptr && status.is_ok()) {
          queue->is_limited = is_any;
          queue->has_backlog = true;
          claim_more(*queue);
        }
        done(std::move(status));
      });
}

void Dispatcher::keep(Document document, StatusDone done) {
  Transition transition;
  transition.at = document.at = loop_.wall_ms();
  transition.document = std::make_unique<Document>(std::move(document));
  Continuation continuation;
  continuation.done = std::move(done);
  transitions_.push_back(std::move(transition));
  continuations_.push_back(std::move(continuation));
  flush();
}

void Dispatcher::activate(Queue& queue, RunHistory history) {
  const RunId run = history.row.run;
  // A claim of a run that we hold means that we lost its lease without noticing: the older activation stops.
  if (const auto held = active_.find(run); held != active_.end()) {
    if (!held->second->machine.is_done()) --held->second->queue->in_flight;
    stop(run, *held->second, {});
    drop(run);
  }
  auto active = std::make_unique<Active>(history, options_.seed ^ static_cast<uint64_t>(run));
  active->queue = &queue;
  active->priority = history.row.priority;
  Active& kept = *active;
  active_.emplace(run, std::move(active));
  // What was recorded counts for a run: one that gets on in each of its lives is no poison.
  if (history.row.claims > options_.limits.crashes_max + static_cast<int64_t>(history.events.size())) {
    Input end;
    end.kind = InputKind::kRunCrashed;
    end.payload = error_payload(code::kRunCrashed,
                                "run " + run_name(run) + " was taken up " + std::to_string(history.row.claims) +
                                    " times and never finished: it is kept as a dead letter",
                                0, false);
    feed(run, kept, std::move(end));
    return;
  }
  if (history.row.claims > options_.limits.crashes_alone_min) {
    if (trial_ != 0) return put_aside(run, kept, std::move(history));
    begin_trial(run, kept);
  }
  hand_over(run, kept, std::move(history));
}

void Dispatcher::hand_over(RunId run, Active& active, RunHistory history) {
  Input taken_up;
  taken_up.kind = InputKind::kTakenUp;
  feed(run, active, std::move(taken_up));
  if (active.machine.is_done()) return;  // it was cancelled or paused meanwhile
  Item& out = items_.emplace_back();
  out.kind = ItemKind::kActivate;
  out.channel = active.queue->channel;
  out.run = run;
  out.token = history.row.token;
  out.text = std::move(history.row.workflow);
  out.payload = std::move(history.row.input);
  out.budgets = std::move(history.row.budgets);
  out.history = std::move(history.events);
}

void Dispatcher::wait(RunId run, WaitDone done) {
  const auto known = waiters_.find(run);
  if (known != waiters_.end() || active_.contains(run)) {
    waiters_[run].push_back(Waiter{0, std::move(done)});
    return;
  }
  // Completions come in order: if the run ends after this look, its release comes after the waiter is in place.
  store_.load(run, [this, self = self_, run, done = std::move(done)](Result<RunHistory> found) mutable {
    if (*self == nullptr) return;
    if (!found) {
      done(found.error());
      return;
    }
    if (!is_final(found->row.status)) {
      waiters_[run].push_back(Waiter{0, std::move(done)});
      return;
    }
    if (!found->row.damage.is_ok()) {
      done(found->row.damage);
      return;
    }
    StartAnswer answer;
    answer.run = run;
    answer.run_status = found->row.status;
    answer.result = std::move(found->row.result);
    done(std::move(answer));
  });
}

void Dispatcher::cancel(RunId run, StatusDone done) {
  // Whoever took the run over, or laid it aside, before this was committed: it is looked for again.
  StatusDone told = [this, self = self_, run, done = std::move(done)](Status status) mutable {
    if (*self != nullptr && status.kind() == StatusKind::kFenced) return cancel(run, std::move(done));
    done(std::move(status));
  };
  const auto held = active_.find(run);
  if (held != active_.end() && !held->second->machine.is_done()) {
    Input input;
    input.kind = InputKind::kCancelRequested;
    feed(run, *held->second, std::move(input));
    continuations_.back().told = std::move(told);
    flush();
    return;
  }
  // It may be about to end, or to be laid aside: what is on its way to the store comes before this look.
  flush();
  store_.load(run, [this, self = self_, run, told = std::move(told)](Result<RunHistory> found) mutable {
    if (*self == nullptr) return;
    if (!found || is_final(found->row.status)) {
      told(found.error());
      return;
    }
    if (active_.contains(run)) {  // claimed meanwhile
      cancel(run, std::move(told));
      return;
    }
    RunMachine machine(*found, options_.seed);
    Input input;
    input.kind = InputKind::kCancelRequested;
    Decision decision = machine.decide(std::move(input), loop_.now_ms());
    Transition transition;
    transition.run = run;
    transition.token = found->row.token;
    transition.first_seq = found->row.event_count;
    transition.at = loop_.wall_ms();
    Payload payload = decision.commands.back().payload;
    transition.end = std::move(decision.end);
    transition.events = std::move(decision.events);
    for (Event& event : transition.events) event.at = transition.at;
    transition.spends = std::move(decision.spends);
    transition.wake_id = next_wake_ids();
    transition.messages = std::move(decision.messages);
    for (Message& message : transition.messages) {
      message.id = next_run_id();
      message.at = transition.at;
    }
    Continuation continuation;
    continuation.run = run;
    continuation.messages = transition.messages;
    continuation.done = [this, run, payload = std::move(payload), told = std::move(told)](Status status) mutable {
      if (status.is_ok()) release_run(run, RunStatus::kCancelled, payload);
      told(std::move(status));
    };
    transitions_.push_back(std::move(transition));
    continuations_.push_back(std::move(continuation));
    flush();
  });
}

void Dispatcher::send(std::vector<HttpRequest> requests, uint64_t ticket) {
  for (HttpRequest& request : requests) {
    ++counters_.calls_sent;
    ++counters_.calls_in_flight;
    transport_.send(std::move(request), [this, self = self_, ticket](HttpOutcome outcome) {
      if (*self == nullptr) return;
      --counters_.calls_in_flight;
      Item& item = items_.emplace_back();
      item.kind = ItemKind::kHttp;
      item.channel = channel_of(ticket);
      item.ticket = ticket;
      item.outcome = std::make_unique<HttpOutcome>(std::move(outcome));
      schedule_flush();
    });
    ++ticket;
  }
}

Counters Dispatcher::counters() const {
  Counters counters = counters_;
  counters.runs_in_flight = static_cast<int64_t>(active_.size());
  admission_.add_to(counters);
  return counters;
}

int64_t Dispatcher::asking_count() const {
  int64_t count = 0;
  for (const auto& [run, active] : active_) count += static_cast<int64_t>(active->answers.size());
  return count;
}

void Dispatcher::renew() {
  loop_.after(options_.lease_ms / 3, [this, self = self_] {
    if (*self == nullptr || is_closing_) return;
    if (!active_.empty()) store_.renew(options_.owner, loop_.wall_ms() + options_.lease_ms, [](const Status&) {});
    look_everywhere();  // leases of others may have ended
    look_for_due();     // the wall clock may have jumped
    renew();
  });
}

void Dispatcher::release_all(StatusDone done) {
  is_closing_ = true;
  auto last = std::make_shared<StatusDone>(std::move(done));
  std::vector<RunId> runs;
  for (auto& [run, active] : active_) {
    if (!active->machine.is_done()) runs.push_back(run);
  }
  for (const RunId run : runs) {
    Active& active = *active_.at(run);
    Transition transition;
    transition.run = run;
    transition.token = active.token;
    transition.first_seq = active.machine.next_seq();
    transition.at = loop_.wall_ms();
    transition.release = true;
    Continuation continuation;
    continuation.run = run;
    continuation.done = [](const Status&) {};
    transitions_.push_back(std::move(transition));
    continuations_.push_back(std::move(continuation));
    stop(run, active,
         error_payload(code::kClosed, "the engine was closed; the run goes on when it is opened again", 0, true));
    drop(run);
  }
  flush();
  // Answered after everything that was committed before it.
  store_.renew(options_.owner, 0, [last](const Status&) { (*last)(Status::ok()); });
}

}  // namespace stepwell::detail
