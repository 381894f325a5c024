// Whether and when a failed attempt is tried again. The only place that decides it.
#pragma once

#include <cstdint>
#include <string>

#include "stepwell/types.h"

namespace stepwell::detail {

struct RetryDecision {
  bool again = false;
  int64_t delay_ms = 0;
};

// What one attempt's failure looked like.
struct FailedAttempt {
  int32_t attempt = 1;          // the one that failed, from 1
  bool retryable = false;       // by its kind
  int64_t retry_after_ms = -1;  // what the peer asked for: a lower bound, clamped to one hour
  int64_t elapsed_ms = 0;       // since the first attempt began in this process
};

// Full jitter over an exponential cap. `random_state` advances only when a delay is drawn.
RetryDecision decide_retry(const RetryPolicy& policy, const FailedAttempt& failed, uint64_t& random_state);

// Whether an HTTP status may be tried again at all (RFC 9110 and the providers' pages: 408, 425, 429, 500, 502, 503,
// 504, 529). Without `repeatable`, only those by which the peer says that it did not do the work: 429 and 503.
bool is_retryable_status(int32_t status, bool repeatable);

// Whether an error that a peer reports inside a stream, by its own word for the kind, may pass by itself. Unknown words
// may; those that say that the request is wrong, unpaid or not allowed do not.
bool is_retryable_kind(const std::string& kind);

// Whether a peer that answers so may have done, and charged, the work: it does not say that it refused it.
bool is_maybe_done_status(int32_t status);

}  // namespace stepwell::detail
