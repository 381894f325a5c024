// What every store must do about old runs and long payloads, run on each of them.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "contract/store_contract.h"

namespace stepwell::testing {
namespace {

class StoreUpkeep : public StoreContractTest {};

PruneRequest pruning(WallMs now, int64_t key_ms = 0, RunId after = 0, int64_t rows_max = 1000) {
  RetentionPolicy policy;
  policy.times = {100, -1, 500};
  policy.by_workflow["slow"] = {1'000'000, -1, -1};
  policy.key_ms = key_ms;
  return {std::make_shared<const RetentionPolicy>(std::move(policy)), now, after, rows_max};
}

// Ended at 7'000; see StoreAsks.
void end_run(StoreAsks& asks, RunId run, const std::string& key, RunStatus status, const std::string& workflow) {
  Transition fresh = creation(run, std::string(9'000, 'i'), key);
  fresh.create->workflow = workflow;
  fresh.create->claimed_by = 1;
  asks.commit(batch(std::move(fresh), recording(run, 1, 0, {step_event("a", std::string(9'000, 'e'))}),
                    ending(run, 1, 1, std::string(9'000, 'r'), status)));
}

TEST_P(StoreUpkeep, PruningFollowsThePolicy) {
  end_run(*asks_, 1, "", RunStatus::kSucceeded, "triage");
  end_run(*asks_, 2, "", RunStatus::kFailed, "triage");
  end_run(*asks_, 3, "", RunStatus::kDead, "triage");
  end_run(*asks_, 4, "", RunStatus::kCancelled, "triage");
  end_run(*asks_, 5, "", RunStatus::kSucceeded, "slow");
  expect_ok(asks_->commit(batch(creation(6))));
  EXPECT_EQ(asks_->prune(pruning(7'099)).value().deleted_count, 0);
  const PruneAnswer first = asks_->prune(pruning(7'100)).value();
  EXPECT_EQ(first.deleted_count, 2);
  EXPECT_TRUE(first.is_over);
  EXPECT_FALSE(asks_->load(1));
  EXPECT_FALSE(asks_->load(4));
  EXPECT_EQ(asks_->prune(pruning(7'500)).value().deleted_count, 1) << "the dead one";
  EXPECT_EQ(asks_->prune(pruning(999'999)).value().deleted_count, 0);
  EXPECT_EQ(asks_->prune(pruning(1'007'000)).value().deleted_count, 1) << "the slow one";
  EXPECT_EQ(asks_->load(2).value().row.input, std::string(9'000, 'i')) << "failed runs are for ever here";
  EXPECT_EQ(asks_->claim(10).size(), 1U) << "and those that have not ended";
}

TEST_P(StoreUpkeep, PrunedRunAnswersForItsKeyUntilThatIsOldEnough) {
  end_run(*asks_, 1, "k", RunStatus::kSucceeded, "triage");
  const PruneAnswer trimmed = asks_->prune(pruning(8'000, 50'000)).value();
  EXPECT_EQ(trimmed.trimmed_count, 1);
  EXPECT_EQ(trimmed.deleted_count, 0);
  EXPECT_EQ(asks_->prune(pruning(8'001, 50'000)).value().trimmed_count, 0) << "it was done";
  const RunHistory kept = asks_->load(1).value();
  EXPECT_TRUE(kept.row.input.empty());
  EXPECT_TRUE(kept.events.empty());
  const CommitAnswer met = asks_->commit_one(creation(2, "again", "k"));
  ASSERT_NE(met.attached, nullptr);
  EXPECT_EQ(met.attached->run, 1);
  EXPECT_EQ(met.attached->result, std::string(9'000, 'r'));
  EXPECT_EQ(asks_->commit_one(creation(2, "other", "k", 9)).status.code(), code::kKeyConflict);
  EXPECT_EQ(asks_->prune(pruning(51'001, 50'000)).value().deleted_count, 1);
  EXPECT_FALSE(asks_->load(1));
  EXPECT_EQ(asks_->commit_one(creation(2, "other", "k", 9)).attached, nullptr) << "the key is free";
}

TEST_P(StoreUpkeep, KeysOfJoinedStartsGoWithTheirRunsAndNoOthers) {
  const auto start = [this](RunId run, int64_t number) {
    Transition fresh = creation(run);
    // Longer than what a string holds by itself, so that a moved one is seen.
    fresh.create->collapse = {CollapseKind::kSingleton, "one run a customer " + std::to_string(number), -1, 0};
    return asks_->commit_one(std::move(fresh));
  };
  for (RunId run = 1; run <= 9; ++run) EXPECT_FALSE(start(run, run).attached);
  EXPECT_EQ(asks_->claim(8).size(), 8U);
  for (RunId run = 1; run <= 8; ++run) expect_ok(asks_->commit(batch(ending(run, 1))));
  RunId after = 0;
  for (int slice = 0; slice < 30; ++slice) {
    const PruneAnswer answer = asks_->prune(pruning(9'000, 0, after, 2)).value();
    after = answer.is_over ? 0 : answer.after;
  }
  EXPECT_FALSE(asks_->load(8));
  EXPECT_EQ(start(20, 9).attached->run, 9) << "it has not ended";
  EXPECT_FALSE(start(21, 8).attached);
}

TEST_P(StoreUpkeep, PruningGoesOnWhereASliceEnded) {
  for (RunId run = 1; run <= 7; ++run) end_run(*asks_, run, "", RunStatus::kSucceeded, "triage");
  int64_t deleted = 0;
  int slices = 0;
  PruneAnswer answer;
  while (!answer.is_over && ++slices < 20) {
    answer = asks_->prune(pruning(9'000, 0, answer.after, 2)).value();
    deleted += answer.deleted_count;
  }
  EXPECT_EQ(deleted, 7);
  EXPECT_GT(slices, 3);
  EXPECT_TRUE(asks_->find({}).value().empty());
}

TEST_P(StoreUpkeep, LongPayloadsComeBackToTheByte) {
  for (const size_t bytes : {size_t{4'096}, size_t{4'097}, size_t{70'000}}) {
    const auto run = static_cast<RunId>(bytes);
    Transition fresh = creation(run, noise(bytes));
    fresh.create->claimed_by = 1;
    expect_ok(asks_->commit(batch(std::move(fresh), recording(run, 1, 0, {step_event("a", std::string(bytes, 'a'))}),
                                  ending(run, 1, 1, noise(bytes, 2)))));
    if (!traits().is_shared) reopen();
    const RunHistory found = asks_->load(run).value();
    EXPECT_EQ(found.row.input, noise(bytes));
    EXPECT_EQ(found.events.front().payload, std::string(bytes, 'a'));
    EXPECT_EQ(found.row.result, noise(bytes, 2));
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreUpkeep, ::testing::ValuesIn(store_cases()), store_name);

}  // namespace
}  // namespace stepwell::testing
