#include "sim/limited_http.h"

#include <algorithm>
#include <cstdlib>

namespace stepwell::sim {

LimitedHttp::LimitedHttp(SimClock& clock, Loop& loop, PeerSettings given)
    : settings(given), clock_(clock), loop_(loop) {
  requests_.set_rate(settings.requests_per_minute, detail::kMinuteMs, settings.requests_per_minute, clock.now_ms());
  tokens_.set_rate(settings.tokens_per_minute, detail::kMinuteMs, settings.tokens_per_minute, clock.now_ms());
}

CallId LimitedHttp::send(HttpRequest request, HttpDone done) {
  const CallId call = next_call_++;
  in_flight_.emplace(call, std::move(done));
  in_flight_most_ = std::max(in_flight_most_, static_cast<int64_t>(in_flight_.size()));
  // It is counted when it arrives, and answered later, unless it is refused.
  loop_.after(clock_.draw(20), [this, call, request = std::move(request)] {
    if (!in_flight_.contains(call)) return;
    HttpOutcome outcome = answer(request);
    const int64_t latency =
        outcome.response.status == 200
            ? settings.latency_ms_min + clock_.draw(settings.latency_ms_max - settings.latency_ms_min)
            : clock_.draw(20);
    loop_.after(latency, [this, call, outcome = std::move(outcome)]() mutable {
      auto found = in_flight_.extract(call);
      if (!found.empty()) found.mapped()(std::move(outcome));
    });
  });
  return call;
}

HttpOutcome LimitedHttp::answer(const HttpRequest& request) {
  const int64_t now = clock_.now_ms();
  const int64_t tokens = std::strtoll(request.body.c_str(), nullptr, 10);
  ++request_count_;
  HttpOutcome outcome;
  outcome.maybe_sent = true;
  HttpResponse& response = outcome.response;
  if (settings.is_down) {
    response.status = 503;
    return outcome;
  }
  const int64_t wait = std::max(requests_.wait_ms(1, now), tokens_.wait_ms(tokens, now));
  response.status = wait > 0 ? 429 : 200;
  if (wait > 0) {
    ++throttled_count_;
    response.headers.emplace_back("retry-after-ms", std::to_string(wait));
  } else {
    requests_.take(1, now);
    tokens_.take(tokens, now);
    token_count_ += tokens;
    response.body = R"({"value":")" + request.url + R"(","usage":{"tokens":)" + std::to_string(tokens) + "}}";
  }
  if (!settings.tells_limits) return outcome;
  const auto tell = [&](const std::string& what, detail::Meter& meter) {
    const int64_t left = meter.room(now);
    response.headers.emplace_back("x-ratelimit-limit-" + what, std::to_string(meter.units()));
    response.headers.emplace_back("x-ratelimit-remaining-" + what, std::to_string(left));
    response.headers.emplace_back("x-ratelimit-reset-" + what,
                                  std::to_string(meter.cost_ms(meter.units() - left)) + "ms");
  };
  tell("requests", requests_);
  tell("tokens", tokens_);
  return outcome;
}

void LimitedHttp::cancel(CallId call) {
  auto found = in_flight_.extract(call);
  if (found.empty()) return;
  loop_.post([done = std::move(found.mapped())]() mutable {
    HttpOutcome outcome;
    outcome.status = Status(StatusKind::kCancelled, code::kHttpBroken, "the call was cancelled");
    outcome.maybe_sent = true;
    done(std::move(outcome));
  });
}

}  // namespace stepwell::sim
