#include "engine/retry.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "base/random.h"

namespace stepwell::detail {

namespace {
constexpr int64_t kRetryAfterMsMax = 3'600'000;
}  // namespace

RetryDecision decide_retry(const RetryPolicy& policy, const FailedAttempt& failed, uint64_t& random_state) {
  if (!failed.retryable || failed.attempt >= policy.attempts_max) return {};
  const int64_t base = std::max<int64_t>(policy.backoff_base_ms, 0);
  const int64_t cap_max = std::max<int64_t>(policy.backoff_cap_ms, 0);
  int64_t cap = base;
  for (int32_t n = 1; n < failed.attempt && cap < cap_max; ++n) cap *= 2;  // stops at the cap, so it cannot overflow
  int64_t delay = random_up_to(random_state, std::min(cap, cap_max));
  if (failed.retry_after_ms >= 0) {
    // The peer's word is a lower bound; the jitter on top keeps a thousand callers from coming back at one instant.
    delay += std::min(failed.retry_after_ms, kRetryAfterMsMax);
  }
  if (failed.elapsed_ms + delay > policy.elapsed_ms_max) return {};
  return {true, delay};
}

bool is_retryable_status(int32_t status, bool repeatable) {
  switch (status) {
    case 429:
    case 503:
      return true;
    case 408:
    case 425:
    case 500:
    case 502:
    case 504:
    case 529:
      return repeatable;
    default:
      return false;
  }
}

bool is_retryable_kind(const std::string& kind) {
  static constexpr std::string_view kFinal[] = {
      "invalid_request_error", "authentication_error", "permission_error",    "not_found_error", "request_too_large",
      "billing_error",         "insufficient_quota",   "invalid_prompt",      "content_filter",  "INVALID_ARGUMENT",
      "UNAUTHENTICATED",       "PERMISSION_DENIED",    "FAILED_PRECONDITION", "NOT_FOUND",
  };
  return std::find(std::begin(kFinal), std::end(kFinal), kind) == std::end(kFinal);
}

bool is_maybe_done_status(int32_t status) { return status == 408 || (status >= 500 && status != 503); }

}  // namespace stepwell::detail
