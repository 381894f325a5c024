// Waiting, as tables: messages, times, children, laying aside.
#include <gtest/gtest.h>

#include "stepwell/engine.h"

namespace stepwell {
namespace {

constexpr WallMs kNow = 1'000'000;

RunHistory fresh(std::vector<Message> messages = {}) {
  RunHistory history;
  history.row.run = 7;
  history.row.status = RunStatus::kRunning;
  history.messages = std::move(messages);
  return history;
}

Message message(int64_t id, std::string topic, Payload payload = "p") {
  return Message{id, 7, std::move(topic), {}, std::move(payload), kNow};
}

Input input(InputKind kind, std::string step = {}, WallMs at = kNow) {
  Input made;
  made.kind = kind;
  made.step = std::move(step);
  made.at = at;
  return made;
}

Input park(int32_t open_waits, WallMs at = kNow) {
  Input made = input(InputKind::kParkRequested, {}, at);
  made.open_waits = open_waits;
  return made;
}

Input wait(std::string step, std::string topic, WallMs due_at = -1) {
  Input made = input(InputKind::kWaitRequested, std::move(step));
  made.topic = std::move(topic);
  made.due_at = due_at;
  return made;
}

Input told(Message what) {
  Input made = input(InputKind::kMessage);
  made.message = std::move(what);
  return made;
}

Input child(std::string step, RunId run) {
  Input made = input(InputKind::kChildRequested, std::move(step));
  made.creation = Creation{run, {}};
  return made;
}

// What a machine would be after a crash, if all its decisions were committed.
void keep(RunHistory& history, const Decision& decision) {
  for (const Event& event : decision.events) history.events.push_back(event);
  history.row.event_count = static_cast<int64_t>(history.events.size());
}

TEST(RunWaits, AnEarlySignalIsKeptAndTakenOnce) {
  RunMachine machine(fresh(), 1);
  EXPECT_FALSE(machine.decide(told(message(1, "signal:a", "first")), 0).is_for_the_store());
  EXPECT_FALSE(machine.decide(told(message(1, "signal:a", "first")), 0).status.is_ok()) << "told twice";
  const Decision taken = machine.decide(wait("w", "signal:a"), 0);
  ASSERT_EQ(taken.events.size(), 1U);
  EXPECT_EQ(taken.events[0].kind, EventKind::kStepSucceeded);
  EXPECT_EQ(taken.events[0].payload, "first");
  EXPECT_EQ(taken.taken, std::vector<int64_t>{1});
  EXPECT_TRUE(machine.decide(wait("w#2", "signal:a"), 0).events.empty());
  EXPECT_EQ(machine.decide(told(message(2, "signal:b")), 0).events.size(), 0U);
  EXPECT_EQ(machine.decide(told(message(3, "signal:a", "second")), 0).commands.at(0).payload, "second");
}

TEST(RunWaits, ADeadlineIsRecordedAndDoesNotBeginAnew) {
  RunHistory history = fresh();
  RunMachine machine(history, 1);
  const Decision begun = machine.decide(wait("w", "signal:a", kNow + 5'000), 0);
  ASSERT_EQ(begun.events.size(), 1U);
  EXPECT_EQ(begun.events[0].kind, EventKind::kTimerSet);
  EXPECT_EQ(begun.commands.at(0).kind, CommandKind::kWakeAt);
  keep(history, begun);
  RunMachine again(history, 1);
  const Decision resumed = again.decide(wait("w", "signal:a", kNow + 99'000), 0);
  EXPECT_TRUE(resumed.events.empty());
  EXPECT_EQ(resumed.commands.at(0).due_at, kNow + 5'000);
  EXPECT_TRUE(again.decide(input(InputKind::kTimeDue, "w", kNow + 4'999), 0).events.empty()) << "too early";
  const Decision over = again.decide(input(InputKind::kTimeDue, "w", kNow + 5'000), 0);
  ASSERT_EQ(over.events.size(), 1U);
  EXPECT_EQ(over.events[0].kind, EventKind::kStepFailed);
  EXPECT_NE(over.events[0].payload.find("SW-E2006"), Payload::npos);
}

TEST(RunWaits, ASleepThatIsOverEndsAtOnce) {
  RunMachine machine(fresh(), 1);
  const Decision decision = machine.decide(wait("sleep", "", kNow), 0);
  ASSERT_EQ(decision.events.size(), 2U);
  EXPECT_EQ(decision.events[1].kind, EventKind::kStepSucceeded);
}

TEST(RunWaits, AChildIsStartedOnceAndItsEndIsAStep) {
  RunHistory history = fresh();
  RunMachine machine(history, 1);
  const Decision started = machine.decide(child("c", 70), 0);
  ASSERT_EQ(started.creations.size(), 1U);
  EXPECT_EQ(started.creations[0].request.parent, 7);
  EXPECT_EQ(started.creations[0].request.parent_step, "c");
  keep(history, started);
  RunMachine again(history, 1);
  EXPECT_TRUE(again.decide(child("c", 71), 0).creations.empty()) << "the first one is still the child";
  const Decision ended = again.decide(told(message(1, "child:c", R"(3{"message":"no"})")), 0);
  ASSERT_EQ(ended.events.size(), 1U);
  EXPECT_EQ(ended.events[0].kind, EventKind::kStepFailed);
  EXPECT_EQ(ended.events[0].payload, R"({"message":"no"})");
}

TEST(RunWaits, AnEndTellsTheParentAndCancelsChildrenThatStillRun) {
  RunHistory history = fresh();
  history.row.parent = 3;
  history.row.parent_step = "s";
  RunMachine machine(history, 1);
  (void)machine.decide(child("c", 70), 0);
  const Decision end = machine.decide(input(InputKind::kRunFailed), 0);
  ASSERT_EQ(end.messages.size(), 2U);
  EXPECT_EQ(end.messages[0].to, 3);
  EXPECT_EQ(end.messages[0].topic, "child:s");
  EXPECT_EQ(end.messages[0].payload[0], '3');
  EXPECT_EQ(end.messages[1].to, 70);
  EXPECT_EQ(end.messages[1].topic, "cancel");
}

TEST(RunWaits, ARunIsLaidAsideOnlyWhenAllOfItWaits) {
  RunMachine machine(fresh(), 1);
  EXPECT_FALSE(machine.decide(park(0), 0).status.is_ok()) << "it waits for nothing";
  (void)machine.decide(wait("w", "signal:a"), 0);
  (void)machine.decide(input(InputKind::kCallRequested, "call"), 0);
  EXPECT_FALSE(machine.decide(park(1), 0).status.is_ok()) << "a call is under way";
  (void)machine.decide(input(InputKind::kCallSucceeded, "call"), 0);
  (void)machine.decide(wait("nap", "", kNow + kParkMsMin - 1), 0);
  EXPECT_FALSE(machine.decide(park(2), 0).status.is_ok()) << "it would be back in a moment";
  const Decision parked = machine.decide(park(2, kNow - 10'000), 0);
  ASSERT_TRUE(parked.park.has_value());
  EXPECT_EQ(parked.park->wake_at, kNow + kParkMsMin - 1);
  EXPECT_TRUE(machine.is_done());
  EXPECT_FALSE(machine.decide(told(message(1, "signal:a")), 0).status.is_ok()) << "the store keeps it";
}

// A run of two branches was laid aside with the answer to one of them on its way to the worker: nothing woke it again.
TEST(RunWaits, AnAnswerThatTheWorkerHasNotSeenKeepsTheRunInMemory) {
  RunMachine machine(fresh({message(1, "signal:a")}), 1);
  (void)machine.decide(wait("a", "signal:a"), 0);
  (void)machine.decide(wait("b", "signal:b"), 0);
  EXPECT_FALSE(machine.decide(park(2), 0).status.is_ok());
  EXPECT_TRUE(machine.decide(park(1), 0).park.has_value());
}

// A pause was taken when it was heard, and a crash before the run came to rest forgot it.
// A timer that lost a race of `first` came back from the history as a step under way: the run stayed in memory.
TEST(RunWaits, AWaitThatNobodyCameBackToDoesNotKeepTheRunInMemory) {
  RunHistory history = fresh();
  {
    RunMachine machine(history, 1);
    keep(history, machine.decide(wait("first/nap", "", kNow + 90'000), 0));
    keep(history, machine.decide(wait("first/answer", "signal:a"), 0));
    keep(history, machine.decide(told(message(1, "signal:a")), 0));
    Input drop = input(InputKind::kWaitDropped, "first/nap");
    keep(history, machine.decide(std::move(drop), 0));
  }
  RunMachine machine(history, 1);
  (void)machine.decide(wait("again", "signal:b"), 0);
  const Decision parked = machine.decide(park(1), 0);
  ASSERT_TRUE(parked.status.is_ok()) << parked.status.to_string();
  ASSERT_TRUE(parked.park);
  EXPECT_EQ(parked.park->wake_at, -1);
}

TEST(RunWaits, APauseIsTakenOnlyWhenTheRunIsLaidAside) {
  RunMachine machine(fresh(), 1);
  const Decision heard = machine.decide(told(message(1, "pause")), 0);
  EXPECT_TRUE(heard.taken.empty());
  ASSERT_EQ(heard.commands.size(), 1U);
  EXPECT_EQ(heard.commands[0].kind, CommandKind::kPause);
  EXPECT_TRUE(heard.commands[0].ok);
  (void)machine.decide(told(message(2, "signal:a")), 0);
  const Decision parked = machine.decide(park(0), 0);
  ASSERT_TRUE(parked.park.has_value());
  EXPECT_TRUE(parked.park->is_paused);
  EXPECT_EQ(parked.taken, std::vector<int64_t>{1});
  EXPECT_EQ(parked.park->message_count_known, 1);
}

// A run that was resumed before it came to rest asked to be parked for ever.
TEST(RunWaits, AResumeBeforeTheRestLetsTheWorkerGoOn) {
  RunMachine machine(fresh(), 1);
  (void)machine.decide(told(message(1, "pause")), 0);
  const Decision resumed = machine.decide(told(message(2, "resume")), 0);
  EXPECT_EQ(resumed.taken, (std::vector<int64_t>{1, 2}));
  ASSERT_EQ(resumed.commands.size(), 1U);
  EXPECT_EQ(resumed.commands[0].kind, CommandKind::kPause);
  EXPECT_FALSE(resumed.commands[0].ok);
  EXPECT_FALSE(machine.decide(park(0), 0).status.is_ok());
}

TEST(RunWaits, OrdersGivenMeanwhileAreObeyedWhenTheRunIsTakenUp) {
  RunMachine paused(fresh({message(1, "pause"), message(2, "signal:a")}), 1);
  const Decision rest = paused.decide(input(InputKind::kTakenUp), 0);
  ASSERT_TRUE(rest.park.has_value());
  EXPECT_TRUE(rest.park->is_paused);
  RunMachine resumed(fresh({message(1, "pause"), message(2, "resume")}), 1);
  const Decision on = resumed.decide(input(InputKind::kTakenUp), 0);
  EXPECT_FALSE(on.park.has_value());
  EXPECT_EQ(on.taken.size(), 2U);
  RunMachine cancelled(fresh({message(1, "cancel")}), 1);
  EXPECT_EQ(cancelled.decide(input(InputKind::kTakenUp), 0).end->status, RunStatus::kCancelled);
}

TEST(RunWaits, ARunThatIsOverItsDeadlineFails) {
  RunHistory history = fresh();
  history.row.deadline_at = kNow + 10;
  RunMachine machine(history, 1);
  EXPECT_EQ(machine.decide(input(InputKind::kTakenUp), 0).commands.at(0).due_at, kNow + 10);
  const Decision early = machine.decide(input(InputKind::kTimeDue, "", kNow + 9), 0);
  EXPECT_FALSE(early.end.has_value()) << "too early";
  ASSERT_EQ(early.commands.size(), 1U) << "a timer may come a millisecond before the wall clock's deadline";
  EXPECT_EQ(early.commands[0].kind, CommandKind::kWakeAt);
  EXPECT_EQ(early.commands[0].due_at, kNow + 10);
  const Decision over = machine.decide(input(InputKind::kTimeDue, "", kNow + 10), 0);
  ASSERT_TRUE(over.end.has_value());
  EXPECT_EQ(over.end->status, RunStatus::kFailed);
  EXPECT_NE(over.end->payload.find("SW-E1017"), Payload::npos);
  EXPECT_EQ(over.commands.at(0).kind, CommandKind::kStopWorker);
}

// A number that a broken disk had changed threw on the loop thread, which ended the process.
TEST(RunWaits, ADamagedHistoryPausesTheRun) {
  for (const EventKind kind : {EventKind::kTimerSet, EventKind::kChildStarted}) {
    for (const char* damaged : {"", "x1750000000000", "17500000000 ", "99999999999999999999999", "-3"}) {
      RunHistory history = fresh();
      Event event;
      event.kind = kind;
      event.step = "sleep";
      event.payload = damaged;
      history.events.push_back(event);
      history.row.event_count = 1;
      RunMachine machine(history, 1);
      const Decision decision = machine.decide(input(InputKind::kTakenUp), 0);
      ASSERT_TRUE(decision.park) << damaged;
      EXPECT_TRUE(decision.park->is_paused);
      ASSERT_EQ(decision.events.size(), 1U);
      EXPECT_EQ(decision.events[0].kind, EventKind::kMismatch);
      EXPECT_NE(decision.events[0].payload.find("SW-E1106"), std::string::npos) << decision.events[0].payload;
    }
  }
}

// The "resume" that woke it was left in its inbox: the store queued the paused run again, at once and without end.
TEST(RunWaits, ADamagedRunThatIsResumedIsPausedOnceMore) {
  RunHistory history = fresh();
  history.row.damage = Status(StatusKind::kIo, code::kStoreCorrupt, "payload 7 is damaged");
  history.messages = {Message{5, 1, "resume", "", "", 0}, Message{6, 1, "signal:a", "", "p", 0}};
  RunMachine machine(history, 1);
  const Decision decision = machine.decide(input(InputKind::kTakenUp), 0);
  EXPECT_EQ(decision.taken, std::vector<int64_t>{5});
  ASSERT_TRUE(decision.park);
  EXPECT_TRUE(decision.park->is_paused);
  EXPECT_NE(decision.events.at(0).payload.find("payload 7 is damaged"), std::string::npos);
}

TEST(RunWaits, ADamagedRunCanBeCancelled) {
  RunHistory history = fresh();
  history.row.damage = Status(StatusKind::kIo, code::kStoreCorrupt, "payload 7 is damaged");
  history.messages = {Message{5, 1, "cancel", "", "", 0}};
  RunMachine machine(history, 1);
  const Decision decision = machine.decide(input(InputKind::kTakenUp), 0);
  ASSERT_TRUE(decision.end);
  EXPECT_EQ(decision.end->status, RunStatus::kCancelled);
}

}  // namespace
}  // namespace stepwell
