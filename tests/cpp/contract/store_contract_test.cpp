// What every store must do, run on each of them. A store that passes this and the simulator is finished.
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "contract/store_contract.h"
#include "store/memory_store.h"
#include "store/sqlite_store.h"

namespace stepwell::testing {
namespace {

class StoreContract : public StoreContractTest {};

TEST_P(StoreContract, CreatedRunIsQueuedAndClaimedWithItsInput) {
  expect_ok(asks_->commit(batch(creation(1, "hello", "k-1"))));
  EXPECT_EQ(asks_->depth().value(), 1);
  const std::vector<RunHistory> claimed = asks_->claim(10);
  ASSERT_EQ(claimed.size(), 1U);
  const RunRow& row = claimed[0].row;
  EXPECT_EQ(row.run, 1);
  EXPECT_EQ(row.status, RunStatus::kRunning);
  EXPECT_EQ(row.token, 1);
  EXPECT_EQ(row.claims, 1);
  EXPECT_EQ(row.event_count, 0);
  EXPECT_EQ(row.workflow, "triage");
  EXPECT_EQ(row.queue, "default");
  EXPECT_EQ(row.key, "k-1");
  EXPECT_EQ(row.input, "hello");
  EXPECT_EQ(row.created_at, 1001);
  EXPECT_TRUE(claimed[0].events.empty());
  EXPECT_EQ(asks_->depth().value(), 0);
  EXPECT_TRUE(asks_->claim(10).empty());
}

TEST_P(StoreContract, RunMayBeCreatedAlreadyLeased) {
  Transition born_leased = creation(1);
  born_leased.create->claimed_by = 7;
  expect_ok(asks_->commit(batch(std::move(born_leased))));
  EXPECT_EQ(asks_->depth().value(), 0);
  EXPECT_TRUE(asks_->claim(10).empty());
  const RunRow row = asks_->load(1).value().row;
  EXPECT_EQ(row.status, RunStatus::kRunning);
  EXPECT_EQ(row.token, 1);
  EXPECT_EQ(row.claims, 1);
  EXPECT_TRUE(asks_->commit_one(ending(1, 1)).status.is_ok());
}

TEST_P(StoreContract, ClaimsOldestFirstOfItsOwnQueue) {
  Transition elsewhere = creation(2);
  elsewhere.create->queue = "other";
  expect_ok(asks_->commit(batch(creation(5), creation(3), std::move(elsewhere), creation(4))));
  std::vector<RunHistory> claimed = asks_->claim(2);
  ASSERT_EQ(claimed.size(), 2U);
  EXPECT_EQ(claimed[0].row.run, 3);
  EXPECT_EQ(claimed[1].row.run, 4);
  EXPECT_EQ(asks_->depth().value(), 1);
  EXPECT_EQ(asks_->depth("other").value(), 1);
  EXPECT_EQ(asks_->depth("nowhere").value(), 0);
  EXPECT_TRUE(asks_->claim(2, "nowhere").empty());
  EXPECT_TRUE(asks_->claim(0).empty());
  EXPECT_EQ(asks_->claim(2).at(0).row.run, 5);
}

TEST_P(StoreContract, HistoryComesBackInOrderByteForByte) {
  const std::string binary("a\0b\xff'\n", 6);
  const std::string large(300'000, 'L');
  expect_ok(asks_->commit(batch(creation(1, binary))));
  asks_->claim(1);
  Event failed = step_event("fetch#1", binary, EventKind::kStepAttemptFailed);
  failed.attempt = 3;
  failed.at = 1'790'000'000'123;
  expect_ok(asks_->commit(batch(recording(1, 1, 0, {failed}))));
  expect_ok(asks_->commit(batch(recording(1, 1, 1, {step_event("fetch#1", large), step_event("end\"quote", "")}))));
  const RunHistory history = asks_->load(1).value();
  EXPECT_EQ(history.row.input, binary);
  EXPECT_EQ(history.row.event_count, 3);
  ASSERT_EQ(history.events.size(), 3U);
  EXPECT_EQ(history.events[0].kind, EventKind::kStepAttemptFailed);
  EXPECT_EQ(history.events[0].attempt, 3);
  EXPECT_EQ(history.events[0].step, "fetch#1");
  EXPECT_EQ(history.events[0].payload, binary);
  EXPECT_EQ(history.events[0].at, 1'790'000'000'123);
  EXPECT_EQ(history.events[1].payload, large);
  EXPECT_EQ(history.events[2].step, "end\"quote");
  EXPECT_EQ(history.events[2].payload, "");
}

TEST_P(StoreContract, RepeatedEventsAreNotAppendedTwice) {
  expect_ok(asks_->commit(batch(creation(1))));
  asks_->claim(1);
  const auto both = [] { return std::vector<Event>{step_event("a", "1"), step_event("b", "2")}; };
  expect_ok(asks_->commit(batch(recording(1, 1, 0, {step_event("a", "1")}))));
  expect_ok(asks_->commit(batch(recording(1, 1, 0, {step_event("a", "1")}))));              // whole
  expect_ok(asks_->commit(batch(recording(1, 1, 0, both()), recording(1, 1, 0, both()))));  // in part, then whole
  const RunHistory history = asks_->load(1).value();
  ASSERT_EQ(history.events.size(), 2U);
  EXPECT_EQ(history.row.event_count, 2);
  EXPECT_EQ(history.events[1].step, "b");
}

TEST_P(StoreContract, GapInTheHistoryIsRefused) {
  expect_ok(asks_->commit(batch(creation(1))));
  asks_->claim(1);
  const CommitAnswer answer = asks_->commit_one(recording(1, 1, 2, {step_event("late", "")}));
  EXPECT_EQ(answer.status.kind(), StatusKind::kInvalid) << answer.status.to_string();
  EXPECT_TRUE(asks_->load(1).value().events.empty());
}

TEST_P(StoreContract, StaleTokenWritesNothingAndDisturbsNobody) {
  expect_ok(asks_->commit(batch(creation(1), creation(2))));
  asks_->claim(2);
  const std::vector<CommitAnswer> answers =
      asks_->commit(batch(recording(2, 1, 0, {step_event("a", "1")}), recording(1, 9, 0, {step_event("b", "2")}),
                          ending(1, 0), ending(99, 1), ending(2, 1, 1)));
  ASSERT_EQ(answers.size(), 5U);
  EXPECT_TRUE(answers[0].status.is_ok());
  EXPECT_EQ(answers[1].status.kind(), StatusKind::kFenced);
  EXPECT_EQ(answers[1].status.code(), code::kFenced);
  EXPECT_NE(answers[1].status.message().find("r_1"), std::string::npos);
  EXPECT_EQ(answers[2].status.kind(), StatusKind::kFenced);
  EXPECT_EQ(answers[3].status.kind(), StatusKind::kNotFound);
  EXPECT_EQ(answers[3].status.code(), code::kRunNotFound);
  EXPECT_TRUE(answers[4].status.is_ok());
  EXPECT_EQ(asks_->load(1).value().row.status, RunStatus::kRunning);
  EXPECT_TRUE(asks_->load(1).value().events.empty());
  EXPECT_EQ(asks_->load(2).value().row.status, RunStatus::kSucceeded);
}

TEST_P(StoreContract, EndedRunNeverChangesAgain) {
  expect_ok(asks_->commit(batch(creation(1))));
  asks_->claim(1);
  Transition last = ending(1, 1, 0, "boom", RunStatus::kFailed);
  last.events.push_back(step_event("a", "1", EventKind::kStepFailed));
  expect_ok(asks_->commit(batch(std::move(last))));
  EXPECT_EQ(asks_->commit_one(ending(1, 1, 1)).status.kind(), StatusKind::kFenced);
  EXPECT_EQ(asks_->commit_one(recording(1, 1, 1, {step_event("b", "2")})).status.kind(), StatusKind::kFenced);
  EXPECT_TRUE(asks_->claim(5).empty());
  const RunHistory history = asks_->load(1).value();
  EXPECT_EQ(history.row.status, RunStatus::kFailed);
  EXPECT_EQ(history.row.result, "boom");
  EXPECT_EQ(history.row.finished_at, 7000);
  EXPECT_EQ(history.row.claims, 1);
  EXPECT_EQ(history.row.event_count, 1);
  ASSERT_EQ(history.events.size(), 1U);
}

TEST_P(StoreContract, ReleasedRunIsQueuedAgainWithItsHistory) {
  expect_ok(asks_->commit(batch(creation(1))));
  asks_->claim(1);
  Transition release = recording(1, 1, 0, {step_event("a", "1")});
  release.release = true;
  expect_ok(asks_->commit(batch(std::move(release))));
  EXPECT_EQ(asks_->depth().value(), 1);
  EXPECT_EQ(asks_->load(1).value().row.status, RunStatus::kQueued);
  const std::vector<RunHistory> claimed = asks_->claim(1);
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0].row.token, 2);
  EXPECT_EQ(claimed[0].row.claims, 1) << "it was given back in good order: that is no crash";
  EXPECT_EQ(claimed[0].row.event_count, 1);
  ASSERT_EQ(claimed[0].events.size(), 1U);
  EXPECT_EQ(asks_->commit_one(ending(1, 1, 1)).status.kind(), StatusKind::kFenced);
  EXPECT_TRUE(asks_->commit_one(ending(1, 2, 1)).status.is_ok());
}

TEST_P(StoreContract, QueuedRunCanBeCancelled) {
  expect_ok(asks_->commit(batch(creation(1), creation(2))));
  EXPECT_TRUE(asks_->commit_one(ending(1, 0, 0, "", RunStatus::kCancelled)).status.is_ok());
  EXPECT_EQ(asks_->depth().value(), 1);
  EXPECT_EQ(asks_->load(1).value().row.status, RunStatus::kCancelled);
  EXPECT_EQ(asks_->claim(5).at(0).row.run, 2);
}

TEST_P(StoreContract, SameKeyAttachesOrConflicts) {
  expect_ok(asks_->commit(batch(creation(1, "in", "ticket-9", 77))));
  CommitAnswer again = asks_->commit_one(creation(2, "in", "ticket-9", 77));
  ASSERT_TRUE(again.status.is_ok());
  ASSERT_TRUE(again.attached);
  EXPECT_EQ(again.attached->run, 1);
  EXPECT_EQ(again.attached->status, RunStatus::kQueued);
  EXPECT_EQ(asks_->load(2).error().kind(), StatusKind::kNotFound);

  const CommitAnswer other = asks_->commit_one(creation(3, "another", "ticket-9", 78));
  EXPECT_EQ(other.status.kind(), StatusKind::kConflict);
  EXPECT_EQ(other.status.code(), code::kKeyConflict);
  for (const char* part : {"triage", "ticket-9", "r_1"}) {
    EXPECT_NE(other.status.message().find(part), std::string::npos) << other.status.message();
  }
  Transition elsewhere = creation(4, "another", "ticket-9", 78);
  elsewhere.create->workflow = "other";
  EXPECT_FALSE(asks_->commit_one(std::move(elsewhere)).attached);

  asks_->claim(1);
  expect_ok(asks_->commit(batch(ending(1, 1, 0, "the answer"))));
  again = asks_->commit_one(creation(5, "in", "ticket-9", 77));
  ASSERT_TRUE(again.attached);
  EXPECT_EQ(again.attached->status, RunStatus::kSucceeded);
  EXPECT_EQ(again.attached->result, "the answer");
}

TEST_P(StoreContract, SameKeyTwiceInOneBatch) {
  const uint64_t high = 0xFFFF'FFFF'FFFF'FFF0ULL;
  const std::vector<CommitAnswer> answers = asks_->commit(
      batch(creation(1, "in", "k", high), creation(2, "in", "k", high), creation(3, "x", "k", 5), creation(4, "y")));
  EXPECT_TRUE(answers[0].status.is_ok() && !answers[0].attached);
  ASSERT_TRUE(answers[1].attached);
  EXPECT_EQ(answers[1].attached->run, 1);
  EXPECT_EQ(answers[2].status.code(), code::kKeyConflict);
  EXPECT_TRUE(answers[3].status.is_ok() && !answers[3].attached);
  EXPECT_EQ(asks_->depth().value(), 2);
}

TEST_P(StoreContract, CreationIsIdempotentById) {
  expect_ok(asks_->commit(batch(creation(1, "in", "k", 5), creation(2, "in"))));
  const std::vector<CommitAnswer> answers = asks_->commit(
      batch(creation(1, "in", "k", 5), creation(2, "in"), creation(2, "other"), creation(2, "in", "fresh", 6)));
  EXPECT_TRUE(answers[0].status.is_ok() && !answers[0].attached);
  EXPECT_TRUE(answers[1].status.is_ok() && !answers[1].attached);
  EXPECT_EQ(answers[2].status.kind(), StatusKind::kConflict);
  EXPECT_EQ(answers[3].status.kind(), StatusKind::kConflict);
  EXPECT_EQ(asks_->depth().value(), 2);
  // The refused creation did not keep its key.
  EXPECT_FALSE(asks_->commit_one(creation(3, "in", "fresh", 9)).attached);
}

TEST_P(StoreContract, FindsByRunKeyAndWorkflow) {
  Transition elsewhere = creation(4, "d");
  elsewhere.create->workflow = "other";
  expect_ok(asks_->commit(batch(creation(1, "a", "k"), creation(2, "b"), creation(3, "c"), std::move(elsewhere))));
  asks_->claim(1);
  expect_ok(asks_->commit(batch(recording(1, 1, 0, {step_event("s", "v")}))));
  FindRequest by_run;
  by_run.run = 1;
  EXPECT_EQ(asks_->find(by_run).value().at(0).row.input, "a");
  EXPECT_TRUE(asks_->find(by_run).value().at(0).events.empty());
  by_run.with_events = true;
  EXPECT_EQ(asks_->find(by_run).value().at(0).events.size(), 1U);
  by_run.run = 99;
  EXPECT_TRUE(asks_->find(by_run).value().empty());

  FindRequest by_key;
  by_key.workflow = "triage";
  by_key.key = "k";
  EXPECT_EQ(asks_->find(by_key).value().at(0).row.run, 1);
  by_key.workflow = "other";
  EXPECT_TRUE(asks_->find(by_key).value().empty());
  by_key.workflow = "unheard of";
  EXPECT_TRUE(asks_->find(by_key).value().empty());

  FindRequest by_workflow;
  by_workflow.workflow = "triage";
  by_workflow.count_max = 2;
  const std::vector<RunHistory> newest = asks_->find(by_workflow).value();
  ASSERT_EQ(newest.size(), 2U);
  EXPECT_EQ(newest[0].row.run, 3);
  EXPECT_EQ(newest[1].row.run, 2);
  FindRequest any;
  any.count_max = 10;
  EXPECT_EQ(asks_->find(any).value().at(0).row.run, 4);
}

TEST_P(StoreContract, FindsDeadLettersPageByPage) {
  for (RunId run = 1; run <= 6; ++run) {
    Transition made = creation(run);
    if (run == 4) made.create->workflow = "other";
    expect_ok(asks_->commit(batch(std::move(made))));
  }
  asks_->claim(6);
  expect_ok(asks_->commit(batch(ending(1, 1, 0, "e", RunStatus::kFailed), ending(2, 1),
                                ending(3, 1, 0, "e", RunStatus::kDead), ending(4, 1, 0, "e", RunStatus::kFailed),
                                ending(5, 1, 0, "", RunStatus::kCancelled))));
  const auto found = [&](const std::string& workflow, RunId before, int64_t count_max, bool is_failed = true) {
    FindRequest request;
    request.workflow = workflow;
    request.is_failed = is_failed;
    request.before = before;
    request.count_max = count_max;
    std::vector<RunId> runs;
    const std::vector<RunHistory> histories = asks_->find(request).value();
    runs.reserve(histories.size());
    for (const RunHistory& history : histories) runs.push_back(history.row.run);
    return runs;
  };
  EXPECT_EQ(found("", 0, 2), (std::vector<RunId>{4, 3}));
  EXPECT_EQ(found("", 3, 2), (std::vector<RunId>{1}));
  EXPECT_EQ(found("triage", 0, 9), (std::vector<RunId>{3, 1}));
  EXPECT_TRUE(found("unheard of", 0, 9).empty());
  EXPECT_EQ(found("", 5, 3, false), (std::vector<RunId>{4, 3, 2})) << "pages of all runs";
  EXPECT_EQ(found("triage", 5, 3, false), (std::vector<RunId>{3, 2, 1}));
  EXPECT_TRUE(found("triage", 1, 3, false).empty());
}

TEST_P(StoreContract, AForkBeginsWithWhatAnotherRunHadRecorded) {
  Transition fork = creation(1);
  fork.create->events = {step_event("a", "1"), step_event("b", "2")};
  expect_ok(asks_->commit(batch(std::move(fork))));
  const RunHistory claimed = asks_->claim(1).at(0);
  EXPECT_EQ(claimed.row.event_count, 2);
  ASSERT_EQ(claimed.events.size(), 2U);
  EXPECT_EQ(claimed.events[1].step, "b");
  expect_ok(asks_->commit(batch(recording(1, 1, 2, {step_event("c", "3")}))));
  EXPECT_EQ(asks_->load(1).value().events.size(), 3U);
}

TEST_P(StoreContract, LoadOfAnUnknownRunIsNotFound) {
  const Status status = asks_->load(42).error();
  EXPECT_EQ(status.kind(), StatusKind::kNotFound);
  EXPECT_NE(status.message().find("r_2a"), std::string::npos);
}

TEST_P(StoreContract, AnswersComeLaterAndInTheOrderOfTheCalls) {
  std::vector<int> order;
  store_->commit(batch(creation(1)), [&](const auto&) { order.push_back(1); });
  store_->look("default", [&](const auto& view) { order.push_back(view.value().queued_count == 1 ? 2 : -2); });
  store_->claim({"default", 1, 1, 0, 9},
                [&](const auto& claimed) { order.push_back(claimed.value().runs.size() == 1 ? 3 : -3); });
  store_->commit(batch(ending(1, 1)),
                 [&](const auto& answers) { order.push_back(answers[0].status.is_ok() ? 4 : -4); });
  store_->load(1, [&](const auto& found) { order.push_back(is_final(found.value().row.status) ? 5 : -5); });
  store_->renew(1, 99, [&](const Status&) { order.push_back(6); });
  store_->commit({}, [&](const auto& answers) { order.push_back(answers.empty() ? 7 : -7); });
  EXPECT_TRUE(order.empty());
  loop_.run_until([&] { return order.size() == 7; });
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4, 5, 6, 7}));
}

TEST_P(StoreContract, CloseFinishesWhatWasAcceptedAndRefusesTheRest) {
  std::vector<std::string> answers;
  store_->commit(batch(creation(1)), [&](const auto& given) { answers.push_back(given[0].status.to_string()); });
  store_->close([&](const Status& status) { answers.push_back("closed: " + status.to_string()); });
  store_->commit(batch(creation(2), creation(3)), [&](const auto& given) {
    EXPECT_EQ(given.size(), 2U);
    answers.push_back(given[1].status.kind() == StatusKind::kClosed ? "refused" : "taken");
  });
  EXPECT_TRUE(answers.empty());
  loop_.run_until([&] { return answers.size() == 3; });
  EXPECT_EQ(answers, (std::vector<std::string>{"ok", "closed: ok", "refused"}));
  EXPECT_EQ(asks_->claim(ClaimRequest{"default", 1, 1, 0, 9}).error().kind(), StatusKind::kClosed);
  EXPECT_EQ(asks_->load(1).error().code(), code::kClosed);
  EXPECT_EQ(asks_->depth().error().kind(), StatusKind::kClosed);
  EXPECT_EQ(asks_->find({}).error().kind(), StatusKind::kClosed);
  EXPECT_EQ(asks_->renew(1, 1).kind(), StatusKind::kClosed);
  EXPECT_TRUE(asks_->close().is_ok());
  reopen();
  EXPECT_EQ(asks_->load(1).value().row.run, 1);
  EXPECT_FALSE(asks_->load(2));
}

TEST_P(StoreContract, DestroyedStoreCallsNobody) {
  bool is_called = false;
  store_->commit(batch(creation(1)), [&](const auto&) { is_called = true; });
  reopen();
  EXPECT_TRUE(asks_->load(1));  // by now the old answer would have come
  EXPECT_FALSE(is_called);
}

// A run that was claimed and not handed out has not lived: its owner takes the count back.
TEST_P(StoreContract, WhoLeasesARunMayCountItsLivesAnew) {
  expect_ok(asks_->commit(batch(creation(1), creation(2))));
  asks_->claim(2);
  for (const RunId run : {1, 2}) {
    Transition recount = recording(run, 1, 0, {});
    recount.claims = run == 1 ? 0 : 7;
    expect_ok(asks_->commit(batch(std::move(recount))));
    EXPECT_EQ(asks_->load(run).value().row.claims, run == 1 ? 0 : 7);
  }
  Transition late = recording(1, 0, 0, {});
  late.claims = 9;
  EXPECT_EQ(asks_->commit_one(std::move(late)).status.kind(), StatusKind::kFenced);
  reopen();
  const std::vector<RunHistory> claimed = asks_->claim(ClaimRequest{"default", 2, 2, 30'001, 40'000}).value();
  ASSERT_EQ(claimed.size(), 2U);
  EXPECT_EQ(claimed[0].row.claims, 1);
  EXPECT_EQ(claimed[1].row.claims, 8);
}

TEST_P(StoreContract, DeadOwnersRunIsClaimedAgainAndItsOwnerFenced) {
  expect_ok(asks_->commit(batch(creation(1), creation(2))));
  asks_->claim(1);
  expect_ok(asks_->commit(batch(recording(1, 1, 0, {step_event("a", "1")}))));
  reopen();
  WallMs now = 10'001;
  if (traits().expires_leases) {
    EXPECT_EQ(asks_->claim(ClaimRequest{"default", 1, 2, 20'000, 30'000}).value().at(0).row.run, 2);
    now = 20'001;
  }
  const std::vector<RunHistory> claimed = asks_->claim(ClaimRequest{"default", 1, 2, now, 40'000}).value();
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0].row.run, 1);
  EXPECT_EQ(claimed[0].row.token, 2);
  EXPECT_EQ(claimed[0].row.claims, 2);
  ASSERT_EQ(claimed[0].events.size(), 1U);
  EXPECT_EQ(asks_->commit_one(ending(1, 1, 1)).status.kind(), StatusKind::kFenced);
  EXPECT_TRUE(asks_->commit_one(ending(1, 2, 1)).status.is_ok());
}

TEST_P(StoreContract, HistoryOfALeasedRunIsWholeAfterACrash) {
  expect_ok(asks_->commit(batch(creation(1), creation(2))));
  asks_->claim(2);
  expect_ok(asks_->commit(batch(recording(1, 1, 0, {step_event("a", "1"), step_event("b", "2")}))));
  expect_ok(asks_->commit(batch(recording(1, 1, 2, {step_event("c", "3")}))));
  reopen();
  const std::vector<RunHistory> claimed = asks_->claim(ClaimRequest{"default", 2, 2, 30'000, 40'000}).value();
  ASSERT_EQ(claimed.size(), 2U);
  const RunHistory& grown = claimed[claimed[0].row.run == 1 ? 0 : 1];
  EXPECT_EQ(grown.row.event_count, 3);
  EXPECT_EQ(grown.events.size(), 3U);
  expect_ok(asks_->commit(batch(recording(1, 2, 3, {step_event("d", "4")}))));
  EXPECT_EQ(asks_->load(1).value().row.event_count, 4);
}

TEST_P(StoreContract, ClaimsByPriorityThenByAge) {
  for (const auto& [run, priority] : std::map<RunId, int32_t>{{1, 5}, {2, 0}, {3, -1}, {4, 0}, {5, -1}}) {
    Transition made = creation(run);
    made.create->priority = priority;
    expect_ok(asks_->commit(batch(std::move(made))));
  }
  std::vector<RunId> order;
  for (int i = 0; i < 3; ++i) {
    for (const RunHistory& history : asks_->claim(2)) order.push_back(history.row.run);
  }
  EXPECT_EQ(order, (std::vector<RunId>{3, 5, 2, 4, 1}));
  expect_ok(asks_->commit(batch(recording(1, 1, 0, {step_event("a", "1")}))));
  EXPECT_EQ(asks_->load(1).value().row.priority, 5);
}

TEST_P(StoreContract, ALaterRunIsNotClaimedBeforeItsTime) {
  Transition later = creation(1);
  later.create->wake_at = 20'000;
  later.create->deadline_at = 90'000;
  later.create->version = "v7";
  expect_ok(asks_->commit(batch(std::move(later))));
  EXPECT_EQ(asks_->load(1).value().row.status, RunStatus::kWaiting);
  EXPECT_EQ(asks_->load(1).value().row.wake_at, 20'000);
  EXPECT_TRUE(asks_->claim(1).empty());
  EXPECT_EQ(asks_->due(19'999).queued_count, 0);
  EXPECT_EQ(asks_->due(19'999).next_at, 20'000);
  const DueAnswer due = asks_->due(20'000);
  EXPECT_EQ(due.queued_count, 1);
  EXPECT_EQ(due.next_at, -1);
  const RunRow row = asks_->claim(1).at(0).row;
  EXPECT_EQ(row.claims, 1);
  EXPECT_EQ(row.deadline_at, 90'000);
  EXPECT_EQ(row.version, "v7");
}

TEST_P(StoreContract, AParkedRunWaitsForItsTimeAcrossAReopening) {
  expect_ok(asks_->commit(batch(creation(1), creation(2))));
  asks_->claim(2);
  Transition first = parking(1, 1, 30'000);
  first.events.push_back(step_event("a", "1"));
  expect_ok(asks_->commit(batch(std::move(first), parking(2, 1, 40'000))));
  reopen();
  EXPECT_TRUE(asks_->claim(5).empty());
  EXPECT_EQ(asks_->due(30'000).next_at, 40'000);
  const std::vector<RunHistory> claimed = asks_->claim(5);
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0].row.run, 1);
  EXPECT_EQ(claimed[0].row.token, 2);
  EXPECT_EQ(claimed[0].row.claims, 1) << "it was laid aside in good order: that is no crash";
  EXPECT_EQ(claimed[0].events.size(), 1U);
  EXPECT_EQ(asks_->commit_one(parking(1, 1)).status.kind(), StatusKind::kFenced);
}

TEST_P(StoreContract, AMessageWakesAParkedRunAndIsGivenToItsDriver) {
  expect_ok(asks_->commit(batch(creation(1))));
  expect_ok(asks_->commit(batch(telling(message_to(1, 10, "signal:early", "1")))));
  EXPECT_EQ(asks_->claim(1).at(0).messages.size(), 1U) << "sent before the run began";
  expect_ok(asks_->commit(batch(parking(1, 1, -1, 1))));
  EXPECT_EQ(asks_->load(1).value().row.status, RunStatus::kWaiting);
  expect_ok(asks_->commit(batch(telling(message_to(1, 11, "signal:ok", "2")))));
  const RunHistory woken = asks_->claim(1).at(0);
  ASSERT_EQ(woken.messages.size(), 2U);
  EXPECT_EQ(woken.messages[1].topic, "signal:ok");
  EXPECT_EQ(woken.messages[1].payload, "2");
  Transition taking = recording(1, 2, 0, {step_event("wait", "2")});
  taking.taken = {11};
  expect_ok(asks_->commit(batch(std::move(taking))));
  ASSERT_EQ(asks_->load(1).value().messages.size(), 1U);
  EXPECT_EQ(asks_->load(1).value().messages[0].id, 10);
}

TEST_P(StoreContract, AMessageThatParkingDidNotKnowOfQueuesTheRun) {
  expect_ok(asks_->commit(batch(creation(1))));
  asks_->claim(1);
  expect_ok(asks_->commit(batch(telling(message_to(1, 10, "signal:ok")), parking(1, 1, -1, 0))));
  EXPECT_EQ(asks_->claim(1).size(), 1U);
}

TEST_P(StoreContract, OnlyResumeOrCancelWakesAPausedRun) {
  expect_ok(asks_->commit(batch(creation(1))));
  asks_->claim(1);
  expect_ok(asks_->commit(batch(parking(1, 1, 30'000, 0, true), telling(message_to(1, 10, "signal:ok")))));
  EXPECT_EQ(asks_->load(1).value().row.status, RunStatus::kPaused);
  EXPECT_EQ(asks_->due(90'000).queued_count, 0);
  EXPECT_TRUE(asks_->claim(1).empty());
  expect_ok(asks_->commit(batch(telling(message_to(1, 11, "resume")))));
  EXPECT_EQ(asks_->claim(1).at(0).messages.size(), 2U);
}

TEST_P(StoreContract, AMessageWithAKnownKeyIsDropped) {
  expect_ok(asks_->commit(batch(creation(1))));
  EXPECT_FALSE(asks_->commit_one(telling(message_to(1, 10, "signal:a", "1", "k"))).is_known);
  EXPECT_TRUE(asks_->commit_one(telling(message_to(1, 11, "signal:a", "2", "k"))).is_known);
  EXPECT_FALSE(asks_->commit_one(telling(message_to(1, 12, "signal:b", "3", "k"))).is_known);
  reopen();
  Transition taking = recording(1, asks_->claim(1).at(0).row.token, 0, {step_event("a", "1")});
  taking.taken = {10};
  expect_ok(asks_->commit(batch(std::move(taking))));
  EXPECT_TRUE(asks_->commit_one(telling(message_to(1, 13, "signal:a", "4", "k"))).is_known) << "taken long ago";
  EXPECT_EQ(asks_->load(1).value().messages.size(), 1U);
}

TEST_P(StoreContract, MessagesToNobodyAreRefused) {
  EXPECT_EQ(asks_->commit_one(telling(message_to(9, 1, "signal:a"))).status.code(), code::kRunNotFound);
  expect_ok(asks_->commit(batch(creation(1))));
  asks_->claim(1);
  expect_ok(asks_->commit(batch(ending(1, 1))));
  EXPECT_EQ(asks_->commit_one(telling(message_to(1, 2, "signal:a"))).status.code(), code::kRunEnded);
}

// Promise 3.
TEST_P(StoreContract, WhatAStepSendsIsCommittedWithItOrNotAtAll) {
  expect_ok(asks_->commit(batch(creation(1), creation(2))));
  asks_->claim(2);
  const auto sending = [](LeaseToken token, RunId child) {
    Transition transition = recording(1, token, 0, {step_event("a", "1")});
    transition.messages.push_back(message_to(2, child + 100, "signal:a"));
    transition.creations.push_back(child_of(1, "a", child));
    return transition;
  };
  EXPECT_EQ(asks_->commit_one(sending(7, 50)).status.kind(), StatusKind::kFenced);
  EXPECT_FALSE(asks_->load(50));
  EXPECT_TRUE(asks_->load(2).value().messages.empty());
  expect_ok(asks_->commit(batch(sending(1, 51))));
  EXPECT_EQ(asks_->load(51).value().row.parent, 1);
  EXPECT_EQ(asks_->load(51).value().row.parent_step, "a");
  EXPECT_EQ(asks_->load(2).value().messages.size(), 1U);
  EXPECT_EQ(asks_->claim(1).at(0).row.run, 51);
}

TEST_P(StoreContract, RenewedLeaseIsKept) {
  expect_ok(asks_->commit(batch(creation(1))));
  asks_->claim(1);
  EXPECT_TRUE(asks_->renew(1, 50'000).is_ok());
  EXPECT_TRUE(asks_->claim(ClaimRequest{"default", 1, 2, 49'000, 60'000}).value().empty());
  const size_t expected = traits().expires_leases ? 1 : 0;
  EXPECT_EQ(asks_->claim(ClaimRequest{"default", 1, 2, 50'001, 60'000}).value().size(), expected);
}

TEST_P(StoreContract, LeaseTakenAtBirthEnds) {
  Transition born_leased = creation(1);
  born_leased.create->claimed_by = 7;
  expect_ok(asks_->commit(batch(std::move(born_leased))));
  const size_t expected = traits().expires_leases ? 1 : 0;
  EXPECT_TRUE(asks_->claim(ClaimRequest{"default", 1, 2, 1001 + 30'000, 90'000}).value().empty());
  EXPECT_EQ(asks_->claim(ClaimRequest{"default", 1, 2, 1002 + 30'000, 90'000}).value().size(), expected);
}

TEST_P(StoreContract, SharedRowsWakeTheOtherEngine) {
  if (!traits().is_shared) {
    int wakes = 0;
    store_->watch([&] { ++wakes; });
    expect_ok(asks_->commit(batch(creation(1))));
    EXPECT_EQ(wakes, 0);
    return;
  }
  const std::unique_ptr<Store> other = subject_->open(loop_);
  int own_wakes = 0;
  int other_wakes = 0;
  store_->watch([&] { ++own_wakes; });
  other->watch([&] { ++other_wakes; });
  expect_ok(asks_->commit(batch(creation(1), creation(2))));
  loop_.run_until([&] { return other_wakes > 0; });
  EXPECT_EQ(other_wakes, 1);
  EXPECT_EQ(own_wakes, 0);
  StoreAsks others(loop_, *other);
  EXPECT_EQ(others.claim(5).size(), 2U);
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreContract, ::testing::ValuesIn(store_cases()), store_name);

}  // namespace
}  // namespace stepwell::testing
