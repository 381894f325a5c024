// The words of the design as types: runs, payloads, times, retry policies.
//
// Plain values: copy and move them freely, on any thread.
#pragma once

#include <cstdint>
#include <string>

namespace stepwell {

// A run's name inside one store: time-ordered, so rows are appended, and unique across engines that share a store.
// People see it as "r_" and hexadecimal digits.
using RunId = int64_t;
std::string run_name(RunId run);

// Opaque user bytes; JSON by convention, never interpreted by the engine.
using Payload = std::string;

// Milliseconds since 1970 (UTC): only for what is persisted. Durations come from Loop::now_ms.
using WallMs = int64_t;

// Grows by one each time a run is claimed. A write that carries an older token is refused (promise 4).
using LeaseToken = int64_t;

// One running engine. Random, so that a restored backup cannot revive an old owner.
using OwnerId = int64_t;

// Where a run stands. The numbers are stored; they never change their meaning. A final one never changes again.
enum class RunStatus : uint8_t {
  kQueued = 0,       // accepted, waits for a worker
  kRunning = 1,      // leased
  kSucceeded = 2,    // final: result holds the answer
  kFailed = 3,       // final: error says why
  kCancelled = 4,    // final
  kDead = 5,         // final: gave up after too many crashes; kept for replay
  kWaiting = 6,      // parked in the store until its wake time or a message, in nobody's memory
  kPaused = 7,       // held until somebody resumes it
  kCompensated = 8,  // final: failed, and what its steps had done was undone
};
inline bool is_final(RunStatus status) {
  return (status >= RunStatus::kSucceeded && status <= RunStatus::kDead) || status == RunStatus::kCompensated;
}

// When a failed attempt may be tried again. Full jitter: the delay is drawn from [0, min(cap, base * 2^n)].
// (AWS Architecture Blog, "Exponential Backoff And Jitter".)
struct RetryPolicy {
  int32_t attempts_max = 1;          // the first try included; 1 means no retry
  int64_t backoff_base_ms = 500;     // upper bound of the first delay
  int64_t backoff_cap_ms = 30'000;   // upper bound of any delay drawn by us
  int64_t elapsed_ms_max = 600'000;  // no further attempt starts after this long
  int64_t hedge_ms = 0;  // of a call: an attempt that takes longer is sent a second time beside it; 0: never
};

// Bounds that hold everywhere; crossing one is a coded error and loses nothing.
struct Limits {
  int64_t payload_bytes_max = 32 << 20;   // one input, result or step value
  int64_t key_bytes_max = 255;            // idempotency keys: 1 to 255 bytes
  int64_t inbox_count_max = 1 << 17;      // messages waiting for the loop thread
  int64_t outbox_count_max = 1 << 17;     // tasks and answers waiting for Python
  int64_t steps_per_run_max = 500'000;    // events of one history; a run that would need more fails
  int64_t messages_per_run_max = 10'000;  // sent to a run and not yet taken by it
  int32_t crashes_max = 10;               // a run that was claimed this often without finishing is dead-lettered
  int32_t crashes_alone_min = 3;          // from so many on, such runs are tried one at a time
};

}  // namespace stepwell
