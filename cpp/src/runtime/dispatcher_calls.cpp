// The dispatcher's part that sends calls: through the admission stage to the transport, and back to the machine.
#include "base/check.h"
#include "engine/judge.h"
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

void Dispatcher::on_ruling(const CallRef& call, Ruling ruling) {
  const auto found = active_.find(call.run);
  STEPWELL_CHECK(found != active_.end() && found->second->token == call.token, "a dropped call is withdrawn");
  Active& active = *found->second;
  if (ruling.kind == RulingKind::kSend) {
    const auto running = active.calls.find(call.step);
    STEPWELL_CHECK(running != active.calls.end(), "a call in line is a call of its run");
    running->second->place = 0;
    transmit(call, running->second, ruling.pass);
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

void Dispatcher::transmit(const CallRef& call, std::shared_ptr<RunningCall> running, const CallPass& pass) {
  ++counters_.calls_sent;
  ++counters_.calls_in_flight;
  send_attempt(transport_, std::move(running), loop_.wall_ms(),
               [this, self = self_, call, pass, begun = loop_.now_ms()](Verdict verdict) {
                 if (*self == nullptr) return;
                 --counters_.calls_in_flight;
                 admission_.settle(pass, verdict);
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
                 input.took_ms = loop_.now_ms() - begun;
                 input.payload = std::move(verdict.payload);
                 feed(call.run, *found->second, std::move(input));
                 schedule_flush();
               });
}

}  // namespace stepwell::detail
