// What every store must do with budgets: no reservation beyond the cap, spends with their events and like them once,
// and those who were held back told in order as soon as there is room.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "contract/store_contract.h"

namespace stepwell::testing {
namespace {

constexpr const char* kReserved = R"({"usd":40,"tokens":4,"budgets":["b"]})";

Spend asking(const std::string& budget, Cost amount, Cost cap = {100, -1}) {
  Spend spend;
  spend.budget = budget;
  spend.reserved = amount;
  spend.cap = cap;
  spend.is_asking = true;
  return spend;
}

Spend settling(const std::string& budget, Cost reserved, Cost spent) {
  Spend spend;
  spend.budget = budget;
  spend.reserved = {-reserved.usd, -reserved.tokens};
  spend.spent = spent;
  spend.call_count = 1;
  return spend;
}

BudgetChange capped(const std::string& name, Cost cap, const std::string& note = "") {
  return {name, false, true, cap, false, note};
}
BudgetChange closed(const std::string& name) { return {name, false, false, {-1, -1}, true, ""}; }
BudgetChange made(const std::string& name, Cost cap = {-1, -1}) { return {name, true, true, cap, false, ""}; }

class StoreBudgets : public StoreContractTest {
 protected:
  void lease(RunId count) {
    for (RunId run = 1; run <= count; ++run) ASSERT_TRUE(asks_->commit_one(creation(run)).status.is_ok());
    ASSERT_EQ(asks_->claim(static_cast<int32_t>(count)).size(), static_cast<size_t>(count));
  }
  Transition spending(RunId run, int64_t seq, EventKind kind, std::vector<Spend> spends) {
    Transition made = recording(run, 1, seq, {step_event("ask", kReserved, kind)});
    made.spends = std::move(spends);
    made.wake_id = next_id_ += 1'000;
    return made;
  }
  CommitAnswer ask(RunId run, int64_t seq = 0, const Spend& spend = asking("b", {40, 4})) {
    return asks_->commit_one(spending(run, seq, EventKind::kCallReserved, {spend}));
  }
  CommitAnswer settle(RunId run, Cost spent = {1, 1}, int64_t seq = 1) {
    return asks_->commit_one(spending(run, seq, EventKind::kCallSettled, {settling("b", {40, 4}, spent)}));
  }
  CommitAnswer change(const BudgetChange& change) {
    Transition made;
    made.at = 9'000;
    made.budget = std::make_unique<BudgetChange>(change);
    made.wake_id = next_id_ += 1'000;
    return asks_->commit_one(std::move(made));
  }
  BudgetRow budget(const std::string& name = "b") {
    const auto found = asks_->budgets(name);
    EXPECT_FALSE(found.empty());
    return found.empty() ? BudgetRow{} : found.front();
  }
  static std::vector<RunId> told(const CommitAnswer& answer) {
    std::vector<RunId> runs;
    for (const Message& message : answer.woken) runs.push_back(message.to);
    return runs;
  }
  using Runs = std::vector<RunId>;
  int64_t next_id_ = 1'000'000;
};

TEST_P(StoreBudgets, AReservationFitsOrIsRecordedAsHeld) {
  lease(3);
  EXPECT_TRUE(ask(1).refusal.budget.empty());
  EXPECT_TRUE(ask(2).refusal.budget.empty());
  const CommitAnswer third = ask(3);
  EXPECT_TRUE(third.status.is_ok());
  EXPECT_EQ(third.refusal.budget, "b");
  EXPECT_FALSE(third.refusal.is_closed);
  EXPECT_FALSE(third.refusal.is_too_large);
  const BudgetRow row = budget();
  EXPECT_EQ(row.cap, (Cost{100, -1}));
  EXPECT_EQ(row.reserved, (Cost{80, 8}));
  EXPECT_EQ(row.waiting_count, 1);
  EXPECT_EQ(asks_->load(2)->events.at(0).kind, EventKind::kCallReserved);
  EXPECT_EQ(asks_->load(3)->events.at(0).kind, EventKind::kCallHeld);
  EXPECT_EQ(asks_->load(3)->row.event_count, 1);
}

TEST_P(StoreBudgets, OfSeveralBudgetsAllTakeItOrNone) {
  lease(1);
  Transition both =
      spending(1, 0, EventKind::kCallReserved, {asking("a", {40, 4}, {1'000, -1}), asking("b", {40, 4}, {50, 3})});
  EXPECT_EQ(asks_->commit_one(std::move(both)).refusal.budget, "b");
  EXPECT_EQ(budget("a").reserved, Cost{});
  EXPECT_EQ(budget("b").reserved, Cost{});
}

TEST_P(StoreBudgets, SpendsAreAppliedOnce) {
  lease(1);
  ask(1);
  ask(1);  // the same once more: its answer was lost
  EXPECT_EQ(budget().reserved, (Cost{40, 4}));
  settle(1, {30, 3});
  settle(1, {30, 3});
  EXPECT_EQ(budget().spent, (Cost{30, 3}));
  EXPECT_EQ(budget().reserved, Cost{});
  EXPECT_EQ(budget().call_count, 1);
}

TEST_P(StoreBudgets, AFencedOwnerSpendsNothing) {
  lease(1);
  Transition old = spending(1, 0, EventKind::kCallReserved, {asking("b", {40, 4})});
  old.token = 0;
  EXPECT_EQ(asks_->commit_one(std::move(old)).status.kind(), StatusKind::kFenced);
  EXPECT_TRUE(asks_->budgets("b").empty());
}

TEST_P(StoreBudgets, WhoWaitsIsToldInOrderWhenThereIsRoom) {
  lease(5);
  for (RunId run = 1; run <= 5; ++run) ask(run);
  EXPECT_EQ(budget().waiting_count, 3);
  EXPECT_EQ(told(settle(1)), Runs{3}) << "99 - 40: room for one";
  const std::vector<Message> messages = asks_->load(3)->messages;
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].topic, "budget:b/ask");
  EXPECT_EQ(told(settle(2, {1, 1})), Runs{4}) << "what was promised to 3 is not promised twice";
  EXPECT_TRUE(ask(3, 1).refusal.budget.empty());
  EXPECT_TRUE(ask(4, 1).refusal.budget.empty());
  EXPECT_EQ(budget().waiting_count, 1);
  EXPECT_EQ(told(settle(3, {1, 1}, 2)), Runs{5});
}

TEST_P(StoreBudgets, WhoWasToldAndEndsLeavesItsPlaceToTheNext) {
  lease(5);
  for (RunId run = 1; run <= 4; ++run) ask(run);
  EXPECT_EQ(told(settle(1, {59, 1})), Runs{}) << "1 left";
  EXPECT_EQ(told(change(capped("b", {140, -1}))), Runs{3});
  Transition end = ending(3, 1, 1);
  end.wake_id = next_id_ += 1'000;
  EXPECT_EQ(told(asks_->commit_one(std::move(end))), Runs{4});
}

TEST_P(StoreBudgets, ARaisedCapWakesParkedRuns) {
  lease(3);
  for (RunId run = 1; run <= 3; ++run) ask(run);
  Transition parked = parking(3, 1);
  parked.first_seq = 1;
  EXPECT_TRUE(asks_->commit_one(std::move(parked)).status.is_ok());
  EXPECT_EQ(asks_->load(3)->row.status, RunStatus::kWaiting);
  EXPECT_EQ(told(change(capped("b", {120, -1}, "{\"by\":\"ann\"}"))), Runs{3});
  EXPECT_EQ(asks_->load(3)->row.status, RunStatus::kQueued);
  EXPECT_EQ(budget().cap, (Cost{120, -1}));
  EXPECT_EQ(budget().notes, "{\"by\":\"ann\"}\n");
  EXPECT_EQ(asks_->budgets("").size(), 1U);
}

TEST_P(StoreBudgets, AClosedBudgetRefusesAndTellsAll) {
  lease(4);
  for (RunId run = 1; run <= 4; ++run) ask(run);
  EXPECT_EQ(told(change(closed("b"))), (Runs{3, 4}));
  EXPECT_TRUE(ask(3, 1).refusal.is_closed);
  EXPECT_EQ(budget().waiting_count, 0);
  EXPECT_TRUE(budget().is_closed);
}

TEST_P(StoreBudgets, ManyAreToldALittleAtATime) {
  const RunId count = kBudgetWakeCountMax + 10;
  lease(count);
  for (RunId run = 1; run <= count; ++run) ask(run, 0, asking("b", {40, 4}, {40, -1}));
  const CommitAnswer first = change(capped("b", {1'000'000, -1}));
  EXPECT_EQ(first.woken.size(), static_cast<size_t>(kBudgetWakeCountMax));
  EXPECT_EQ(first.wakes_more, "b");
  const CommitAnswer rest = change(BudgetChange{"b", false, false, {-1, -1}, false, ""});
  EXPECT_EQ(rest.woken.size(), 9U);
  EXPECT_TRUE(rest.wakes_more.empty());
}

TEST_P(StoreBudgets, ACallThatTheWholeBudgetCouldNotPayDoesNotWait) {
  lease(1);
  EXPECT_TRUE(ask(1, 0, asking("b", {101, 1})).refusal.is_too_large);
  EXPECT_EQ(budget().waiting_count, 0);
  Spend failing = asking("b", {90, 1});
  failing.fails = true;
  EXPECT_TRUE(ask(1, 1, failing).refusal.budget.empty());
  EXPECT_EQ(ask(1, 2, failing).refusal.budget, "b");
  EXPECT_EQ(budget().waiting_count, 0) << "it fails instead";
}

TEST_P(StoreBudgets, WhatWasNotReservedIsNotGivenBack) {
  lease(3);
  for (RunId run = 1; run <= 3; ++run) ask(run);
  Spend back = settling("b", {40, 4}, {});
  back.call_count = 0;
  back.reserved_seq = 0;
  asks_->commit_one(spending(3, 1, EventKind::kCallSettled, {back}));  // it was refused
  EXPECT_EQ(budget().reserved, (Cost{80, 8}));
  asks_->commit_one(spending(2, 1, EventKind::kCallSettled, {back}));
  EXPECT_EQ(budget().reserved, (Cost{40, 4}));
}

TEST_P(StoreBudgets, AnUnknownBudgetIsNotChangedUnlessItIsMade) {
  EXPECT_EQ(change(capped("b", {1, 1})).status.code(), code::kBudgetNotFound);
  EXPECT_TRUE(change(made("b", {1, 1})).status.is_ok());
  EXPECT_TRUE(change(made("b/day")).status.is_ok());
  EXPECT_TRUE(change(made("bc")).status.is_ok());
  EXPECT_EQ(asks_->budgets("b").size(), 2U);
  EXPECT_EQ(asks_->budgets("").size(), 3U);
  lease(1);
  EXPECT_TRUE(ask(1, 0, asking("b/day", {5, 5}, {3, -1})).refusal.is_too_large) << "no cap yet: the call's";
}

TEST_P(StoreBudgets, ItSurvivesReopening) {
  lease(3);
  for (RunId run = 1; run <= 3; ++run) ask(run);
  const BudgetRow before = budget();
  reopen();
  const BudgetRow after = budget();
  EXPECT_EQ(after.reserved, before.reserved);
  EXPECT_EQ(after.waiting_count, 1);
  EXPECT_EQ(told(change(capped("b", {200, -1}))), Runs{3});
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreBudgets, ::testing::ValuesIn(store_cases()), store_name);

}  // namespace
}  // namespace stepwell::testing
