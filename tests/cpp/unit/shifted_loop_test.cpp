// ShiftedLoop: its timers follow its time, those of the loop beneath do not.
#include "loop/shifted_loop.h"

#include <gtest/gtest.h>

#include <string>

#include "contract/test_loop.h"

namespace stepwell {
namespace {

constexpr int64_t kDayMs = 86'400'000;
constexpr int64_t kPatienceMs = 20'000;

class ShiftedLoopTest : public ::testing::Test {
 protected:
  // Serves until `seen_` holds so many letters.
  bool see(size_t count) {
    return beneath_.run_until([&] { return seen_.size() == count; }, kPatienceMs);
  }
  MoveFunction<void()> sees(char letter) {
    return [this, letter] { seen_ += letter; };
  }

  testing::TestLoop beneath_;
  ShiftedLoop loop_{beneath_, 0};
  std::string seen_;
};

TEST_F(ShiftedLoopTest, BeginsAhead) {
  const ShiftedLoop ahead(beneath_, 3 * kDayMs);
  EXPECT_EQ(3 * kDayMs, ahead.ahead_ms());
  EXPECT_GE(ahead.wall_ms(), beneath_.wall_ms() + 3 * kDayMs - 1'000);
  EXPECT_EQ(-1, ahead.next_in_ms());
}

TEST_F(ShiftedLoopTest, AJumpFiresWhatIsDueInOrderAndNothingElse) {
  beneath_.after(kDayMs, sees('x'));  // a socket's patience: not ours to shorten
  loop_.after(3 * kDayMs, sees('c'));
  loop_.after(2 * kDayMs, sees('b'));
  loop_.after(kDayMs, sees('a'));
  loop_.after(9 * kDayMs, sees('d'));
  EXPECT_GT(loop_.next_in_ms(), kDayMs - kPatienceMs);
  EXPECT_LE(loop_.next_in_ms(), kDayMs);
  loop_.jump(3 * kDayMs);
  EXPECT_EQ(0, loop_.next_in_ms());
  EXPECT_EQ("", seen_) << "never inside the call";
  ASSERT_TRUE(see(3));
  EXPECT_EQ("abc", seen_);
  EXPECT_GT(loop_.next_in_ms(), 5 * kDayMs);
}

TEST_F(ShiftedLoopTest, TimersFireWithoutAJumpToo) {
  loop_.after(1, sees('a'));
  ASSERT_TRUE(see(1));
}

TEST_F(ShiftedLoopTest, ACancelledTimerIsForgotten) {
  const TimerId early = loop_.after(1'000, sees('x'));
  loop_.after(kDayMs, sees('a'));
  loop_.cancel(early);
  EXPECT_GT(loop_.next_in_ms(), 10'000);
  loop_.jump(kDayMs);
  ASSERT_TRUE(see(1));
  EXPECT_EQ("a", seen_);
}

TEST_F(ShiftedLoopTest, ATimerMayStartAnother) {
  loop_.after(kDayMs, [this] {
    seen_ += 'a';
    loop_.after(kDayMs, sees('b'));
  });
  loop_.jump(kDayMs);
  ASSERT_TRUE(see(1));
  loop_.jump(kDayMs);
  ASSERT_TRUE(see(2));
}

}  // namespace
}  // namespace stepwell
