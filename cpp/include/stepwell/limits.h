// What calls wait for before they are sent: the limits of a bucket, and the breaker of a circuit.
//
// Plain values, any thread. A bucket is one provider, model and key; a circuit one host, model and key. Both live in
// one process: what they have learned is learned again after a restart, beginning without a burst. Limits go by the
// name of a bucket without its key, "openai:gpt-4o", else "openai:*", else "*"; breakers by "host/model", else the
// host, else "*".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stepwell/types.h"

namespace stepwell {

// 0: no such limit.
struct CallRates {
  int64_t requests_per_minute = 0;
  int64_t tokens_per_minute = 0;
  int64_t concurrency = 0;  // calls in flight
};

struct CallLimits {
  CallRates all;
  CallRates tenant;          // of each tenant within them
  int64_t burst_ms = 1'000;  // so much of a minute may go at once after a rest; providers enforce far below the minute
};

// When a peer counts as down: `failures_min` of the last `window` calls, and `failure_percent` of them, failed by its
// fault; or so many were slow.
struct BreakerPolicy {
  int32_t window = 64;        // 1 to 64
  int32_t failures_min = 20;  // more than the window: it never opens
  int32_t failure_percent = 50;
  int64_t slow_ms = 0;  // 0: no call is slow
  int32_t slow_percent = 80;
  int64_t cool_down_ms = 5'000;  // doubles with each opening in a row, up to the maximum
  int64_t cool_down_ms_max = 300'000;
  int32_t probes_max = 1;     // calls let through at once when it has cooled down
  int32_t successes_min = 2;  // good ones in a row that close it
  // Retries may be so much of the first attempts, and so many a second in any case (Finagle's RetryBudget: 20, 10).
  int32_t retry_percent = 20;
  int32_t retries_per_second_min = 10;
};

enum class CircuitState : uint8_t { kClosed, kOpen, kHalfOpen };

// A bucket as it stands.
struct BucketView {
  std::string name;
  CallLimits limits;           // as they were set
  CallRates learned;           // from the peer's answers; 0: it did not say
  int64_t requests_room = -1;  // that may go now; -1: no limit is known
  int64_t tokens_room = -1;
  int64_t window = -1;  // calls in flight that it lets through at present; -1: no bound
  int64_t in_flight = 0, waiting = 0, tenants = 0;
  int64_t sent = 0, held = 0, throttled = 0;  // since open; throttled: answered 429
  int64_t tokens_used = 0;                    // as the peer counted them, else as estimated
  WallMs paused_until = -1;                   // the peer asked for it; -1: not paused
};

struct CircuitView {
  std::string name;
  CircuitState state = CircuitState::kClosed;
  WallMs open_until = -1;
  int64_t calls = 0, failures = 0;                   // among the last that count
  int64_t openings = 0, held = 0, retries_held = 0;  // since open
};

struct CallsView {
  std::vector<BucketView> buckets;
  std::vector<CircuitView> circuits;
};

}  // namespace stepwell
