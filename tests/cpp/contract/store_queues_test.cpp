// What every store must do with queues that have limits, with starts that become one run, with documents, and with
// agreed times.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "contract/store_contract.h"

namespace stepwell::testing {
namespace {

Transition of_group(RunId run, const std::string& group, int32_t priority = 0) {
  Transition created = creation(run);
  created.create->group = group;
  created.create->priority = priority;
  return created;
}

Transition collapsing(RunId run, const Collapse& collapse, const std::string& input, WallMs wake_at = -1) {
  Transition created = creation(run, input);
  created.create->collapse = collapse;
  created.create->wake_at = wake_at;
  return created;
}

Transition keeping(const std::string& name, int64_t version, const std::string& body) {
  Transition transition;
  transition.at = 77;
  transition.document = std::make_unique<Document>(Document{"plan", name, version, 0, body});
  return transition;
}

class StoreQueues : public StoreContractTest {
 protected:
  void limit(const QueueLimits& limits) { EXPECT_TRUE(asks_->set_limits(limits).is_ok()); }
  void create(Transition transition) {
    const CommitAnswer answer = asks_->commit_one(std::move(transition));
    EXPECT_TRUE(answer.status.is_ok()) << answer.status.to_string();
  }
  std::vector<RunId> claim(int32_t count_max, WallMs now = 10'000) {
    std::vector<RunId> runs;
    const ClaimAnswer answer = asks_->claim_at(now, count_max).value();
    for (const RunHistory& history : answer.runs) runs.push_back(history.row.run);
    more_at_ = answer.more_at;
    return runs;
  }
  void end(RunId run, LeaseToken token = 1) { create(ending(run, token)); }

  using Runs = std::vector<RunId>;
  WallMs more_at_ = -1;
};

TEST_P(StoreQueues, NoMoreThanTheLimitIsLeased) {
  limit({.in_flight_max = 2});
  for (RunId run = 1; run <= 4; ++run) create(creation(run));
  EXPECT_EQ(claim(10), (Runs{1, 2}));
  EXPECT_EQ(claim(10), Runs{});
  end(1);
  EXPECT_EQ(claim(10), Runs{3});
  const QueueView view = asks_->look().value();
  EXPECT_EQ(view.queued_count, 1);
  EXPECT_EQ(view.running_count, 2);
  EXPECT_EQ(view.limits.in_flight_max, 2);
}

TEST_P(StoreQueues, NobodyGetsPastTheLineByStartingARunInHand) {
  limit({.in_flight_max = 1});
  for (RunId run = 1; run <= 2; ++run) {
    Transition in_hand = creation(run);
    in_hand.create->claimed_by = 7;
    const CommitAnswer answer = asks_->commit_one(std::move(in_hand));
    EXPECT_TRUE(answer.status.is_ok());
    EXPECT_TRUE(answer.is_queued);
  }
  EXPECT_EQ(claim(10), Runs{1});
}

TEST_P(StoreQueues, AGroupHasItsOwnLimit) {
  limit({.group_in_flight_max = 1});
  create(of_group(1, "ann"));
  create(of_group(2, "ann"));
  create(of_group(3, "bob"));
  create(creation(4));
  create(of_group(5, "ann"));
  EXPECT_EQ(asks_->look().value().held_count, 2);
  EXPECT_EQ(claim(10), (Runs{1, 3, 4}));
  EXPECT_EQ(claim(10), Runs{});
  end(1);
  EXPECT_EQ(claim(10), Runs{2});
  end(2);
  EXPECT_EQ(claim(10), Runs{5});
  EXPECT_EQ(asks_->look().value().queued_count, 0);
}

TEST_P(StoreQueues, InAGroupTheMostUrgentGoesNext) {
  limit({.group_in_flight_max = 1});
  create(of_group(1, "ann"));
  create(of_group(2, "ann", 5));
  create(of_group(3, "ann", -5));
  EXPECT_EQ(claim(10), Runs{1});
  end(1);
  EXPECT_EQ(claim(10), Runs{3});
}

TEST_P(StoreQueues, HeldRunsAreFoundCancelledAndKeptOverAReopening) {
  limit({.group_in_flight_max = 1});
  for (RunId run = 1; run <= 4; ++run) create(of_group(run, "ann"));
  EXPECT_EQ(claim(10), Runs{1});
  EXPECT_EQ(asks_->load(3).value().row.status, RunStatus::kQueued);
  EXPECT_EQ(asks_->load(3).value().row.group, "ann");
  end(2, 0);  // cancelled where it stood
  reopen();
  EXPECT_EQ(asks_->look().value().limits.group_in_flight_max, 1);
  const bool is_requeued = GetParam().traits.requeues_at_open;
  EXPECT_EQ(asks_->look().value().queued_count, is_requeued ? 3 : 2);
  EXPECT_EQ(claim(10), is_requeued ? Runs{1} : Runs{});
  end(1, is_requeued ? 2 : 1);
  EXPECT_EQ(claim(10), Runs{3});
}

TEST_P(StoreQueues, AGroupThatWaitsInTheStoreHasGivenItsPlaceBack) {
  limit({.group_in_flight_max = 1});
  create(of_group(1, "ann"));
  create(of_group(2, "ann"));
  EXPECT_EQ(claim(10), Runs{1});
  Transition aside = recording(1, 1, 0, {});
  aside.park = Park{50'000, 0, false};
  create(std::move(aside));
  EXPECT_EQ(claim(10), Runs{2});
  EXPECT_EQ(asks_->due(60'000).queued_count, 1);
  EXPECT_EQ(claim(10), Runs{});
  end(2);
  EXPECT_EQ(claim(10), Runs{1});
}

TEST_P(StoreQueues, FairGroupsTakeTurns) {
  limit({.in_flight_max = 2, .is_fair = true});
  for (RunId run = 1; run <= 20; ++run) create(of_group(run, "greedy"));
  create(of_group(21, "small"));
  create(of_group(22, "small"));
  Runs order;
  for (int i = 0; i < 22; ++i) {
    const Runs next = claim(1);
    ASSERT_EQ(next.size(), 1U);
    order.push_back(next.front());
    end(next.front());
  }
  // The greedy one had four in the line when the small one came.
  EXPECT_EQ(Runs(order.begin(), order.begin() + 4), (Runs{1, 2, 3, 4}));
  const auto small_at = std::find(order.begin(), order.end(), 22) - order.begin();
  EXPECT_LE(small_at, 8);
  std::sort(order.begin(), order.end());
  for (RunId run = 1; run <= 22; ++run) EXPECT_EQ(order[static_cast<size_t>(run - 1)], run);
}

TEST_P(StoreQueues, OneFairGroupAloneIsNotHeldUp) {
  limit({.is_fair = true});
  for (RunId run = 1; run <= 50; ++run) create(of_group(run, "ann"));
  EXPECT_EQ(claim(40).size(), 40U);
  EXPECT_EQ(claim(40).size(), 10U);
}

TEST_P(StoreQueues, RateHoldsOverAnyPeriodAndOverAReopening) {
  limit({.rate_count = 3, .rate_period_ms = 1'000});
  for (RunId run = 1; run <= 8; ++run) create(creation(run));
  EXPECT_EQ(claim(2, 10'000), (Runs{1, 2}));
  EXPECT_EQ(claim(10, 10'400), Runs{3});
  EXPECT_EQ(more_at_, 11'000);
  reopen();
  EXPECT_EQ(claim(10, 10'999), Runs{});
  EXPECT_EQ(more_at_, 11'000);
  EXPECT_EQ(claim(10, 11'000).size(), 2U);
  EXPECT_EQ(more_at_, 11'400);
  EXPECT_EQ(claim(10, 11'400).size(), 1U);
}

TEST_P(StoreQueues, PauseAndResume) {
  limit({.is_paused = true});
  create(creation(1));
  EXPECT_EQ(claim(10), Runs{});
  EXPECT_EQ(asks_->look().value().queued_count, 1);
  limit({});
  EXPECT_EQ(claim(10), Runs{1});
}

TEST_P(StoreQueues, LimitsMayChangeWhileRunsAreQueuedAndLeased) {
  for (RunId run = 1; run <= 6; ++run) create(of_group(run, run % 2 == 0 ? "even" : "odd"));
  EXPECT_EQ(claim(2), (Runs{1, 2}));
  limit({.group_in_flight_max = 2});
  EXPECT_EQ(claim(10), (Runs{3, 4}));
  limit({.group_in_flight_max = 1});
  end(1);
  EXPECT_EQ(claim(10), Runs{});  // one odd run is still leased
  end(3);
  EXPECT_EQ(claim(10), Runs{5});
  limit({});
  EXPECT_EQ(claim(10), Runs{6});
}

TEST_P(StoreQueues, AShrunkenLimitHoldsForRunsThatStoodInLine) {
  limit({.group_in_flight_max = 5});
  for (RunId run = 1; run <= 5; ++run) create(of_group(run, "ann"));
  limit({.group_in_flight_max = 1});
  EXPECT_EQ(claim(10), Runs{1});
  end(1);
  EXPECT_EQ(claim(10), Runs{2});
}

// A signal to a run that was to begin an hour later made it begin at once.
TEST_P(StoreQueues, AMessageDoesNotBeginARunBeforeItsTime) {
  Transition later = creation(1);
  later.create->wake_at = 20'000;
  create(std::move(later));
  create(telling(message_to(1, 5, "signal:go", "p")));
  EXPECT_TRUE(asks_->claim(5).empty());
  EXPECT_EQ(asks_->load(1).value().row.status, RunStatus::kWaiting);
  EXPECT_EQ(asks_->due(20'000).queued_count, 1);
  EXPECT_EQ(asks_->claim(5).at(0).messages.size(), 1U);
}

TEST_P(StoreQueues, DebouncedStartsKeepTheLastInputAndAreNotPutOffForEver) {
  Collapse collapse{CollapseKind::kDebounce, "doc-7", 10'000, 0};
  create(collapsing(1, collapse, "[1]", 5'000));  // made at 1'001
  const CommitAnswer second = asks_->commit_one(collapsing(2, collapse, "[2]", 8'000));
  ASSERT_TRUE(second.attached);
  EXPECT_EQ(second.attached->run, 1);
  const CommitAnswer third = asks_->commit_one(collapsing(3, collapse, "[3]", 60'000));
  EXPECT_EQ(third.attached->wake_at, 11'001);
  EXPECT_EQ(asks_->due(11'000).queued_count, 0);
  EXPECT_EQ(asks_->due(11'001).queued_count, 1);
  const RunHistory taken = asks_->claim(1).at(0);
  EXPECT_EQ(taken.row.run, 1);
  EXPECT_EQ(taken.row.input, "[3]");
  // It has begun: the next start is a run of its own.
  EXPECT_FALSE(asks_->commit_one(collapsing(4, collapse, "[4]", 9'000)).attached);
  EXPECT_EQ(asks_->load(2).error().kind(), StatusKind::kNotFound);
}

TEST_P(StoreQueues, ASingletonIsAloneUntilItEnds) {
  const Collapse collapse{CollapseKind::kSingleton, "sync", -1, 0};
  create(collapsing(1, collapse, "a"));
  EXPECT_EQ(asks_->commit_one(collapsing(2, collapse, "b")).attached->run, 1);
  EXPECT_EQ(claim(5), Runs{1});
  EXPECT_EQ(asks_->commit_one(collapsing(3, collapse, "c")).attached->run, 1);
  EXPECT_EQ(asks_->load(1).value().row.input, "a");
  end(1);
  EXPECT_FALSE(asks_->commit_one(collapsing(4, collapse, "d")).attached);
  EXPECT_EQ(claim(5), Runs{4});
}

TEST_P(StoreQueues, ABatchCollectsItemsUntilItsTimeOrUntilItIsFull) {
  const Collapse collapse{CollapseKind::kBatch, "", -1, 3};
  create(collapsing(1, collapse, "[1]", 5'000));
  EXPECT_EQ(asks_->commit_one(collapsing(2, collapse, "[2]", 9'000)).attached->wake_at, 5'000);
  EXPECT_EQ(claim(5), Runs{});
  EXPECT_EQ(asks_->commit_one(collapsing(3, collapse, "[3]", 9'000)).attached->status, RunStatus::kQueued);
  EXPECT_FALSE(asks_->commit_one(collapsing(4, collapse, "[4]", 9'500)).attached);
  EXPECT_EQ(asks_->claim(5).at(0).row.input, "[1,2,3]");
  EXPECT_EQ(asks_->due(9'500).queued_count, 1);
  EXPECT_EQ(asks_->claim(5).at(0).row.input, "[4]");
}

TEST_P(StoreQueues, DocumentsChangeOnlyFromTheVersionThatWasRead) {
  create(keeping("b", 0, "one"));
  create(keeping("a", -1, "first"));
  EXPECT_EQ(asks_->commit_one(keeping("b", 0, "again")).status.code(), code::kDocumentChanged);
  create(keeping("b", 1, "two"));
  reopen();
  const std::vector<Document> found = asks_->documents("plan");
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].name, "a");
  EXPECT_EQ(found[1].body, "two");
  EXPECT_EQ(found[1].version, 2);
  create(keeping("b", 2, ""));
  EXPECT_TRUE(asks_->documents("plan", "b").empty());
  EXPECT_TRUE(asks_->documents("other").empty());
}

TEST_P(StoreQueues, KeepsAgreedTimesAndFindsBreachesPageByPage) {
  for (RunId run = 1; run <= 5; ++run) {
    Transition made = creation(run);
    if (run == 4) made.create->workflow = "other";
    made.create->sla_at = run == 1 ? -1 : 40'000 + run;
    made.create->sla_ms = run == 1 ? -1 : 40;
    if (run == 3) made.create->breach_flow = "told";
    create(std::move(made));
  }
  const std::vector<RunHistory> claimed = asks_->claim(5);
  ASSERT_EQ(claimed.size(), 5U);
  EXPECT_EQ(claimed[0].row.sla_at, -1);
  EXPECT_EQ(claimed[2].row.sla_at, 40'003);
  EXPECT_EQ(claimed[2].row.sla_ms, 40);
  EXPECT_EQ(claimed[2].row.breach_flow, "told");
  const Event breach = step_event("", "{}", EventKind::kSlaBreached);
  const Event of_step = step_event("a", "{}", EventKind::kSlaBreached);
  create(recording(2, 1, 0, {breach}));
  create(recording(3, 1, 0, {step_event("a", "1"), of_step, breach}));
  create(recording(4, 1, 0, {of_step}));
  create(recording(5, 1, 0, {step_event("a", "1")}));
  const auto found = [&](const std::string& workflow, RunId before, int64_t count_max) {
    FindRequest request;
    request.workflow = workflow;
    request.is_breached = true;
    request.before = before;
    request.count_max = count_max;
    std::vector<RunId> runs;
    const std::vector<RunHistory> histories = asks_->find(request).value();
    runs.reserve(histories.size());
    for (const RunHistory& history : histories) runs.push_back(history.row.run);
    return runs;
  };
  EXPECT_EQ(found("", 0, 2), (std::vector<RunId>{4, 3}));
  EXPECT_EQ(found("", 3, 2), (std::vector<RunId>{2}));
  EXPECT_EQ(found("triage", 0, 9), (std::vector<RunId>{3, 2}));
  EXPECT_EQ(asks_->load(3).value().row.breach_flow, "told");
  EXPECT_EQ(asks_->load(3).value().row.sla_at, 40'003);
  EXPECT_EQ(asks_->load(3).value().row.sla_ms, 40);
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreQueues, ::testing::ValuesIn(store_cases()), store_name);

}  // namespace
}  // namespace stepwell::testing
