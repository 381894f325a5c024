// The run machine as tables: inputs in, events and commands out. No sleeps, no mocks.
#include <gtest/gtest.h>

#include "stepwell/engine.h"

namespace stepwell {
namespace {

RunHistory fresh() {
  RunHistory history;
  history.row.run = 7;
  history.row.status = RunStatus::kRunning;
  return history;
}

Input input(InputKind kind, std::string step = {}, Payload payload = "1") {
  Input made;
  made.kind = kind;
  made.step = std::move(step);
  made.payload = std::move(payload);
  return made;
}

Input failure(std::string step, int32_t attempts_max) {
  Input made = input(InputKind::kStepFailed, std::move(step), "{}");
  made.retryable = true;
  made.retry.attempts_max = attempts_max;
  return made;
}

TEST(RunMachine, AStepIsRecordedThenAnswered) {
  RunMachine machine(fresh(), 1);
  const Decision decision = machine.decide(input(InputKind::kStepSucceeded, "a"), 0);
  ASSERT_EQ(decision.events.size(), 1U);
  EXPECT_EQ(decision.events[0].kind, EventKind::kStepSucceeded);
  ASSERT_EQ(decision.commands.size(), 1U);
  EXPECT_EQ(decision.commands[0].kind, CommandKind::kAnswerStep);
  EXPECT_TRUE(decision.commands[0].ok);
  EXPECT_EQ(machine.next_seq(), 1);
}

// Promise 2.
TEST(RunMachine, ARecordedStepIsNeverRecordedAgain) {
  RunMachine machine(fresh(), 1);
  (void)machine.decide(input(InputKind::kStepSucceeded, "a"), 0);
  for (const InputKind kind : {InputKind::kStepSucceeded, InputKind::kStepFailed, InputKind::kCallRequested,
                               InputKind::kCallSucceeded, InputKind::kCallFailed, InputKind::kRetryDue}) {
    const Decision again = machine.decide(input(kind, "a"), 0);
    EXPECT_FALSE(again.status.is_ok());
    EXPECT_TRUE(again.events.empty());
    EXPECT_TRUE(again.commands.empty());
  }
}

TEST(RunMachine, AFailedAttemptWaitsAndIsAskedForAgain) {
  RunMachine machine(fresh(), 1);
  Decision decision = machine.decide(failure("a", 2), 0);
  ASSERT_EQ(decision.events.size(), 1U);
  EXPECT_EQ(decision.events[0].kind, EventKind::kStepAttemptFailed);
  ASSERT_EQ(decision.commands.size(), 1U);
  EXPECT_EQ(decision.commands[0].kind, CommandKind::kStartTimer);
  decision = machine.decide(input(InputKind::kRetryDue, "a"), 10);
  ASSERT_EQ(decision.commands.size(), 1U);
  EXPECT_EQ(decision.commands[0].kind, CommandKind::kAskAttempt);
  EXPECT_EQ(decision.commands[0].attempt, 2);
  EXPECT_FALSE(machine.decide(input(InputKind::kRetryDue, "a"), 10).status.is_ok()) << "one timer, one attempt";
  decision = machine.decide(failure("a", 2), 20);
  ASSERT_EQ(decision.events.size(), 1U);
  EXPECT_EQ(decision.events[0].kind, EventKind::kStepFailed);
  EXPECT_EQ(decision.events[0].attempt, 2);
  EXPECT_FALSE(decision.commands.at(0).ok);
}

TEST(RunMachine, AttemptsAreCountedOnFromTheHistory) {
  RunHistory history = fresh();
  for (int32_t attempt = 1; attempt <= 2; ++attempt) {
    Event event;
    event.kind = EventKind::kStepAttemptFailed;
    event.attempt = attempt;
    event.step = "a";
    history.events.push_back(event);
  }
  history.row.event_count = 2;
  RunMachine machine(history, 1);
  const Decision decision = machine.decide(failure("a", 3), 0);
  ASSERT_EQ(decision.events.size(), 1U);
  EXPECT_EQ(decision.events[0].kind, EventKind::kStepFailed) << "the third of three";
  EXPECT_EQ(decision.events[0].attempt, 3);
}

TEST(RunMachine, ACallIsSentOnceAndRetriedByTheMachine) {
  RunMachine machine(fresh(), 1);
  Input call = input(InputKind::kCallRequested, "c");
  call.retry.attempts_max = 3;
  Decision decision = machine.decide(call, 0);
  EXPECT_TRUE(decision.events.empty()) << "the request itself is not recorded";
  ASSERT_EQ(decision.commands.size(), 1U);
  EXPECT_EQ(decision.commands[0].kind, CommandKind::kSendCall);
  EXPECT_FALSE(machine.decide(call, 0).status.is_ok());
  Input failed = input(InputKind::kCallFailed, "c", "{}");
  failed.retryable = true;
  failed.retry_after_ms = 2'000;
  decision = machine.decide(failed, 5);
  ASSERT_EQ(decision.commands.size(), 1U);
  EXPECT_GE(decision.commands[0].delay_ms, 2'000);
  decision = machine.decide(input(InputKind::kRetryDue, "c"), 2'500);
  EXPECT_EQ(decision.commands.at(0).kind, CommandKind::kSendCall);
  EXPECT_EQ(decision.commands.at(0).attempt, 2);
}

TEST(RunMachine, ARunEndsOnce) {
  const std::pair<InputKind, RunStatus> ends[] = {{InputKind::kRunSucceeded, RunStatus::kSucceeded},
                                                  {InputKind::kRunFailed, RunStatus::kFailed},
                                                  {InputKind::kRunCrashed, RunStatus::kDead},
                                                  {InputKind::kCancelRequested, RunStatus::kCancelled}};
  for (const auto& [kind, status] : ends) {
    RunMachine machine(fresh(), 1);
    const Decision decision = machine.decide(input(kind), 0);
    ASSERT_TRUE(decision.end.has_value());
    EXPECT_EQ(decision.end->status, status);
    EXPECT_EQ(decision.commands.back().run_status, status);
    EXPECT_TRUE(machine.is_done());
    for (const auto& [late, ignored] : ends) EXPECT_FALSE(machine.decide(input(late), 0).status.is_ok());
    EXPECT_FALSE(machine.decide(input(InputKind::kStepSucceeded, "late"), 0).status.is_ok());
  }
}

TEST(RunMachine, TheSameSeedDrawsTheSameDelays) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    RunMachine one(fresh(), seed);
    RunMachine other(fresh(), seed);
    EXPECT_EQ(one.decide(failure("a", 5), 0).commands.at(0).delay_ms,
              other.decide(failure("a", 5), 0).commands.at(0).delay_ms);
  }
}

// A loop of steps without end filled the disk.
TEST(RunMachine, AHistoryHasALength) {
  RunHistory history;
  history.row.run = 7;
  history.row.status = RunStatus::kRunning;
  history.row.event_count = Limits().steps_per_run_max - 1;
  RunMachine machine(history, 1);
  Input done;
  done.step = "one";
  EXPECT_EQ(machine.decide(done, 0).events.size(), 1U);
  done.step = "one more";
  const Decision decision = machine.decide(done, 0);
  ASSERT_TRUE(decision.end);
  EXPECT_EQ(decision.end->status, RunStatus::kFailed);
  EXPECT_NE(decision.end->payload.find("SW-E2045"), std::string::npos);
  EXPECT_EQ(decision.commands.front().kind, CommandKind::kStopWorker);
}

// A peer that asked for an hour does not keep the run in memory.
TEST(RunMachine, ACallWhoseNextAttemptIsFarAwayIsHeldAndAskedForAnew) {
  RunMachine machine(fresh(), 1);
  Input request = input(InputKind::kCallRequested, "call");
  request.retry.attempts_max = 2;
  request.retry.elapsed_ms_max = 10'000'000;
  ASSERT_EQ(machine.decide(request, 0).commands.at(0).kind, CommandKind::kSendCall);
  Input failed = input(InputKind::kCallFailed, "call", "{}");
  failed.retryable = true;
  failed.retry_after_ms = 3'600'000;
  failed.at = 1'000;
  Decision decision = machine.decide(failed, 10);
  ASSERT_EQ(decision.events.size(), 1U);
  EXPECT_EQ(decision.events[0].kind, EventKind::kStepAttemptFailed);
  ASSERT_EQ(decision.commands.size(), 1U);
  EXPECT_EQ(decision.commands[0].kind, CommandKind::kHoldCall);
  EXPECT_GE(decision.commands[0].due_at, 3'601'000);
  EXPECT_FALSE(machine.decide(input(InputKind::kRetryDue, "call"), 20).status.is_ok()) << "no timer runs";
  Input wait = input(InputKind::kWaitRequested, "held:call");
  wait.due_at = decision.commands[0].due_at;
  ASSERT_TRUE(machine.decide(wait, 20).status.is_ok());
  Input park = input(InputKind::kParkRequested);
  park.open_waits = 1;
  RunMachine parked = machine;
  EXPECT_TRUE(parked.decide(park, 20).park) << "a call that is held is not under way";
  decision = machine.decide(request, 30);
  ASSERT_EQ(decision.commands.size(), 1U);
  EXPECT_EQ(decision.commands[0].kind, CommandKind::kSendCall);
  EXPECT_EQ(decision.commands[0].attempt, 2);
  failed.attempt = 2;
  EXPECT_EQ(machine.decide(failed, 40).events.at(0).kind, EventKind::kStepFailed) << "the first attempt counts";
}

TEST(RunMachine, AHeldCallUsesUpNoAttempt) {
  RunMachine machine(fresh(), 1);
  Input held = input(InputKind::kCallHeld, "call");
  held.topic = "budget:day";
  held.due_at = 5'000;
  EXPECT_FALSE(machine.decide(held, 0).status.is_ok()) << "nobody asked for it";
  for (int i = 0; i < 3; ++i) {
    const Decision sent = machine.decide(input(InputKind::kCallRequested, "call"), i);
    ASSERT_EQ(sent.commands.size(), 1U);
    EXPECT_EQ(sent.commands[0].attempt, 1);
    const Decision decision = machine.decide(held, i);
    EXPECT_TRUE(decision.events.empty());
    ASSERT_EQ(decision.commands.size(), 1U);
    EXPECT_EQ(decision.commands[0].kind, CommandKind::kHoldCall);
    EXPECT_EQ(decision.commands[0].topic, "budget:day");
    EXPECT_EQ(decision.commands[0].due_at, 5'000);
  }
  EXPECT_EQ(machine.next_seq(), 0);
}

}  // namespace
}  // namespace stepwell
