#include "sim/limited_http.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace stepwell::sim {

void LimitedHttp::Level::refill(int64_t now_ms) {
  left = std::min(most, left + static_cast<double>(now_ms - at_ms) * limit / 60'000);
  at_ms = now_ms;
}

int64_t LimitedHttp::Level::wait_ms(double cost) const {
  return left >= cost ? 0 : static_cast<int64_t>(std::ceil((cost - left) * 60'000 / limit));
}

LimitedHttp::LimitedHttp(SimClock& clock, Loop& loop, PeerSettings given)
    : settings(given), clock_(clock), loop_(loop) {
  const auto fill = [&](Level& level, int64_t a_minute) {
    level.limit = static_cast<double>(a_minute);
    level.most = level.left = level.limit * static_cast<double>(settings.burst_ms) / 60'000;
    level.at_ms = clock.now_ms();
  };
  fill(requests_, settings.requests_per_minute);
  fill(tokens_, settings.tokens_per_minute);
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
  requests_.refill(now);
  tokens_.refill(now);
  const auto cost = static_cast<double>(tokens);
  const int64_t wait = std::max(requests_.wait_ms(1), tokens_.wait_ms(cost));
  response.status = wait > 0 ? 429 : 200;
  if (wait > 0) {
    ++throttled_count_;
    response.headers.emplace_back("retry-after-ms", std::to_string(wait));
  } else {
    requests_.left -= 1;
    tokens_.left -= cost;
    token_count_ += tokens;
    response.body = R"({"value":")" + request.url + R"(","usage":{"tokens":)" + std::to_string(tokens) + "}}";
  }
  if (!settings.tells_limits) return outcome;
  const auto tell = [&](const std::string& what, const Level& level) {
    const auto whole = [](double number) { return std::to_string(static_cast<int64_t>(number)); };
    response.headers.emplace_back("x-ratelimit-limit-" + what, whole(level.limit));
    response.headers.emplace_back("x-ratelimit-remaining-" + what, whole(level.left));
    response.headers.emplace_back("x-ratelimit-reset-" + what, std::to_string(level.wait_ms(level.most)) + "ms");
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
