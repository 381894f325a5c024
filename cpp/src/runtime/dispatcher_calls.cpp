// The dispatcher's part that sends calls: through the admission stage to the transport, and back to the machine.
#include <algorithm>
#include <optional>

#include "base/check.h"
#include "engine/judge.h"
#include "engine/rate_headers.h"
#include "runtime/dispatcher.h"

namespace stepwell::detail {

void Dispatcher::send_call(RunId run, Active& active, const std::string& step, int32_t attempt) {
  const auto found = active.calls.find(step);
  if (found == active.calls.end()) return;
  // The stage may rule at once, and the call be forgotten by that.
  const std::shared_ptr<RunningCall> call = found->second;
  call->place = admission_.ask({run, active.token, step, attempt, call->spec->admission.fails_when_open},
                               call->spec->admission, active.priority);
}

void Dispatcher::on_ruling(const CallRef& call, const Ruling& ruling) {
  const auto found = active_.find(call.run);
  STEPWELL_CHECK(found != active_.end() && found->second->token == call.token, "a dropped call is withdrawn");
  Active& active = *found->second;
  if (ruling.kind == RulingKind::kSend) {
    const auto running = active.calls.find(call.step);
    STEPWELL_CHECK(running != active.calls.end(), "a call in line is a call of its run");
    running->second->place = 0;
    begin_attempt(call, running->second, ruling.pass);
    return;
  }
  Input input;
  input.step = call.step;
  input.attempt = call.attempt;
  if (ruling.kind == RulingKind::kHold) {
    input.kind = InputKind::kCallHeld;
    input.due_at = ruling.due_at;
  } else {
    input.kind = InputKind::kCallFailed;
    input.payload = error_payload(ruling.status.code(), ruling.status.message(), 0, false);
  }
  feed(call.run, active, std::move(input));
  schedule_flush();
}

// One attempt of a call: a request, and perhaps the same once more beside it.
struct Dispatcher::Attempt {
  CallRef call;
  std::shared_ptr<RunningCall> running;
  int64_t begun_ms = 0;
  int32_t in_flight = 0;
  bool is_begun = false;
  bool is_over = false;
  TimerId hedge_timer = 0;
  std::optional<Verdict> failed;  // of the request that ended first
};

void Dispatcher::begin_attempt(const CallRef& call, std::shared_ptr<RunningCall> running, const CallPass& pass) {
  const auto attempt = std::make_shared<Attempt>();
  attempt->call = call;
  attempt->running = std::move(running);
  attempt->begun_ms = loop_.now_ms();
  const CallSpec& spec = *attempt->running->spec;
  // What is streamed is shown while it comes, from one place; what is paid from a budget is not bought twice.
  if (spec.retry.hedge_ms > 0 && spec.repeatable && !spec.stream && spec.spending.budgets.empty()) {
    attempt->hedge_timer = loop_.after(spec.retry.hedge_ms, [this, self = self_, attempt] {
      if (*self != nullptr) hedge(attempt);
    });
  }
  request(attempt, pass, &RunningCall::sent);
}

void Dispatcher::hedge(const std::shared_ptr<Attempt>& attempt) {
  attempt->hedge_timer = 0;
  const std::optional<CallPass> pass = admission_.pass_beside(attempt->running->spec->admission);
  if (!pass) return;
  ++counters_.calls_hedged;
  request(attempt, *pass, &RunningCall::hedge);
}

void Dispatcher::request(const std::shared_ptr<Attempt>& attempt, const CallPass& pass, CallId RunningCall::* slot) {
  ++counters_.calls_sent;
  ++counters_.calls_in_flight;
  ++attempt->in_flight;
  CallEars ears;
  ears.begun = [this, self = self_, attempt, pass](const HttpHeaders& head) {
    if (*self == nullptr) return;
    attempt->is_begun = true;
    admission_.begun(pass, read_rate_headers(head, loop_.wall_ms()));
  };
  ears.done = [this, self = self_, attempt, ended = pass](Verdict verdict) mutable {
    if (*self == nullptr) return;
    --counters_.calls_in_flight;
    --attempt->in_flight;
    ended.is_begun = attempt->is_begun;
    admission_.settle(ended, verdict);
    on_verdict(*attempt, std::move(verdict));
  };
  send_request(transport_, attempt->running, loop_.wall_ms(), std::move(ears), slot);
}

void Dispatcher::on_verdict(Attempt& attempt, Verdict verdict) {
  if (attempt.is_over) return;
  if (!verdict.ok && verdict.retryable && attempt.in_flight > 0) {
    attempt.failed = std::move(verdict);  // the other may still be answered
    return;
  }
  attempt.is_over = true;
  if (attempt.hedge_timer != 0) loop_.cancel(attempt.hedge_timer);
  cancel_requests(transport_, *attempt.running);
  if (attempt.failed) {
    verdict.maybe_done |= attempt.failed->maybe_done;
    verdict.retry_after_ms = std::max(verdict.retry_after_ms, attempt.failed->retry_after_ms);
  }
  const CallRef& call = attempt.call;
  const auto found = active_.find(call.run);
  if (found == active_.end() || found->second->token != call.token) return;
  Input input;
  input.kind = verdict.ok ? InputKind::kCallSucceeded : InputKind::kCallFailed;
  input.attempt = call.attempt;
  input.retryable = verdict.retryable;
  input.retry_after_ms = verdict.retry_after_ms;
  input.maybe_done = verdict.maybe_done;
  input.usage = verdict.usage;
  input.step = call.step;
  input.took_ms = loop_.now_ms() - attempt.begun_ms;
  input.payload = std::move(verdict.payload);
  feed(call.run, *found->second, std::move(input));
  schedule_flush();
}

}  // namespace stepwell::detail
