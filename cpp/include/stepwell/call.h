// A call: one outbound HTTP request that a run waits for, with its attempts and its outcome.
//
// The core sends it, judges the answer, retries it and records the outcome before Python sees it. The request itself is
// not recorded (it may hold a credential; replay makes it again); the answer's body is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "stepwell/budget.h"
#include "stepwell/http.h"
#include "stepwell/types.h"

namespace stepwell {

// When an answer counts as a success. A status of 200 alone is not enough: proxies answer HTML, streams are cut.
struct JudgeRule {
  bool json_body = false;        // the body must be one whole JSON text (RFC 8259)
  std::string required_pointer;  // and hold something at this JSON pointer (RFC 6901); empty: no demand
};

// Where an answer says what the call used: JSON pointers (RFC 6901) to counts of tokens; those of a list are summed.
// `cached` is a part of the input. Empty: it does not say.
struct UsageRule {
  std::vector<std::string> input;
  std::vector<std::string> output;
  std::string cached;
};

// Tokens as the peer counted them; -1: it did not say.
struct Usage {
  int64_t input = -1;
  int64_t output = -1;
  int64_t cached = 0;
};

// What a call waits for before it is sent. Empty names: for nothing.
struct Admission {
  std::string bucket;   // whose limits: a provider, model and key
  std::string circuit;  // whose breaker: a host, model and key
  std::string tenant;   // tenants take turns in a bucket's line
  int64_t tokens = 0;   // what it may use at most, by estimate: reserved, and settled from the answer's usage
  UsageRule usage;
  bool fails_when_open = false;  // instead of waiting for its circuit: somebody else can be asked
};

// How an answer that comes as server-sent events (WHATWG HTML, section 9.2) is read. It ends with an event of one of
// the names, or with this data; without such an end it was cut off. A rule that names no end takes a whole body for it.
// Events "ping" and comments say nothing.
struct StreamRule {
  std::vector<std::string> text_pointers;  // the first that an event's data holds a string at is its piece of text
  std::vector<std::string> end_events;
  std::string end_data;
  std::vector<std::string> error_pointers;  // data that holds one of these is an error, whatever the status was
  std::vector<std::string> text_events;     // only events of these names or "/type" hold text; empty: any
  std::vector<std::string> last_pointers;  // with neither end: what one of the events of a whole stream holds; empty: -
  int64_t idle_ms_max = 120'000;           // without an event; a peer that only keeps the connection alive says nothing
  int64_t event_bytes_max = 4 << 20;       // of one event
  int64_t text_bytes_max = 8 << 20;        // of all pieces; and of all other events
  int64_t body_bytes_max = 256 << 20;      // of the body as it is sent, which is not kept
};

struct CallSpec {
  HttpRequest request;
  JudgeRule judge;
  RetryPolicy retry;
  Admission admission;
  Spending spending;
  std::optional<StreamRule> stream;
  // Whether the operation may be repeated when it is unknown if the peer has done it (promise 6). A classification may:
  // the worst is to pay twice. Otherwise an attempt that may have been seen ends the call as failed, in doubt.
  bool repeatable = false;
};

// What a peer says of one of its limits; -1: it does not say.
struct RateLevel {
  int64_t limit = -1;      // a period
  int64_t remaining = -1;  // of it
  int64_t reset_ms = -1;   // until all of it remains again
};

struct PeerLimits {
  RateLevel requests;
  RateLevel tokens;
};

// Whose matter it is that an attempt failed.
enum class Blame : uint8_t {
  kNobody,    // it did not
  kPeer,      // down: no connection, no whole answer in time, 5xx
  kThrottle,  // it wants to be asked less: 429
  kOurs,      // the request, or who asked for it; the peer is well
  kUnknown,   // nothing is known of the peer: cancelled, refused by a guard, not trusted
};

// What one attempt came to.
struct Verdict {
  bool ok = false;
  bool retryable = false;
  Blame blame = Blame::kNobody;
  bool maybe_done = false;      // it failed, and the peer may have done (and charged) it all the same
  int64_t retry_after_ms = -1;  // lower bound the peer asked for; -1: none
  Usage usage;
  PeerLimits limits;
  Payload payload;  // the body, or the error as JSON {code, message, status, retryable}
};

}  // namespace stepwell
