// A call: one outbound HTTP request that a run waits for, with its attempts and its outcome.
//
// The core sends it, judges the answer, retries it and records the outcome before Python sees it. The request itself is
// not recorded (it may hold a credential; replay makes it again); the answer's body is.
#pragma once

#include <string>

#include "stepwell/http.h"
#include "stepwell/types.h"

namespace stepwell {

// When an answer counts as a success. A status of 200 alone is not enough: proxies answer HTML, streams are cut.
struct JudgeRule {
  bool json_body = false;        // the body must be one whole JSON text (RFC 8259)
  std::string required_pointer;  // and hold something at this JSON pointer (RFC 6901); empty: no demand
};

struct CallSpec {
  HttpRequest request;
  JudgeRule judge;
  RetryPolicy retry;
  // Whether the operation may be repeated when it is unknown if the peer has done it (promise 6). A classification may:
  // the worst is to pay twice. Otherwise an attempt that may have been seen ends the call as failed, in doubt.
  bool repeatable = false;
};

// What one attempt came to.
struct Verdict {
  bool ok = false;
  bool retryable = false;
  int64_t retry_after_ms = -1;  // lower bound the peer asked for; -1: none
  Payload payload;              // the body, or the error as JSON {code, message, status, retryable}
};

}  // namespace stepwell
