// How much a peer may be asked: requests a minute, tokens a minute, calls at once.
//
// Pure: no clock, no I/O. Times are Loop::now_ms, passed in. A clock that goes back neither mints nor freezes.
#pragma once

#include <cstdint>

#include "engine/rate_headers.h"
#include "stepwell/limits.h"

namespace stepwell::detail {

// So many units a period, evenly: the generic cell rate algorithm (ITU-T I.371), kept as a level that drains instead of
// a theoretical arrival time. A level counts units times period, so that all is whole numbers and nothing is rounded.
class Meter {
 public:
  // 0 units: no limit. `burst` units may go at once. What was used stays used.
  void set_rate(int64_t units, int64_t period_ms, int64_t burst, int64_t now_ms);
  [[nodiscard]] bool is_limited() const { return units_ > 0; }
  [[nodiscard]] int64_t units() const { return units_; }
  [[nodiscard]] int64_t period_ms() const { return period_ms_; }

  // Until `cost` units may be taken. What is larger than the burst goes when nothing is left of what went before.
  int64_t wait_ms(int64_t cost, int64_t now_ms);
  // Takes units, or with a negative cost gives them back.
  void take(int64_t cost, int64_t now_ms);
  void set_used(int64_t units, int64_t now_ms);
  int64_t used(int64_t now_ms);
  // Units that may go now; -1: no limit.
  int64_t room(int64_t now_ms);
  // The same, when so many others go before.
  int64_t wait_behind_ms(int64_t ahead, int64_t cost, int64_t now_ms);
  // What so many take of the time.
  [[nodiscard]] int64_t cost_ms(int64_t cost) const;

 private:
  void drain(int64_t now_ms);

  int64_t units_ = 0;
  int64_t period_ms_ = 1;
  int64_t burst_ = 0;
  int64_t level_ = 0;
  int64_t last_ms_ = 0;
};

constexpr int64_t kMinuteMs = 60'000;
constexpr int64_t kUntilOneEnds = -1;  // an answer of wait_ms

// Limits as they were set: a tenant's.
class Limiter {
 public:
  void set_rates(const CallRates& rates, int64_t burst_ms, int64_t now_ms);
  // Until a call may go: 0 now; kUntilOneEnds.
  int64_t wait_ms(int64_t tokens, int64_t now_ms);
  // Until a call may go, by the rates alone, when so many others with so many tokens in all go before.
  int64_t wait_behind_ms(int64_t requests_ahead, int64_t tokens_ahead, int64_t tokens, int64_t now_ms);
  // What one call takes of the time; its tokens, which are an estimate, count only where requests are not limited.
  [[nodiscard]] int64_t pace_ms(int64_t tokens) const;
  void enter(int64_t tokens, int64_t now_ms);
  // `used`: what it came to; -1: as estimated.
  void leave(int64_t tokens, int64_t used, int64_t now_ms);
  [[nodiscard]] int64_t in_flight() const { return in_flight_; }

 private:
  friend class BucketLimiter;
  Meter requests_;
  Meter tokens_;
  int64_t concurrency_ = 0;
  int64_t in_flight_ = 0;
};

// A peer's count of what we sent and others did: reckoned on from what it last told, and right again with each answer.
class PeerMeter {
 public:
  // What the peer would count, had nobody else sent anything since our first call; only differences mean something.
  int64_t mark(int64_t now_ms) { return meter.used(now_ms) + unseen_; }
  void take(int64_t cost, int64_t now_ms);
  // `mark`: when the call was sent whose answer tells this. What we sent since then, and what drained, is added to it.
  void set(const RateLevel& told, int64_t period_ms, int64_t mark, int64_t now_ms);

  Meter meter;

 private:
  int64_t unseen_ = 0;  // what we know of and the meter does not, or (negative) the other way round
};

struct PeerMarks {
  int64_t requests = 0;
  int64_t tokens = 0;
};

// How a call ended, as far as limits are concerned.
struct CallEnd {
  int64_t estimate = 0;  // what it could use at most
  int64_t tokens = 0;    // that were reserved
  int64_t used = -1;     // -1: as reserved
  int64_t sent_at_ms = 0;
  PeerMarks marks;        // when it was sent
  bool is_begun = false;  // BucketLimiter::begun was told
  bool is_ok = false;
  bool is_throttled = false;  // 429
  int64_t retry_after_ms = -1;
  PeerLimits peer;
};

// A bucket's limits: those that were set, those that the peer tells, and what its 429s say (additive increase,
// multiplicative decrease of the calls in flight: Jacobson 1988, Chiu and Jain 1989).
class BucketLimiter {
 public:
  explicit BucketLimiter(int64_t now_ms);

  void set_limits(const CallLimits& limits, int64_t now_ms);
  int64_t wait_ms(int64_t tokens, int64_t now_ms);
  int64_t wait_behind_ms(int64_t requests_ahead, int64_t tokens_ahead, int64_t tokens, int64_t now_ms);
  [[nodiscard]] int64_t pace_ms(int64_t tokens) const { return own_.pace_ms(tokens); }
  // What so many calls with such estimates in all come to, as those before them did: estimates are worst cases, and a
  // limit that is reserved for them is wasted.
  [[nodiscard]] int64_t expected(int64_t estimate, int64_t calls = 1) const;
  PeerMarks enter(int64_t tokens, int64_t now_ms);
  // The peer has taken a call on, and says this, long before the call ends.
  void begun(const PeerMarks& marks, const PeerLimits& peer, int64_t now_ms);
  void leave(const CallEnd& end, int64_t now_ms, uint64_t& random_state);
  // The largest call that is not refused; 0: any.
  [[nodiscard]] int64_t tokens_max() const { return limits_.all.tokens_per_minute; }
  [[nodiscard]] int64_t in_flight() const { return own_.in_flight_; }
  // Fills in what it knows.
  void look(BucketView& view, int64_t now_ms, WallMs wall_ms);

 private:
  void learn(const PeerMarks& marks, const PeerLimits& peer, int64_t now_ms);
  void set_own_rates(int64_t now_ms);
  void learn_share(const CallEnd& end);
  void throttle(const CallEnd& end, int64_t now_ms, uint64_t& random_state);
  void grow();
  [[nodiscard]] int64_t window_max() const;

  CallLimits limits_;
  Limiter own_;  // evenly, with a small burst
  PeerMeter peer_requests_;
  PeerMeter peer_tokens_;
  int64_t share_;               // of an estimate that is used, in 1,024ths
  int64_t usual_estimate_ = 0;  // about the mean of those that the share comes from
  int64_t share_seen_ = 0;      // answers it comes from, up to a number
  int64_t paused_until_ms_ = 0;
  int64_t throttled_in_a_row_ = 0;
  int64_t window_;
  bool is_starting_ = true;  // the window doubles each round until the peer says stop
  int64_t grown_ = 0;        // successes since the window last grew
  int64_t cut_at_ms_ = -1;
  int64_t round_answers_ = 0;  // as many as the window is wide make a round
  int64_t round_throttled_ = 0;
};

}  // namespace stepwell::detail
