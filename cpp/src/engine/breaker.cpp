#include "engine/breaker.h"

#include <algorithm>
#include <bit>

#include "base/random.h"

namespace stepwell::detail {

namespace {
constexpr int64_t kStaleMs = 10 * kMinuteMs;  // outcomes say nothing about a peer that was left alone for so long
constexpr int64_t kProbeWaitMs = 1'000;       // until it is known what the probes brought
constexpr int32_t kDoublingsMax = 16;
// Retries that first attempts have saved up: at most so many, so that a good hour does not feed a bad one.
constexpr int64_t kSavedPercentMax = int64_t{1'000} * 100;
}  // namespace

// --- Breaker ---

void Breaker::set_policy(const BreakerPolicy& policy) {
  policy_ = policy;
  policy_.window = std::clamp(policy.window, 1, 64);
  policy_.failures_min = std::max(policy.failures_min, 1);
  policy_.probes_max = std::max(policy.probes_max, 1);
  policy_.successes_min = std::max(policy.successes_min, 1);
  policy_.cool_down_ms = std::max<int64_t>(policy.cool_down_ms, 1);
  policy_.cool_down_ms_max = std::max(policy.cool_down_ms_max, policy_.cool_down_ms);
}

CircuitState Breaker::state(int64_t now_ms) const {
  return state_ == CircuitState::kOpen && now_ms >= open_until_ms_ ? CircuitState::kHalfOpen : state_;
}

int64_t Breaker::wait_ms(int64_t now_ms) const {
  switch (state(now_ms)) {
    case CircuitState::kClosed:
      return 0;
    case CircuitState::kOpen:
      return open_until_ms_ - now_ms;
    case CircuitState::kHalfOpen:
      break;
  }
  return state_ == CircuitState::kHalfOpen && probes_out_ >= policy_.probes_max ? kProbeWaitMs : 0;
}

BreakerPass Breaker::enter(int64_t now_ms) {
  if (state_ == CircuitState::kOpen) {
    state_ = CircuitState::kHalfOpen;
    probes_out_ = successes_ = 0;
    ++epoch_;
  }
  if (state_ == CircuitState::kHalfOpen) {
    ++probes_out_;
    return {epoch_, true};
  }
  if (now_ms - last_ms_ > kStaleMs) count_ = 0;
  last_ms_ = now_ms;
  return {epoch_, false};
}

bool Breaker::leave(const BreakerPass& pass, CallOutcome outcome, int64_t took_ms, int64_t now_ms,
                    uint64_t& random_state) {
  if (pass.epoch != epoch_) return false;
  const bool is_fault = outcome == CallOutcome::kFault;
  if (pass.is_probe) {
    --probes_out_;
    if (outcome == CallOutcome::kUnknown) return false;
    if (is_fault) {
      open(now_ms, random_state);
      return true;
    }
    if (++successes_ >= policy_.successes_min) close();
    return false;
  }
  if (state_ != CircuitState::kClosed || outcome == CallOutcome::kUnknown) return false;
  const bool is_slow = policy_.slow_ms > 0 && took_ms >= policy_.slow_ms;
  failed_ = failed_ << 1U | (is_fault ? 1U : 0U);
  slow_ = slow_ << 1U | (is_slow ? 1U : 0U);
  count_ = std::min(count_ + 1, policy_.window);
  if (!is_too_bad()) {
    // A window that is good again has forgotten how often it was bad.
    if (count_ == policy_.window) openings_in_a_row_ = 0;
    return false;
  }
  open(now_ms, random_state);
  return true;
}

bool Breaker::is_too_bad() const {
  const uint64_t mask = count_ >= 64 ? ~uint64_t{0} : (uint64_t{1} << static_cast<unsigned>(count_)) - 1;
  const auto is_over = [this](int count, int32_t percent) {
    return count >= policy_.failures_min && count * 100 >= percent * count_;
  };
  return is_over(std::popcount(failed_ & mask), policy_.failure_percent) ||
         (policy_.slow_ms > 0 && is_over(std::popcount(slow_ & mask), policy_.slow_percent));
}

void Breaker::open(int64_t now_ms, uint64_t& random_state) {
  int64_t cool_down = policy_.cool_down_ms;
  for (int32_t n = 0; n < std::min(openings_in_a_row_, kDoublingsMax) && cool_down < policy_.cool_down_ms_max; ++n) {
    cool_down *= 2;
  }
  cool_down = std::min(cool_down, policy_.cool_down_ms_max);
  // Half of it is jitter, so that engines that saw one outage do not come back as one.
  cool_down_ms_ = cool_down - cool_down / 2 + random_up_to(random_state, cool_down / 2);
  open_until_ms_ = now_ms + cool_down_ms_;
  state_ = CircuitState::kOpen;
  ++epoch_;
  ++openings_in_a_row_;
  ++openings_;
  count_ = 0;
}

void Breaker::close() {
  state_ = CircuitState::kClosed;
  ++epoch_;
  count_ = 0;
}

void Breaker::look(CircuitView& view, int64_t now_ms, WallMs wall_ms) const {
  const uint64_t mask = count_ >= 64 ? ~uint64_t{0} : (uint64_t{1} << static_cast<unsigned>(count_)) - 1;
  view.state = state(now_ms);
  view.open_until = view.state == CircuitState::kOpen ? wall_ms + open_until_ms_ - now_ms : -1;
  view.calls = count_;
  view.failures = std::popcount(failed_ & mask);
  view.openings = openings_;
}

// --- RetryBudget ---

void RetryBudget::set_policy(const BreakerPolicy& policy, int64_t now_ms) {
  percent_ = std::max(policy.retry_percent, 0);
  const int64_t floor = std::max(policy.retries_per_second_min, 1);
  floor_.set_rate(floor, 1'000, floor, now_ms);
}

void RetryBudget::on_first_attempt() { saved_percent_ = std::min(saved_percent_ + percent_, kSavedPercentMax); }

int64_t RetryBudget::wait_ms(int64_t now_ms) { return saved_percent_ >= 100 ? 0 : floor_.wait_ms(1, now_ms); }

void RetryBudget::on_retry(int64_t now_ms) {
  if (floor_.wait_ms(1, now_ms) == 0) {
    floor_.take(1, now_ms);
  } else {
    saved_percent_ -= 100;
  }
}

}  // namespace stepwell::detail
