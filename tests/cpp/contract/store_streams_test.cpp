// What every store keeps of streams: text until its step is recorded, each address once.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "contract/store_contract.h"

namespace stepwell::testing {
namespace {

class StoreStreams : public StoreContractTest {
 protected:
  Transition part(int64_t generation, int64_t offset, std::string text, std::string step = "s", int64_t first_seq = 0) {
    Transition transition = recording(1, token_, first_seq, {});
    transition.parts.push_back({std::move(step), generation, offset, std::move(text)});
    return transition;
  }
  // "step generation text" of each stream, by step.
  static std::vector<std::string> shown(const RunHistory& history) {
    std::vector<std::string> all;
    for (const KeptStream& each : history.streams)
      all.push_back(each.step + " " + std::to_string(each.generation) + " " + each.text);
    return all;
  }
  std::vector<std::string> kept() { return shown(asks_->load(1).value()); }
  void begin() {
    expect_ok(asks_->commit(batch(creation(1))));
    ASSERT_EQ(1U, asks_->claim(1).size());
  }

  LeaseToken token_ = 1;
};

using Texts = std::vector<std::string>;

TEST_P(StoreStreams, TextGrowsAndGoesWithTheStepsSuccess) {
  begin();
  EXPECT_EQ(Texts{}, kept());
  expect_ok(asks_->commit(batch(part(1, 0, "Hel"), part(1, 3, "lo "), part(1, 0, "x", "other"))));
  expect_ok(asks_->commit(batch(part(1, 6, "w\xC3\xB6rld"))));
  EXPECT_EQ((Texts{"other 1 x", "s 1 Hello w\xC3\xB6rld"}), [this] {
    Texts all = kept();
    std::sort(all.begin(), all.end());
    return all;
  }());
  expect_ok(asks_->commit(batch(recording(1, 1, 0, {step_event("s", "error", EventKind::kStepFailed)}))));
  EXPECT_EQ(2U, kept().size()) << "a failure lets go of nothing";
  expect_ok(asks_->commit(batch(recording(1, 1, 1, {step_event("s", "done")}))));
  EXPECT_EQ((Texts{"other 1 x"}), kept());
}

TEST_P(StoreStreams, APartThatIsWrittenTwiceIsThereOnce) {
  begin();
  expect_ok(asks_->commit(batch(part(1, 0, "ab"), part(1, 2, "cd"), part(1, 2, "cd"))));
  EXPECT_EQ((Texts{"s 1 abcd"}), kept());
}

TEST_P(StoreStreams, OffsetZeroTakesThePlaceOfWhatWas) {
  begin();
  expect_ok(asks_->commit(batch(part(1, 0, "first"), part(1, 5, " answer"), part(2, 0, "second"))));
  EXPECT_EQ((Texts{"s 2 second"}), kept());
}

TEST_P(StoreStreams, TheNextClaimBringsTheText) {
  begin();
  expect_ok(asks_->commit(batch(part(3, 0, "half"))));
  Transition released = recording(1, 1, 0, {});
  released.release = true;
  expect_ok(asks_->commit(batch(std::move(released))));
  const std::vector<RunHistory> claimed = asks_->claim(1);
  ASSERT_EQ(1U, claimed.size());
  EXPECT_EQ((Texts{"s 3 half"}), shown(claimed[0]));
}

TEST_P(StoreStreams, TheTextOutlivesTheProcess) {
  if (!traits().requeues_at_open) return;  // nothing else lies in a file
  begin();
  expect_ok(asks_->commit(batch(part(2, 0, "half"))));
  reopen();
  EXPECT_EQ((Texts{"s 2 half"}), kept());
  const std::vector<RunHistory> claimed = asks_->claim(1);
  ASSERT_EQ(1U, claimed.size());
  EXPECT_EQ((Texts{"s 2 half"}), shown(claimed[0]));
}

TEST_P(StoreStreams, AnOldLeaseWritesNoText) {
  begin();
  token_ = 7;
  EXPECT_EQ(StatusKind::kFenced, asks_->commit_one(part(1, 0, "stale")).status.kind());
  EXPECT_EQ(Texts{}, kept());
  token_ = 1;
  expect_ok(asks_->commit(batch(ending(1, 1))));
  EXPECT_EQ(StatusKind::kFenced, asks_->commit_one(part(1, 0, "late")).status.kind());
  EXPECT_EQ(Texts{}, kept());
}

TEST_P(StoreStreams, TextOfARunThatEndedStaysUntilRetentionDropsIt) {
  begin();
  expect_ok(asks_->commit(batch(part(1, 0, "half"))));
  expect_ok(asks_->commit(batch(ending(1, 1, 0, "gone", RunStatus::kCancelled))));
  EXPECT_EQ((Texts{"s 1 half"}), kept());
  auto policy = std::make_shared<RetentionPolicy>();
  policy->times = {0, 0, 0};
  PruneRequest request;
  request.policy = policy;
  request.now = 1'000'000;
  ASSERT_TRUE(asks_->prune(request));
  const Result<RunHistory> left = asks_->load(1);
  EXPECT_TRUE(!left || shown(*left).empty());
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreStreams, ::testing::ValuesIn(store_cases()), store_name);

}  // namespace
}  // namespace stepwell::testing
