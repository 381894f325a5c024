// What an engine has counted. Plain values, any thread.
#pragma once

#include <cstdint>

namespace stepwell {

// Counters since open; read without stopping anything.
struct Counters {
  int64_t runs_started = 0, runs_succeeded = 0, runs_failed = 0, runs_in_flight = 0;
  int64_t runs_trimmed = 0, runs_deleted = 0;  // by retention
  int64_t steps_recorded = 0, calls_sent = 0, calls_in_flight = 0, retries = 0;
  int64_t calls_hedged = 0;                                        // sent a second time beside the first
  int64_t calls_waiting = 0, calls_held = 0, calls_throttled = 0;  // in memory now; in the store; answered 429
  int64_t sla_breaches = 0, loop_inbox_count = 0, outbox_count = 0;
};

}  // namespace stepwell
