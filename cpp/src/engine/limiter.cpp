#include "engine/limiter.h"

#include <algorithm>

#include "base/random.h"

namespace stepwell::detail {

namespace {

constexpr int64_t kUnitsMax = 1'000'000'000;
constexpr int64_t kPeriodMsMax = int64_t{7} * 24 * 3'600'000;
constexpr int64_t kLevelMax = int64_t{4'000'000'000'000'000'000};
constexpr int64_t kWindowMax = 1 << 20;
// A bucket whose limits nobody knows begins with so many calls in flight. The first answer usually tells the limits.
constexpr int64_t kWindowAtStart = 32;
// The window is cut when a tenth of a round, or more, was answered 429.
constexpr int64_t kRoundShare = 10;
constexpr int64_t kWholeShare = 1'024;
constexpr int64_t kShareSlowness = 16;
constexpr int64_t kShareMax = 8 * kWholeShare;
constexpr int64_t kPauseSpreadMsMax = 2'000;
constexpr int64_t kSlackMs = 200;
constexpr int64_t kPauseMsMax = 3'600'000;
constexpr int64_t kBackoffMs = 1'000;
constexpr int64_t kBackoffMsMax = 60'000;
// A limit a minute is whole again after a minute at the latest; a longer reset proves a longer period.
constexpr int64_t kResetSlackMs = 5'000;

int64_t until(int64_t excess, int64_t units) { return (excess + units - 1) / units; }

}  // namespace

// --- Meter ---

void Meter::set_rate(int64_t units, int64_t period_ms, int64_t burst, int64_t now_ms) {
  drain(now_ms);
  const int64_t used = level_ / period_ms_;
  units_ = std::clamp<int64_t>(units, 0, kUnitsMax);
  if (period_ms != period_ms_) {
    period_ms_ = std::clamp<int64_t>(period_ms, 1, kPeriodMsMax);
    level_ = std::min(used, kUnitsMax) * period_ms_;
  }
  burst_ = std::clamp<int64_t>(burst, 1, kUnitsMax);
}

void Meter::drain(int64_t now_ms) {
  const int64_t elapsed = now_ms - last_ms_;
  last_ms_ = now_ms;
  if (elapsed <= 0) return;  // the clock went back: time counts from there on, and nothing was earned
  if (units_ == 0 || elapsed >= until(level_, units_)) {
    level_ = 0;
  } else {
    level_ -= elapsed * units_;
  }
}

int64_t Meter::wait_behind_ms(int64_t ahead, int64_t cost, int64_t now_ms) {
  if (units_ == 0) return 0;
  drain(now_ms);
  const int64_t level = std::min(level_ + std::min(ahead, kUnitsMax) * period_ms_, kLevelMax);
  const int64_t room = std::max<int64_t>(burst_ - std::min(cost, kUnitsMax), 0) * period_ms_;
  return level <= room ? 0 : until(level - room, units_);
}

int64_t Meter::wait_ms(int64_t cost, int64_t now_ms) { return wait_behind_ms(0, cost, now_ms); }

void Meter::take(int64_t cost, int64_t now_ms) {
  if (units_ == 0) return;
  drain(now_ms);
  level_ = std::clamp<int64_t>(level_ + std::clamp(cost, -kUnitsMax, kUnitsMax) * period_ms_, 0, kLevelMax);
}

void Meter::set_used(int64_t units, int64_t now_ms) {
  drain(now_ms);
  level_ = std::clamp<int64_t>(units, 0, kUnitsMax) * period_ms_;
}

int64_t Meter::used(int64_t now_ms) {
  drain(now_ms);
  return level_ / period_ms_;
}

int64_t Meter::room(int64_t now_ms) {
  if (units_ == 0) return -1;
  drain(now_ms);
  return std::max<int64_t>(burst_ * period_ms_ - level_, 0) / period_ms_;
}

int64_t Meter::cost_ms(int64_t cost) const {
  return units_ == 0 || cost <= 0 ? 0 : until(std::min(cost, kUnitsMax) * period_ms_, units_);
}

// --- Limiter ---

void Limiter::set_rates(const CallRates& rates, int64_t burst_ms, int64_t now_ms) {
  const auto burst_of = [burst_ms](int64_t a_minute) {
    return std::max<int64_t>(std::min(a_minute, kUnitsMax) * std::clamp<int64_t>(burst_ms, 0, kMinuteMs) / kMinuteMs,
                             1);
  };
  requests_.set_rate(rates.requests_per_minute, kMinuteMs, burst_of(rates.requests_per_minute), now_ms);
  tokens_.set_rate(rates.tokens_per_minute, kMinuteMs, burst_of(rates.tokens_per_minute), now_ms);
  concurrency_ = rates.concurrency;
}

int64_t Limiter::wait_ms(int64_t tokens, int64_t now_ms) {
  const int64_t wait = std::max(requests_.wait_ms(1, now_ms), tokens_.wait_ms(tokens, now_ms));
  if (wait > 0) return wait;
  return concurrency_ > 0 && in_flight_ >= concurrency_ ? kUntilOneEnds : 0;
}

int64_t Limiter::wait_behind_ms(int64_t requests_ahead, int64_t tokens_ahead, int64_t tokens, int64_t now_ms) {
  return std::max(requests_.wait_behind_ms(requests_ahead, 1, now_ms),
                  tokens_.wait_behind_ms(tokens_ahead, tokens, now_ms));
}

int64_t Limiter::pace_ms(int64_t tokens) const {
  return requests_.is_limited() ? requests_.cost_ms(1) : tokens_.cost_ms(tokens);
}

void Limiter::enter(int64_t tokens, int64_t now_ms) {
  ++in_flight_;
  requests_.take(1, now_ms);
  tokens_.take(tokens, now_ms);
}

void Limiter::leave(int64_t tokens, int64_t used, int64_t now_ms) {
  --in_flight_;
  if (used >= 0) tokens_.take(used - tokens, now_ms);
}

// --- PeerMeter ---

void PeerMeter::take(int64_t cost, int64_t now_ms) {
  if (meter.is_limited()) {
    meter.take(cost, now_ms);
  } else {
    unseen_ += std::clamp(cost, -kUnitsMax, kUnitsMax);
  }
}

void PeerMeter::set(const RateLevel& told, int64_t period_ms, int64_t mark, int64_t now_ms) {
  const int64_t remaining = std::min(told.remaining, told.limit);
  int64_t burst = told.limit;
  if (told.reset_ms > 0) {  // whole again after it: a peer that minds shorter times than a minute holds less than one
    const int64_t missing = until(std::min(told.reset_ms, period_ms) * told.limit, period_ms);
    burst = std::clamp<int64_t>(remaining + missing, 1, told.limit);
  }
  const int64_t now_marked = this->mark(now_ms);
  // Calls arrive earlier or later than they were sent to: some of what is left stays.
  const int64_t slack = std::min(burst / 4, told.limit * kSlackMs / period_ms);
  meter.set_rate(told.limit, period_ms, burst - slack, now_ms);
  meter.set_used(burst - remaining + now_marked - mark, now_ms);
  unseen_ = now_marked - meter.used(now_ms);
}

// --- BucketLimiter ---

BucketLimiter::BucketLimiter(int64_t now_ms) : share_(kWholeShare), window_(kWindowAtStart) { set_limits({}, now_ms); }

void BucketLimiter::set_limits(const CallLimits& limits, int64_t now_ms) {
  const bool is_window_full = window_ >= window_max();
  limits_ = limits;
  set_own_rates(now_ms);
  const bool is_rate_known = own_.requests_.is_limited() || own_.tokens_.is_limited();
  if (is_starting_ && (is_rate_known || limits.all.concurrency > 0)) {
    is_starting_ = false;
    window_ = kWindowMax;
  }
  if (is_window_full || window_ > window_max()) window_ = window_max();
}

int64_t BucketLimiter::window_max() const {
  return limits_.all.concurrency > 0 ? std::min(limits_.all.concurrency, kWindowMax) : kWindowMax;
}

// The lower of what was set and what the peer tells, evenly over the time.
void BucketLimiter::set_own_rates(int64_t now_ms) {
  const auto lower = [&](int64_t configured, const Meter& peer, Meter& own) {
    const bool has_peer = peer.is_limited();
    const bool is_peer_lower =
        has_peer && (configured <= 0 || peer.units() * kMinuteMs < std::min(configured, kUnitsMax) * peer.period_ms());
    const int64_t units = is_peer_lower ? peer.units() : configured;
    const int64_t period = is_peer_lower ? peer.period_ms() : kMinuteMs;
    const int64_t burst = std::min(units, kUnitsMax) * std::clamp<int64_t>(limits_.burst_ms, 0, kMinuteMs) / period;
    own.set_rate(units, period, std::max<int64_t>(burst, 1), now_ms);
  };
  const bool is_new = !own_.requests_.is_limited();
  lower(limits_.all.requests_per_minute, peer_requests_.meter, own_.requests_);
  lower(limits_.all.tokens_per_minute, peer_tokens_.meter, own_.tokens_);
  own_.concurrency_ = limits_.all.concurrency;
  // A process that starts knows nothing of what the one before it has sent: room for one, no burst.
  if (is_new) own_.requests_.set_used(own_.requests_.room(now_ms) - 1, now_ms);
}

int64_t BucketLimiter::wait_ms(int64_t tokens, int64_t now_ms) {
  // The peer may call smaller what we estimate; then it waits for a rested peer, who decides.
  const int64_t peers = std::min(tokens, peer_tokens_.meter.units());
  const int64_t wait =
      std::max({paused_until_ms_ - now_ms, own_.requests_.wait_ms(1, now_ms), own_.tokens_.wait_ms(tokens, now_ms),
                peer_requests_.meter.wait_ms(1, now_ms), peer_tokens_.meter.wait_ms(peers, now_ms)});
  if (wait > 0) return wait;
  return own_.in_flight_ >= window_ ? kUntilOneEnds : 0;
}

int64_t BucketLimiter::wait_behind_ms(int64_t requests_ahead, int64_t tokens_ahead, int64_t tokens, int64_t now_ms) {
  return std::max(paused_until_ms_ - now_ms, own_.wait_behind_ms(requests_ahead, tokens_ahead, tokens, now_ms));
}

int64_t BucketLimiter::expected(int64_t estimate, int64_t calls) const {
  if (estimate <= 0) return 0;
  const int64_t whole = std::min(estimate, kUnitsMax);
  const int64_t usual = std::min(whole, usual_estimate_ * calls);
  // Much of a usual estimate is what every request holds; what makes one larger is words, and those count.
  return until(usual * share_ + (whole - usual) * std::max(share_, kWholeShare), kWholeShare);
}

// Up fast, down slowly. A peer that counts another way than its answers say shows it with a 429.
void BucketLimiter::learn_share(const CallEnd& end) {
  if (end.is_throttled) {
    share_ = std::max(share_, std::min(share_ + share_ / 4 + 1, kWholeShare));
  } else if (end.used >= 0 && end.estimate > 0) {
    const int64_t seen = std::clamp<int64_t>(std::min(end.used, kUnitsMax) * kWholeShare / end.estimate, 1, kShareMax);
    share_seen_ = std::min(share_seen_ + 1, kShareSlowness);  // the first answers say more than nothing did
    usual_estimate_ += (std::min(end.estimate, kUnitsMax) - usual_estimate_) / share_seen_;
    share_ += seen > share_ ? (seen - share_ + 1) / 2 : (seen - share_) / share_seen_;
  }
}

PeerMarks BucketLimiter::enter(int64_t tokens, int64_t now_ms) {
  own_.enter(tokens, now_ms);
  peer_requests_.take(1, now_ms);
  peer_tokens_.take(tokens, now_ms);
  return {peer_requests_.mark(now_ms), peer_tokens_.mark(now_ms)};
}

void BucketLimiter::leave(const CallEnd& end, int64_t now_ms, uint64_t& random_state) {
  own_.leave(end.tokens, end.used, now_ms);
  learn_share(end);
  if (!end.is_begun) learn(end.marks, end.peer, now_ms);
  if (++round_answers_ > window_) round_answers_ = round_throttled_ = 0;
  if (end.is_throttled) {
    throttle(end, now_ms, random_state);
  } else if (end.is_ok) {
    throttled_in_a_row_ = 0;
    if (!end.is_begun) grow();
  }
}

void BucketLimiter::begun(const PeerMarks& marks, const PeerLimits& peer, int64_t now_ms) {
  learn(marks, peer, now_ms);
  grow();
  // A call that ends gives its place back as well; this one keeps it, and the window doubles each round all the same.
  if (is_starting_) grow();
}

void BucketLimiter::learn(const PeerMarks& marks, const PeerLimits& all_told, int64_t now_ms) {
  const auto learn = [now_ms](RateLevel told, int64_t configured, int64_t mark, PeerMeter& peer) {
    told.limit = std::min(told.limit > 0 ? told.limit : configured, kUnitsMax);
    if (told.limit <= 0 || told.remaining < 0) return;
    const int64_t used = told.limit - std::min(told.remaining, told.limit);
    int64_t period = peer.meter.units() == told.limit ? peer.meter.period_ms() : kMinuteMs;
    if (used > 0 && told.reset_ms > kMinuteMs + kResetSlackMs) {
      // Groq's requests are counted a day, in the same headers.
      const int64_t reset = std::min(told.reset_ms, kPeriodMsMax);
      period = std::max(period, static_cast<int64_t>(static_cast<double>(reset) / static_cast<double>(used) *
                                                     static_cast<double>(told.limit)));
    }
    peer.set(told, std::min(period, kPeriodMsMax), mark, now_ms);
  };
  learn(all_told.requests, limits_.all.requests_per_minute, marks.requests, peer_requests_);
  learn(all_told.tokens, limits_.all.tokens_per_minute, marks.tokens, peer_tokens_);
  set_own_rates(now_ms);
}

void BucketLimiter::throttle(const CallEnd& end, int64_t now_ms, uint64_t& random_state) {
  // Those that were sent before the last cut say nothing new.
  const bool is_news = end.sent_at_ms >= cut_at_ms_;
  if (is_news) ++throttled_in_a_row_;
  int64_t pause = end.retry_after_ms;
  if (pause < 0 && end.peer.requests.remaining == 0) pause = end.peer.requests.reset_ms;
  if (pause < 0 && end.peer.tokens.remaining == 0) pause = end.peer.tokens.reset_ms;
  if (pause < 0) {
    pause = std::min(kBackoffMs << std::clamp<int64_t>(throttled_in_a_row_ - 1, 0, 10), kBackoffMsMax);
    pause = pause / 2 + random_up_to(random_state, pause / 2);
  }
  pause = std::min(pause, kPauseMsMax);
  pause += random_up_to(random_state, std::min(pause / 10 + 50, kPauseSpreadMsMax));
  paused_until_ms_ = std::max(paused_until_ms_, now_ms + pause);
  if (!is_news) return;
  is_starting_ = false;
  // Nothing was left, the peer says: the pace was wrong, and is right again; how many were in flight was not.
  const int64_t tokens_left = end.peer.tokens.remaining;
  if (end.peer.requests.remaining == 0 || (tokens_left >= 0 && tokens_left / 2 < end.tokens)) return;
  ++round_throttled_;
  const int64_t in_use = std::min(window_, own_.in_flight_ + round_throttled_);
  if (round_throttled_ * kRoundShare < in_use) return;  // one that is refused among many is no sign of too many
  cut_at_ms_ = now_ms;
  grown_ = round_answers_ = round_throttled_ = 0;
  window_ = std::max<int64_t>(in_use / 2, 1);
}

void BucketLimiter::grow() {
  if (window_ >= window_max() || own_.in_flight_ * 2 < window_) return;  // a window that nobody fills proves nothing
  if (!is_starting_ && ++grown_ < window_) return;
  grown_ = 0;
  ++window_;
}

void BucketLimiter::look(BucketView& view, int64_t now_ms, WallMs wall_ms) {
  const auto smaller = [](int64_t one, int64_t two) { return one < 0 || (two >= 0 && two < one) ? two : one; };
  view.limits = limits_;
  const auto learned = [](const Meter& meter) {
    return meter.is_limited() ? std::max<int64_t>(meter.units() * kMinuteMs / meter.period_ms(), 1) : 0;
  };
  view.learned.requests_per_minute = learned(peer_requests_.meter);
  view.learned.tokens_per_minute = learned(peer_tokens_.meter);
  view.requests_room = smaller(own_.requests_.room(now_ms), peer_requests_.meter.room(now_ms));
  view.tokens_room = smaller(own_.tokens_.room(now_ms), peer_tokens_.meter.room(now_ms));
  view.window = window_ >= kWindowMax ? -1 : window_;
  view.in_flight = own_.in_flight_;
  view.paused_until = paused_until_ms_ > now_ms ? wall_ms + paused_until_ms_ - now_ms : -1;
}

}  // namespace stepwell::detail
