// LimitedHttp: a peer with limits, in virtual time: an LLM provider that counts requests and tokens a minute, answers
// 429 above that, and may tell its limits in its headers.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "sim/sim_loop.h"
#include "stepwell/http.h"

namespace stepwell::sim {

struct PeerSettings {
  int64_t requests_per_minute = 500;
  int64_t tokens_per_minute = 90'000;
  int64_t burst_ms = 60'000;  // what may come at once: as much as is due in it
  bool tells_limits = true;
  int64_t latency_ms_min = 300;
  int64_t latency_ms_max = 1'500;
  bool is_down = false;  // answers 503 at once
};

// A request's body is what it will use, in plain digits. The answer holds {"value": ..., "usage": {"tokens": N}}.
class LimitedHttp final : public HttpTransport {
 public:
  LimitedHttp(SimClock& clock, Loop& loop, PeerSettings settings);

  CallId send(HttpRequest request, HttpDone done) override;
  CallId stream(HttpRequest request, HttpBody, HttpDone done) override {
    return send(std::move(request), std::move(done));  // it has no streams
  }
  void cancel(CallId call) override;

  PeerSettings settings;
  [[nodiscard]] int64_t request_count() const { return request_count_; }
  [[nodiscard]] int64_t throttled_count() const { return throttled_count_; }
  [[nodiscard]] int64_t token_count() const { return token_count_; }
  [[nodiscard]] int64_t in_flight_most() const { return in_flight_most_; }

 private:
  // Fills evenly up to what it holds. Not the engine's own meter: a bug there must not hide itself.
  struct Level {
    double limit = 0;  // a minute
    double most = 0;
    double left = 0;
    int64_t at_ms = 0;
    void refill(int64_t now_ms);
    [[nodiscard]] int64_t wait_ms(double cost) const;
  };
  HttpOutcome answer(const HttpRequest& request);

  SimClock& clock_;
  Loop& loop_;
  Level requests_;  // full at first, as real ones are
  Level tokens_;
  std::unordered_map<CallId, HttpDone> in_flight_;
  CallId next_call_ = 1;
  int64_t request_count_ = 0;
  int64_t throttled_count_ = 0;
  int64_t token_count_ = 0;
  int64_t in_flight_most_ = 0;
};

}  // namespace stepwell::sim
