// Agreed times, as tables: a breach is recorded once, with whoever is told of it, and changes nothing else.
#include <gtest/gtest.h>

#include "stepwell/engine.h"

namespace stepwell {
namespace {

constexpr WallMs kNow = 1'000'000;

RunHistory with_sla(WallMs sla_at, std::string breach_flow = "tell") {
  RunHistory history;
  history.row.run = 7;
  history.row.workflow = "orders";
  history.row.status = RunStatus::kRunning;
  history.row.sla_at = sla_at;
  history.row.sla_ms = sla_at < 0 ? -1 : 150;
  history.row.breach_flow = std::move(breach_flow);
  return history;
}

Input input(InputKind kind, WallMs at = kNow, std::string step = {}) {
  Input made;
  made.kind = kind;
  made.at = at;
  made.step = std::move(step);
  return made;
}

Input step_end(InputKind kind, int64_t took_ms, int64_t waited_ms, int64_t sla_ms) {
  Input made = input(kind, kNow, "pay");
  made.took_ms = took_ms;
  made.waited_ms = waited_ms;
  made.sla_ms = sla_ms;
  made.breach_flow = "tell";
  return made;
}

int breaches(const Decision& decision) {
  int count = 0;
  for (const Event& event : decision.events) count += event.kind == EventKind::kSlaBreached ? 1 : 0;
  return count;
}

// What a machine would be after a crash, if all its decisions were committed.
void keep(RunHistory& history, const Decision& decision) {
  for (const Event& event : decision.events) history.events.push_back(event);
  history.row.event_count = static_cast<int64_t>(history.events.size());
}

TEST(RunSla, ABreachIsRecordedOnceAndTold) {
  RunHistory history = with_sla(kNow + 50);
  RunMachine machine(history, 1);
  const Decision begun = machine.decide(input(InputKind::kTakenUp), 0);
  ASSERT_EQ(begun.commands.size(), 1U);
  EXPECT_EQ(begun.commands[0].kind, CommandKind::kWakeAt);
  EXPECT_EQ(begun.commands[0].due_at, kNow + 50);
  EXPECT_EQ(breaches(machine.decide(input(InputKind::kTimeDue, kNow + 49), 0)), 0) << "too early";
  const Decision late = machine.decide(input(InputKind::kTimeDue, kNow + 51), 0);
  ASSERT_EQ(breaches(late), 1);
  EXPECT_FALSE(late.end.has_value());
  EXPECT_EQ(late.events[0].payload,
            R"({"run":"r_7","workflow":"orders","step":"","sla_ms":150,"took_ms":151,"at_ms":1000051})");
  ASSERT_EQ(late.creations.size(), 1U);
  EXPECT_EQ(late.creations[0].run, 0) << "whoever commits it draws the id";
  EXPECT_EQ(late.creations[0].request.workflow, "tell");
  EXPECT_EQ(late.creations[0].request.queue, "tell");
  EXPECT_EQ(late.creations[0].request.input, late.events[0].payload);
  EXPECT_EQ(machine.next_seq(), 1);
  EXPECT_EQ(breaches(machine.decide(input(InputKind::kTimeDue, kNow + 99), 0)), 0);
  EXPECT_EQ(breaches(machine.decide(input(InputKind::kRunSucceeded, kNow + 99), 0)), 0);
  keep(history, late);
  RunMachine again(history, 1);
  const Decision resumed = again.decide(input(InputKind::kTakenUp, kNow + 200), 0);
  EXPECT_EQ(breaches(resumed), 0) << "the history knows it";
  EXPECT_TRUE(resumed.commands.empty());
}

TEST(RunSla, ALateEndIsABreachInTheSameTransition) {
  RunMachine machine(with_sla(kNow + 50, ""), 1);
  machine.decide(input(InputKind::kTakenUp), 0);
  const Decision end = machine.decide(input(InputKind::kRunFailed, kNow + 50), 0);
  EXPECT_TRUE(end.end.has_value());
  EXPECT_EQ(breaches(end), 1);
  EXPECT_TRUE(end.creations.empty()) << "nobody asked to be told";
  RunMachine cancelled(with_sla(kNow + 50), 1);
  EXPECT_EQ(breaches(cancelled.decide(input(InputKind::kCancelRequested, kNow + 99), 0)), 0) << "nobody wants it";
  RunMachine in_time(with_sla(kNow + 50), 1);
  EXPECT_EQ(breaches(in_time.decide(input(InputKind::kRunSucceeded, kNow + 49), 0)), 0);
}

TEST(RunSla, ARunThatWaitsInTheStoreIsWokenToBeJudged) {
  RunHistory history = with_sla(kNow + 50);
  RunMachine machine(history, 1);
  Input wait = input(InputKind::kWaitRequested, kNow, "person");
  wait.topic = "signal:answer";
  machine.decide(std::move(wait), 0);
  Input park = input(InputKind::kParkRequested);
  park.open_waits = 1;
  const Decision parked = machine.decide(std::move(park), 0);
  ASSERT_TRUE(parked.park.has_value()) << "however soon it is: nobody would ask again after it";
  EXPECT_EQ(parked.park->wake_at, kNow + 50);
  RunMachine woken(history, 1);
  const Decision late = woken.decide(input(InputKind::kTakenUp, kNow + 60), 0);
  EXPECT_EQ(breaches(late), 1);
  EXPECT_TRUE(late.commands.empty());
  Input again = input(InputKind::kWaitRequested, kNow + 60, "person");
  again.topic = "signal:answer";
  woken.decide(std::move(again), 0);
  Input rest = input(InputKind::kParkRequested, kNow + 61);
  rest.open_waits = 1;
  const Decision parked_again = woken.decide(std::move(rest), 0);
  ASSERT_TRUE(parked_again.park.has_value());
  EXPECT_EQ(parked_again.park->wake_at, -1);
}

TEST(RunSla, TheRunsOwnTimesComeOneAfterTheOther) {
  RunHistory history = with_sla(kNow + 50);
  history.row.deadline_at = kNow + 60;
  RunMachine machine(history, 1);
  EXPECT_EQ(machine.decide(input(InputKind::kTakenUp), 0).commands.at(0).due_at, kNow + 50);
  const Decision early = machine.decide(input(InputKind::kTimeDue, kNow + 49), 0);
  ASSERT_EQ(early.commands.size(), 1U);
  EXPECT_EQ(early.commands[0].due_at, kNow + 50) << "the clock was set back, or the timer a little early";
  const Decision late = machine.decide(input(InputKind::kTimeDue, kNow + 50), 0);
  EXPECT_EQ(breaches(late), 1);
  ASSERT_EQ(late.commands.size(), 1U);
  EXPECT_EQ(late.commands[0].due_at, kNow + 60);
  EXPECT_EQ(machine.decide(input(InputKind::kTimeDue, kNow + 60), 0).end->status, RunStatus::kFailed);
}

TEST(RunSla, ADeadlineThatPassesTogetherWithItEndsTheRun) {
  RunHistory history = with_sla(kNow + 50);
  history.row.deadline_at = kNow + 60;
  RunMachine machine(history, 1);
  machine.decide(input(InputKind::kTakenUp), 0);
  const Decision over = machine.decide(input(InputKind::kTimeDue, kNow + 70), 0);
  EXPECT_TRUE(over.end.has_value());
  EXPECT_EQ(breaches(over), 1);
}

TEST(StepSla, IsJudgedWhenTheStepEnds) {
  struct Case {
    int64_t took_ms, waited_ms, sla_ms;
    int breaches;
  };
  for (const Case& each : {Case{5, 5, 10, 0}, Case{5, 6, 10, 1}, Case{11, -1, 10, 1}, Case{99, 99, -1, 0}}) {
    RunMachine machine(with_sla(-1), 1);
    const Decision done =
        machine.decide(step_end(InputKind::kStepSucceeded, each.took_ms, each.waited_ms, each.sla_ms), 0);
    EXPECT_EQ(breaches(done), each.breaches);
    EXPECT_EQ(done.creations.size(), static_cast<size_t>(each.breaches));
    ASSERT_FALSE(done.events.empty());
    EXPECT_EQ(done.events[0].kind, EventKind::kStepSucceeded) << "the step's own event comes first";
    EXPECT_EQ(machine.next_seq(), static_cast<int64_t>(done.events.size()));
  }
}

TEST(StepSla, CountsAllAttemptsAcrossACrash) {
  RunHistory history = with_sla(-1);
  RunMachine machine(history, 1);
  Input failed = step_end(InputKind::kStepFailed, 6, 1, 10);
  failed.retryable = true;
  failed.retry.attempts_max = 2;
  const Decision again = machine.decide(std::move(failed), 0);
  EXPECT_EQ(breaches(again), 0) << "it has not ended";
  keep(history, again);
  RunMachine resumed(history, 1);
  Input last = step_end(InputKind::kStepFailed, 3, 1, 10);
  last.attempt = 2;
  last.retry.attempts_max = 2;
  const Decision end = resumed.decide(std::move(last), 0);
  ASSERT_EQ(end.events.size(), 2U);
  EXPECT_EQ(end.events[0].kind, EventKind::kStepFailed);
  EXPECT_NE(end.events[1].payload.find(R"("step":"pay","sla_ms":10,"took_ms":11)"), Payload::npos);
  EXPECT_EQ(end.creations.at(0).request.key, "breach of r_7/pay");
  keep(history, end);
  RunMachine ended(history, 1);
  EXPECT_FALSE(ended.decide(step_end(InputKind::kStepSucceeded, 1, 0, 10), 0).status.is_ok()) << "it is recorded";
}

}  // namespace
}  // namespace stepwell
