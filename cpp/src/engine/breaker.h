// The breaker of one circuit, and the retry budget that goes with it.
//
// Closed, open when too many of the last calls failed by the peer's fault, half-open when it has cooled down: then a
// few probes decide. Pure: times are passed in, the jitter is drawn from a seed.
#pragma once

#include <cstdint>

#include "engine/limiter.h"
#include "stepwell/limits.h"

namespace stepwell::detail {

enum class CallOutcome : uint8_t { kGood, kFault, kUnknown };  // unknown: cancelled, or never the peer's matter

// What a call that was let through brings back.
struct BreakerPass {
  uint32_t epoch = 0;  // of the breaker's states; the outcomes of an earlier one no longer count
  bool is_probe = false;
};

class Breaker {
 public:
  explicit Breaker(const BreakerPolicy& policy = {}) { set_policy(policy); }
  void set_policy(const BreakerPolicy& policy);
  [[nodiscard]] const BreakerPolicy& policy() const { return policy_; }

  // Until a call may be let through: 0 now. Changes nothing.
  [[nodiscard]] int64_t wait_ms(int64_t now_ms) const;
  // Lets a call through; wait_ms must be 0.
  BreakerPass enter(int64_t now_ms);
  // Whether it opened by this.
  bool leave(const BreakerPass& pass, CallOutcome outcome, int64_t took_ms, int64_t now_ms, uint64_t& random_state);

  [[nodiscard]] CircuitState state(int64_t now_ms) const;
  // How long it lasts when open; who is turned away spreads over a part of it.
  [[nodiscard]] int64_t cool_down_ms() const { return cool_down_ms_; }
  [[nodiscard]] int64_t open_until_ms() const { return open_until_ms_; }
  void look(CircuitView& view, int64_t now_ms, WallMs wall_ms) const;

 private:
  void open(int64_t now_ms, uint64_t& random_state);
  void close();
  [[nodiscard]] bool is_too_bad() const;

  BreakerPolicy policy_;
  CircuitState state_ = CircuitState::kClosed;
  uint32_t epoch_ = 0;
  uint64_t failed_ = 0;  // a bit a call, the newest lowest
  uint64_t slow_ = 0;
  int32_t count_ = 0;  // of bits that mean something
  int64_t last_ms_ = 0;
  int64_t open_until_ms_ = 0;
  int64_t cool_down_ms_ = 0;
  int32_t openings_in_a_row_ = 0;
  int32_t probes_out_ = 0;
  int32_t successes_ = 0;
  int64_t openings_ = 0;
};

// Retries are a share of the first attempts, so that an outage is not multiplied by them (Finagle's RetryBudget).
class RetryBudget {
 public:
  void set_policy(const BreakerPolicy& policy, int64_t now_ms);
  void on_first_attempt();
  // Until a retry may go: 0 now.
  int64_t wait_ms(int64_t now_ms);
  void on_retry(int64_t now_ms);
  // Between two retries that are granted in any case.
  [[nodiscard]] int64_t pace_ms() const { return floor_.cost_ms(1); }

 private:
  int32_t percent_ = 0;
  int64_t saved_percent_ = 0;  // a hundred are one retry
  Meter floor_;
};

}  // namespace stepwell::detail
