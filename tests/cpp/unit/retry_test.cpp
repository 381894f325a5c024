#include "engine/retry.h"

#include <gtest/gtest.h>

namespace stepwell::detail {
namespace {

FailedAttempt failed(int32_t attempt, int64_t retry_after_ms = -1, int64_t elapsed_ms = 0) {
  return FailedAttempt{attempt, true, retry_after_ms, elapsed_ms};
}

RetryPolicy policy() {
  RetryPolicy policy;
  policy.attempts_max = 10;
  policy.backoff_base_ms = 100;
  policy.backoff_cap_ms = 1'000;
  policy.elapsed_ms_max = 60'000;
  return policy;
}

TEST(Retry, DelayGrowsToTheCapAndIsDrawnFromZero) {
  uint64_t state = 7;
  for (int32_t attempt = 1; attempt < 10; ++attempt) {
    const int64_t bound = std::min<int64_t>(1'000, 100LL << (attempt - 1));
    int64_t largest = 0;
    for (int i = 0; i < 200; ++i) {
      const RetryDecision decision = decide_retry(policy(), failed(attempt), state);
      ASSERT_TRUE(decision.again);
      ASSERT_GE(decision.delay_ms, 0);
      ASSERT_LE(decision.delay_ms, bound);
      largest = std::max(largest, decision.delay_ms);
    }
    EXPECT_GT(largest, bound / 2) << "attempt " << attempt;
  }
}

TEST(Retry, StopsAtTheLastAttemptAndForHopelessKinds) {
  uint64_t state = 7;
  EXPECT_TRUE(decide_retry(policy(), failed(9), state).again);
  EXPECT_FALSE(decide_retry(policy(), failed(10), state).again);
  FailedAttempt hopeless = failed(1);
  hopeless.retryable = false;
  EXPECT_FALSE(decide_retry(policy(), hopeless, state).again);
}

TEST(Retry, RetryAfterIsALowerBoundAndClamped) {
  uint64_t state = 7;
  for (int i = 0; i < 100; ++i) EXPECT_GE(decide_retry(policy(), failed(1, 5'000), state).delay_ms, 5'000);
  RetryPolicy patient = policy();
  patient.elapsed_ms_max = 1LL << 60;
  EXPECT_LE(decide_retry(patient, failed(1, 1LL << 50), state).delay_ms, 3'600'000 + 100);
}

TEST(Retry, NothingStartsAfterTheElapsedLimit) {
  uint64_t state = 7;
  EXPECT_FALSE(decide_retry(policy(), failed(2, -1, 60'001), state).again);
  EXPECT_FALSE(decide_retry(policy(), failed(2, 59'000, 2'000), state).again) << "the wait itself would pass the limit";
}

TEST(Retry, HugePoliciesDoNotOverflow) {
  uint64_t state = 7;
  RetryPolicy wild = policy();
  wild.attempts_max = 1'000;
  wild.backoff_cap_ms = 1LL << 40;
  wild.elapsed_ms_max = 1LL << 62;
  for (int32_t attempt = 1; attempt < 1'000; ++attempt) {
    const RetryDecision decision = decide_retry(wild, failed(attempt), state);
    ASSERT_GE(decision.delay_ms, 0);
    ASSERT_LE(decision.delay_ms, 1LL << 40);
  }
}

TEST(Retry, StatusesByWhetherTheWorkMayHaveBeenDone) {
  for (const int32_t status : {408, 425, 429, 500, 502, 503, 504, 529})
    EXPECT_TRUE(is_retryable_status(status, true)) << status;
  for (const int32_t status : {400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 501}) {
    EXPECT_FALSE(is_retryable_status(status, true)) << status;
  }
  EXPECT_TRUE(is_retryable_status(429, false));
  EXPECT_TRUE(is_retryable_status(503, false));
  EXPECT_FALSE(is_retryable_status(500, false));
  EXPECT_FALSE(is_retryable_status(504, false));
}

}  // namespace
}  // namespace stepwell::detail
