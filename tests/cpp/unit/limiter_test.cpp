// The limiter's promises, on random schedules: never more than rate times time and burst, whatever the clock does.
#include "engine/limiter.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "base/random.h"

namespace stepwell::detail {
namespace {

struct Taken {
  int64_t at_ms;  // in time that has passed, forwards
  int64_t units;
};

// In any window: what was taken in it is at most the rate times its length, the burst, or one that is larger, and the
// unit that is under way.
void expect_bounded(const std::vector<Taken>& taken, int64_t rate, int64_t period_ms, int64_t burst, uint64_t seed) {
  for (size_t first = 0; first < taken.size(); ++first) {
    int64_t sum = 0;
    int64_t largest = 0;
    for (size_t last = first; last < taken.size(); ++last) {
      sum += taken[last].units;
      largest = std::max(largest, taken[last].units);
      const int64_t length_ms = taken[last].at_ms - taken[first].at_ms;
      ASSERT_LE(sum * period_ms, rate * length_ms + std::max(burst, largest) * period_ms)
          << "seed " << seed << ", calls " << first << " to " << last;
    }
  }
}

TEST(Meter, NeverLetsMoreThroughThanRateTimesTimeAndBurst) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    uint64_t random = seed;
    const int64_t rate = 1 + random_up_to(random, seed % 2 == 0 ? 20 : 200'000);
    const int64_t period = 1 + random_up_to(random, 120'000);
    const int64_t burst = 1 + random_up_to(random, rate);
    Meter meter;
    int64_t now = 1'000'000;
    int64_t passed = 0;
    meter.set_rate(rate, period, burst, now);
    std::vector<Taken> taken;
    for (int i = 0; i < 300; ++i) {
      const int64_t kind = random_up_to(random, 9);
      int64_t step = random_up_to(random, 50);
      if (kind == 0) step = random_up_to(random, 10 * period);  // a rest
      if (kind == 1) step = -random_up_to(random, 5'000'000);   // the clock goes back
      now += step;
      passed += std::max<int64_t>(step, 0);
      const int64_t cost = 1 + random_up_to(random, burst + burst / 2);
      const int64_t wait = meter.wait_ms(cost, now);
      if (wait > 0) {
        if (random_up_to(random, 1) == 0) continue;
        ASSERT_GT(meter.wait_ms(cost, now + wait - 1), 0) << "seed " << seed << ": it makes us wait too long";
        now += wait - 1;
        passed += wait - 1;
        ++now;
        ++passed;
        ASSERT_EQ(meter.wait_ms(cost, now), 0) << "seed " << seed;
      }
      meter.take(cost, now);
      taken.push_back({passed, cost});
    }
    expect_bounded(taken, rate, period, burst, seed);
  }
}

TEST(Meter, AClockThatGoesBackNeitherMintsNorFreezes) {
  Meter meter;
  meter.set_rate(60, kMinuteMs, 1, 10'000'000);
  meter.take(1, 10'000'000);
  EXPECT_EQ(meter.wait_ms(1, 10'000'000), 1'000);
  EXPECT_EQ(meter.wait_ms(1, 5'000), 1'000) << "nothing was earned, and nothing lost";
  EXPECT_EQ(meter.wait_ms(1, 5'999), 1);
  EXPECT_EQ(meter.wait_ms(1, 6'000), 0);
}

TEST(Meter, CountsExactlyOverADay) {
  Meter meter;  // seven a minute: no whole number of milliseconds each
  meter.set_rate(7, kMinuteMs, 1, 0);
  int64_t count = 0;
  for (int64_t now = 0; now < 86'400'000;) {
    const int64_t wait = meter.wait_ms(1, now);
    now += wait;
    if (now >= 86'400'000) break;
    meter.take(1, now);
    ++count;
  }
  EXPECT_GE(count, 10'079);
  EXPECT_LE(count, 10'080);
}

TEST(Meter, SurvivesTheLargestNumbers) {
  Meter meter;
  meter.set_rate(INT64_MAX, INT64_MAX, INT64_MAX, 0);
  for (int i = 0; i < 100; ++i) meter.take(INT64_MAX, i);
  EXPECT_GT(meter.wait_ms(INT64_MAX, 100), 0);
  EXPECT_EQ(meter.room(100), 0);
  meter.take(INT64_MIN + 1, 101);
  EXPECT_GE(meter.room(101), 0);
  EXPECT_GE(meter.wait_behind_ms(INT64_MAX, INT64_MAX, 102), 0);
}

TEST(Meter, ANewRateKeepsWhatWasUsed) {
  Meter meter;
  meter.set_rate(60, kMinuteMs, 60, 0);
  meter.take(60, 0);
  meter.set_rate(120, kMinuteMs, 60, 0);
  EXPECT_EQ(meter.wait_ms(1, 0), 500);
  meter.set_rate(0, kMinuteMs, 0, 0);
  EXPECT_EQ(meter.wait_ms(1, 0), 0) << "no limit";
}

CallLimits limits_of(int64_t requests, int64_t tokens, int64_t concurrency) {
  CallLimits limits;
  limits.all = {requests, tokens, concurrency};
  return limits;
}

struct Driver {
  explicit Driver(const CallLimits& limits) : limiter(0) { limiter.set_limits(limits, 0); }
  BucketLimiter limiter;
  int64_t now = 0;
  uint64_t random = 7;
  std::deque<PeerMarks> marks;  // of the calls in flight, in the order they were sent

  // Sends until it must wait; how many went.
  int64_t send_all(int64_t tokens, int64_t most = 100'000) {
    int64_t count = 0;
    for (; count < most && limiter.wait_ms(tokens, now) == 0; ++count) marks.push_back(limiter.enter(tokens, now));
    return count;
  }
  void end(int64_t tokens, int64_t used, bool is_throttled = false, int64_t retry_after_ms = -1, PeerLimits peer = {},
           int64_t sent_at_ms = -1) {
    CallEnd end;
    end.tokens = tokens;
    end.used = used;
    end.sent_at_ms = sent_at_ms < 0 ? now : sent_at_ms;
    if (!marks.empty()) {
      end.marks = marks.front();
      marks.pop_front();
    }
    end.is_ok = !is_throttled;
    end.is_throttled = is_throttled;
    end.retry_after_ms = retry_after_ms;
    end.peer = peer;
    limiter.leave(end, now, random);
  }
};

TEST(BucketLimiter, BeginsWithoutABurstAndSettlesWhatWasReserved) {
  Driver driver(limits_of(600, 60'000, 0));
  EXPECT_EQ(driver.send_all(100), 1) << "room for one, after a restart";
  driver.now += 10'000;
  EXPECT_EQ(driver.send_all(100), 10) << "a second's worth, after a rest";
  // Ten were reserved with 100 tokens, and used none: their tokens are free again, the requests are not.
  for (int i = 0; i < 10; ++i) driver.end(100, 0);
  BucketView view;
  driver.limiter.look(view, driver.now, 0);
  EXPECT_EQ(view.tokens_room, 1'000);
  EXPECT_EQ(view.requests_room, 0);
  EXPECT_EQ(view.in_flight, 1);
}

TEST(BucketLimiter, MoreThanWasReservedIsPaidFor) {
  Driver driver(limits_of(0, 60'000, 0));
  driver.now += 10'000;
  EXPECT_EQ(driver.send_all(1'000), 1);
  driver.end(1'000, 31'000);
  EXPECT_EQ(driver.limiter.wait_ms(1'000, driver.now), 31'000);
}

TEST(BucketLimiter, BoundsTheCallsInFlight) {
  Driver driver(limits_of(0, 0, 5));
  EXPECT_EQ(driver.send_all(1), 5);
  EXPECT_EQ(driver.limiter.wait_ms(1, driver.now), kUntilOneEnds);
  driver.end(1, 1);
  EXPECT_EQ(driver.send_all(1), 1);
}

PeerLimits told(int64_t limit, int64_t remaining, int64_t reset_ms) {
  PeerLimits peer;
  peer.requests = {limit, remaining, reset_ms};
  return peer;
}

TEST(BucketLimiter, LearnsLimitsThatNobodySet) {
  Driver driver({});
  const int64_t first = driver.send_all(1);
  EXPECT_EQ(first, 32) << "carefully, as long as nothing is known";
  driver.end(1, 1, false, -1, told(600, 599, 100));
  BucketView view;
  driver.limiter.look(view, driver.now, 0);
  EXPECT_EQ(view.learned.requests_per_minute, 600);
  for (int64_t i = 1; i < first; ++i) driver.end(1, 1, false, -1, told(600, 599 - i, 100 * i));
  int64_t count = 0;
  for (; driver.now < 600'000; driver.now += 50) {
    const int64_t sent = driver.send_all(1);
    for (int64_t i = 0; i < sent; ++i) driver.end(1, 1, false, -1, told(600, 590, 1'000));
    count += sent;
  }
  EXPECT_GE(count, 5'900);
  EXPECT_LE(count, 6'011);
}

TEST(BucketLimiter, ThePeersWordLowersButNeverRaisesWhatWasSet) {
  Driver driver(limits_of(600, 0, 0));
  driver.now += 5'000;
  EXPECT_EQ(driver.send_all(1), 10);
  driver.end(1, 1, false, -1, told(60'000, 59'999, 1));
  EXPECT_EQ(driver.limiter.wait_ms(1, driver.now), 100) << "the peer would let more through";
  driver.end(1, 1, false, -1, told(60, 0, 60'000));
  EXPECT_GE(driver.limiter.wait_ms(1, driver.now), 1'000) << "somebody else has used up the peer's limit";
}

TEST(BucketLimiter, ALongResetProvesALongerPeriod) {
  Driver driver({});
  driver.send_all(1, 1);
  // Groq: 14,400 a day. 10 used, whole again in a minute; 100 used, in ten.
  driver.end(1, 1, false, -1, told(14'400, 14'300, 600'000));
  BucketView view;
  driver.limiter.look(view, driver.now, 0);
  EXPECT_EQ(view.learned.requests_per_minute, 10);
}

TEST(BucketLimiter, NonsenseFromThePeerChangesNothing) {
  for (const PeerLimits& peer : {told(0, 0, 0), told(-1, 5, -1), told(10, -1, 5), told(INT64_MAX, 0, INT64_MAX)}) {
    Driver driver(limits_of(600, 600'000, 0));
    driver.now += 5'000;
    driver.send_all(1, 1);
    driver.end(1, 1, false, -1, peer);
    driver.now += 8 * 24 * int64_t{3'600'000};
    EXPECT_EQ(driver.send_all(1), 10);
  }
}

TEST(BucketLimiter, A429PausesUntilRetryAfterAndHalvesTheWindowOnce) {
  Driver driver(limits_of(0, 0, 64));
  EXPECT_EQ(driver.send_all(1), 64);
  driver.now += 10;
  for (int i = 0; i < 20; ++i) driver.end(1, -1, true, 20'000, {}, 0);
  const int64_t wait = driver.limiter.wait_ms(1, driver.now);
  EXPECT_GE(wait, 20'000);
  EXPECT_LE(wait, 22'050) << "with jitter";
  for (int i = 0; i < 44; ++i) driver.end(1, 1);
  driver.now += wait;
  EXPECT_EQ(driver.send_all(1), 32) << "halved once for twenty answers of one round";
  driver.now += 10;
  driver.end(1, -1, true, 0);
  BucketView view;
  driver.limiter.look(view, driver.now, 0);
  EXPECT_EQ(view.window, 32) << "one among many is no sign of too many";
  for (int i = 0; i < 3; ++i) driver.end(1, -1, true, 0);
  driver.limiter.look(view, driver.now, 0);
  EXPECT_EQ(view.window, 16) << "a later round halves again";
}

TEST(BucketLimiter, TheWindowGrowsByOneARound) {
  Driver driver(limits_of(0, 0, 64));
  driver.send_all(1);
  driver.now += 10;
  for (int i = 0; i < 7; ++i) driver.end(1, -1, true, 0, {}, 0);
  for (int i = 0; i < 57; ++i) driver.end(1, -1);
  driver.now += 1'000;
  BucketView view;
  driver.limiter.look(view, driver.now, 0);
  int64_t before = view.window;
  for (int round = 0; round < 100; ++round) {
    const int64_t sent = driver.send_all(1);
    for (int64_t i = 0; i < sent; ++i) driver.end(1, 1);
    driver.limiter.look(view, driver.now, 0);
    ASSERT_LE(view.window, before + 1) << "round " << round;
    before = view.window;
  }
  EXPECT_EQ(view.window, 64) << "and never above what was set";
}

TEST(BucketLimiter, WithoutRetryAfterThePauseGrows) {
  Driver driver(limits_of(0, 0, 8));
  int64_t longest = 0;
  for (int round = 0; round < 12; ++round) {
    ASSERT_GE(driver.send_all(1, 1), 1);
    driver.end(1, -1, true);
    const int64_t wait = driver.limiter.wait_ms(1, driver.now);
    ASSERT_GT(wait, 0);
    longest = std::max(longest, wait);
    driver.now += wait;
  }
  EXPECT_GE(longest, 30'000);
  EXPECT_LE(longest, 66'050);
}

// A peer that minds seconds has never much left, and has counted most of what is on its way to us already.
TEST(BucketLimiter, WhatIsInFlightIsNotCountedTwice) {
  Driver driver(limits_of(600, 0, 0));
  PeerLimits peer = told(600, 9, 100);  // it holds ten: 600 a minute, for a second
  driver.send_all(1, 1);
  driver.end(1, 1, false, -1, peer);
  driver.now += 1'000;
  int64_t sent = 0;
  for (; driver.now < 61'000; driver.now += 10) {
    const int64_t now_sent = driver.send_all(1);
    sent += now_sent;
    // Each is answered half a second later, with what was left when it came: five are in flight, five are left.
    if (sent > 5 && now_sent > 0) driver.end(1, 1, false, -1, told(600, 5, 500));
  }
  EXPECT_GE(sent, 590) << "at the peer's rate";
  EXPECT_LE(sent, 611);
}

TEST(BucketLimiter, A429ForAPaceLeavesTheWindowAlone) {
  Driver driver(limits_of(0, 0, 8));
  driver.send_all(1);
  driver.now += 10;
  driver.end(1, -1, true, 100, told(600, 0, 100), 0);
  driver.end(1, -1, true, 100, told(600, 0, 100), 0);
  BucketView view;
  driver.limiter.look(view, driver.now, 0);
  EXPECT_EQ(view.window, 8) << "nothing was left, and the peer said so";
  driver.end(1, -1, true, 100, told(600, 400, 100), 0);
  driver.limiter.look(view, driver.now, 0);
  EXPECT_LT(view.window, 8) << "enough was left: it is about how many there are";
}

// Estimates are worst cases: reserving them to the last would leave most of the limit unused.
TEST(BucketLimiter, ExpectsWhatCallsBeforeCameTo) {
  BucketLimiter limiter(0);
  uint64_t random = 1;
  EXPECT_EQ(limiter.expected(1'000), 1'000) << "nothing is known yet";
  CallEnd end;
  end.is_ok = true;
  end.estimate = 1'000;
  end.used = 200;
  for (int i = 0; i < 200; ++i) {
    end.tokens = limiter.expected(end.estimate);
    limiter.enter(end.tokens, i);
    limiter.leave(end, i, random);
  }
  EXPECT_GE(limiter.expected(1'000), 200);
  EXPECT_LT(limiter.expected(1'000), 220);
  EXPECT_GE(limiter.expected(5'000), 4'200) << "what is more than usual counts in full";
  EXPECT_LT(limiter.expected(5'000, 5), 1'100) << "five of them are not";
  end.used = 1'000;
  for (int i = 0; i < 6; ++i) {
    limiter.enter(limiter.expected(1'000), 300);
    limiter.leave(end, 300, random);
  }
  EXPECT_GT(limiter.expected(1'000), 950) << "it rises fast";
  EXPECT_EQ(limiter.expected(0), 0);
  EXPECT_GT(limiter.expected(INT64_MAX), 0) << "nothing overflows";
}

}  // namespace
}  // namespace stepwell::detail
