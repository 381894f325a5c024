// The breaker against a model that is written for clearness, and the retry budget.
#include "engine/breaker.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "base/random.h"

namespace stepwell::detail {
namespace {

BreakerPolicy small() {
  BreakerPolicy policy;
  policy.window = 10;
  policy.failures_min = 4;
  policy.failure_percent = 50;
  policy.cool_down_ms = 1'000;
  policy.cool_down_ms_max = 8'000;
  policy.probes_max = 2;
  policy.successes_min = 3;
  return policy;
}

struct Driver {
  explicit Driver(const BreakerPolicy& policy) : breaker(policy) {}
  Breaker breaker;
  int64_t now = 1'000'000;
  uint64_t random = 3;
  bool call(CallOutcome outcome, int64_t took_ms = 10) {
    EXPECT_EQ(breaker.wait_ms(now), 0);
    return breaker.leave(breaker.enter(now), outcome, took_ms, now, random);
  }
  void open() {
    while (!call(CallOutcome::kFault)) {
    }
  }
};

TEST(Breaker, OpensAtItsShareOfFailuresAndNotBefore) {
  Driver driver(small());
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(driver.call(CallOutcome::kGood));
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(driver.call(CallOutcome::kFault)) << "4 of 9 are less than a half";
  EXPECT_TRUE(driver.call(CallOutcome::kFault));
  EXPECT_EQ(driver.breaker.state(driver.now), CircuitState::kOpen);
  Driver few(small());
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(few.call(CallOutcome::kFault)) << "a small number proves nothing";
  EXPECT_TRUE(few.call(CallOutcome::kFault));
}

TEST(Breaker, UnknownOutcomesDoNotCount) {
  Driver driver(small());
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(driver.call(CallOutcome::kUnknown));
  driver.open();
  driver.now = driver.breaker.open_until_ms();
  EXPECT_FALSE(driver.call(CallOutcome::kUnknown));
  EXPECT_EQ(driver.breaker.state(driver.now), CircuitState::kHalfOpen);
  EXPECT_EQ(driver.breaker.wait_ms(driver.now), 0) << "a probe that was cancelled makes room for another";
}

TEST(Breaker, SlowCallsOpenItToo) {
  BreakerPolicy policy = small();
  policy.slow_ms = 500;
  Driver driver(policy);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(driver.call(CallOutcome::kGood, 900));
  EXPECT_TRUE(driver.call(CallOutcome::kGood, 900));
}

TEST(Breaker, HalfOpenLetsItsProbesThroughAndCloses) {
  Driver driver(small());
  driver.open();
  EXPECT_GT(driver.breaker.wait_ms(driver.now), 0);
  driver.now = driver.breaker.open_until_ms();
  const BreakerPass first = driver.breaker.enter(driver.now);
  const BreakerPass second = driver.breaker.enter(driver.now);
  EXPECT_GT(driver.breaker.wait_ms(driver.now), 0) << "two probes at once";
  driver.breaker.leave(first, CallOutcome::kGood, 1, driver.now, driver.random);
  EXPECT_EQ(driver.breaker.wait_ms(driver.now), 0);
  driver.breaker.leave(second, CallOutcome::kGood, 1, driver.now, driver.random);
  EXPECT_EQ(driver.breaker.state(driver.now), CircuitState::kHalfOpen);
  driver.call(CallOutcome::kGood);
  EXPECT_EQ(driver.breaker.state(driver.now), CircuitState::kClosed);
  EXPECT_FALSE(driver.call(CallOutcome::kFault)) << "and has forgotten the failures";
}

TEST(Breaker, OneBadProbeOpensAgainForLonger) {
  Driver driver(small());
  driver.open();
  int64_t longest = 0;
  for (int i = 0; i < 8; ++i) {
    const int64_t cool_down = driver.breaker.cool_down_ms();
    const int64_t most = std::min<int64_t>(1'000 << i, 8'000);
    EXPECT_GE(cool_down, most / 2);
    EXPECT_LE(cool_down, most);
    longest = std::max(longest, cool_down);
    driver.now = driver.breaker.open_until_ms();
    EXPECT_TRUE(driver.call(CallOutcome::kFault));
  }
  EXPECT_GT(longest, 4'000);
}

TEST(Breaker, OutcomesOfAnEarlierStateDoNotCount) {
  Driver driver(small());
  std::vector<BreakerPass> late;
  for (int i = 0; i < 20; ++i) late.push_back(driver.breaker.enter(driver.now));
  driver.open();
  const int64_t until = driver.breaker.open_until_ms();
  for (const BreakerPass& pass : late) {
    EXPECT_FALSE(driver.breaker.leave(pass, CallOutcome::kFault, 1, driver.now, driver.random));
  }
  EXPECT_EQ(driver.breaker.open_until_ms(), until);
}

// States, written down plainly; the pauses are the breaker's own, as they are drawn.
struct Model {
  BreakerPolicy policy;
  enum { kClosed, kOpen, kHalfOpen } state = kClosed;
  std::deque<bool> last;
  int probes = 0, good = 0, generation = 0;

  bool may_enter(bool has_cooled_down) const {
    if (state == kClosed) return true;
    if (state == kOpen) return has_cooled_down;
    return probes < policy.probes_max;
  }
  int enter() {
    if (state == kOpen) {
      state = kHalfOpen;
      probes = good = 0;
      ++generation;
    }
    if (state == kHalfOpen) ++probes;
    return generation;
  }
  void leave(int born, CallOutcome outcome) {
    if (born != generation) return;
    if (state == kHalfOpen) {
      --probes;
      if (outcome == CallOutcome::kUnknown) return;
      if (outcome == CallOutcome::kFault) return open();
      if (++good < policy.successes_min) return;
      state = kClosed;
      last.clear();
      ++generation;
      return;
    }
    if (outcome == CallOutcome::kUnknown) return;
    last.push_back(outcome == CallOutcome::kFault);
    if (static_cast<int>(last.size()) > policy.window) last.pop_front();
    const auto failures = std::count(last.begin(), last.end(), true);
    if (failures >= policy.failures_min && failures * 100 >= policy.failure_percent * static_cast<int>(last.size()))
      open();
  }
  void open() {
    state = kOpen;
    last.clear();
    ++generation;
  }
};

TEST(Breaker, BehavesAsTheModelOnRandomSchedules) {
  int opened = 0;
  int closed_again = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    uint64_t random = seed;
    BreakerPolicy policy;
    policy.window = 1 + static_cast<int32_t>(random_up_to(random, 63));
    policy.failures_min = 1 + static_cast<int32_t>(random_up_to(random, policy.window - 1));
    policy.failure_percent = 1 + static_cast<int32_t>(random_up_to(random, 99));
    policy.probes_max = 1 + static_cast<int32_t>(random_up_to(random, 3));
    policy.successes_min = 1 + static_cast<int32_t>(random_up_to(random, 4));
    Breaker breaker(policy);
    Model model;
    model.policy = policy;
    int64_t now = 0;
    std::vector<std::pair<BreakerPass, int>> out;
    int64_t fault_percent = 50;
    for (int i = 0; i < 500; ++i) {
      now += random_up_to(random, 2'000);
      if (i % 50 == 0) fault_percent = random_up_to(random, 100);
      ASSERT_EQ(breaker.wait_ms(now) == 0, model.may_enter(now >= breaker.open_until_ms())) << "seed " << seed;
      if (breaker.wait_ms(now) == 0 && random_up_to(random, 1) == 0) {
        out.emplace_back(breaker.enter(now), model.enter());
      } else if (!out.empty()) {
        const auto index = static_cast<size_t>(random_up_to(random, static_cast<int64_t>(out.size()) - 1));
        const auto outcome = random_up_to(random, 99) < fault_percent ? CallOutcome::kFault
                             : random_up_to(random, 9) == 0           ? CallOutcome::kUnknown
                                                                      : CallOutcome::kGood;
        const bool was_half_open = model.state == Model::kHalfOpen;
        const bool has_opened = breaker.leave(out[index].first, outcome, 1, now, random);
        const int before = model.generation;
        model.leave(out[index].second, outcome);
        ASSERT_EQ(has_opened, model.state == Model::kOpen && model.generation != before) << "seed " << seed;
        opened += has_opened ? 1 : 0;
        closed_again += was_half_open && model.state == Model::kClosed ? 1 : 0;
        out.erase(out.begin() + static_cast<int64_t>(index));
      }
    }
  }
  EXPECT_GT(opened, 500);
  EXPECT_GT(closed_again, 200);
}

TEST(RetryBudget, RetriesAreAShareOfTheFirstAttempts) {
  BreakerPolicy policy;  // 20 percent, 10 a second in any case
  RetryBudget budget;
  budget.set_policy(policy, 0);
  for (int i = 0; i < 1'000; ++i) budget.on_first_attempt();
  int count = 0;
  for (; budget.wait_ms(0) == 0; ++count) budget.on_retry(0);
  EXPECT_EQ(count, 210);
  EXPECT_EQ(budget.wait_ms(0), 100);
  EXPECT_EQ(budget.wait_ms(100), 0);
}

TEST(RetryBudget, AGoodHourDoesNotFeedABadOne) {
  RetryBudget budget;
  budget.set_policy({}, 0);
  for (int i = 0; i < 1'000'000; ++i) budget.on_first_attempt();
  int count = 0;
  for (; budget.wait_ms(0) == 0; ++count) budget.on_retry(0);
  EXPECT_LE(count, 1'010);
}

}  // namespace
}  // namespace stepwell::detail
