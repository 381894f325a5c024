// What calls reserve, spend and give back, as tables: inputs in, events and spends out.
#include <gtest/gtest.h>

#include <limits>

#include "engine/budget.h"
#include "engine/usage.h"
#include "stepwell/engine.h"

namespace stepwell {
namespace {

using detail::settle;

constexpr Cost kEstimate{1'000, 100};
constexpr Price kPrice{2, 10, 1};

RunHistory fresh() {
  RunHistory history;
  history.row.run = 7;
  history.row.workflow = "tickets";
  history.row.status = RunStatus::kRunning;
  history.row.budgets = "support";
  return history;
}

Input input(InputKind kind) {
  Input made;
  made.kind = kind;
  made.step = "ask";
  return made;
}

Input call() {
  Input made = input(InputKind::kCallRequested);
  made.retry.attempts_max = 5;
  made.spending.price = kPrice;
  made.spending.estimate = kEstimate;
  made.spending.budgets = {{"support", {5'000, -1}, -1, false, false}, {"own/r_7", {-1, 900}, 99, false, true}};
  return made;
}

Input answered(int64_t tokens_in, int64_t tokens_out, int64_t cached = 0) {
  Input made = input(InputKind::kCallSucceeded);
  made.payload = "{}";
  made.usage = {tokens_in, tokens_out, cached};
  return made;
}

Input failed(bool maybe_done, bool retryable = true) {
  Input made = input(InputKind::kCallFailed);
  made.payload = "{}";
  made.retryable = retryable;
  made.maybe_done = maybe_done;
  return made;
}

// What a machine would be after a crash, if all its decisions were committed.
Decision keep(RunHistory& history, Decision decision) {
  for (const Event& event : decision.events) history.events.push_back(event);
  history.row.event_count = static_cast<int64_t>(history.events.size());
  return decision;
}

std::string kinds(const Decision& decision) {
  std::string all;
  for (const Event& event : decision.events) all += std::to_string(static_cast<int>(event.kind)) + " ";
  return all;
}

Cost sum(const Decision& decision, Cost Spend::* which, const std::string& budget = "support") {
  Cost all;
  for (const Spend& spend : decision.spends) {
    if (spend.budget == budget) all = detail::sum_of(all, spend.*which);
  }
  return all;
}

struct Life {
  RunHistory history = fresh();
  std::unique_ptr<RunMachine> machine = std::make_unique<RunMachine>(history, 1);
  Decision decide(Input what) { return keep(history, machine->decide(std::move(what), 0)); }
  void crash() { machine = std::make_unique<RunMachine>(history, 1); }
  void reserve() {
    decide(call());
    decide(input(InputKind::kReserved));
  }
};

TEST(Budget, AnEstimateIsReservedInEachBudgetBeforeTheCallIsSent) {
  Life life;
  const Decision asked = life.decide(call());
  EXPECT_EQ(kinds(asked), "8 ");
  EXPECT_EQ(asked.events[0].payload, R"({"usd":1000,"tokens":100,"budgets":["support","own/r_7"]})");
  EXPECT_TRUE(asked.commands.empty()) << "it was sent before there was room";
  ASSERT_EQ(asked.spends.size(), 2U);
  EXPECT_TRUE(asked.spends[0].is_asking);
  EXPECT_EQ(asked.spends[0].reserved, kEstimate);
  EXPECT_EQ(asked.spends[0].cap, (Cost{5'000, -1}));
  EXPECT_EQ(asked.spends[0].run, 0);
  EXPECT_EQ(asked.spends[1].run, 7) << "an account of its own";
  const Decision granted = life.decide(input(InputKind::kReserved));
  ASSERT_EQ(granted.commands.size(), 1U);
  EXPECT_EQ(granted.commands[0].kind, CommandKind::kSendCall);
  EXPECT_TRUE(granted.events.empty());
}

TEST(Budget, ACallWithoutBudgetsPaysNothing) {
  Life life;
  Input plain = input(InputKind::kCallRequested);
  const Decision sent = life.decide(std::move(plain));
  EXPECT_TRUE(sent.events.empty());
  ASSERT_EQ(sent.commands.size(), 1U);
  const Decision done = life.decide(answered(10, 10));
  EXPECT_EQ(kinds(done), "1 ");
  EXPECT_TRUE(done.spends.empty());
}

TEST(Budget, ASuccessSettlesWithItsRecord) {
  Life life;
  life.reserve();
  const Decision done = life.decide(answered(40, 20, 10));
  EXPECT_EQ(kinds(done), "10 1 ");
  EXPECT_EQ(done.events[0].payload, R"({"as":"spent","usd":270,"tokens":60})");  // 30 * 2 + 10 * 1 + 20 * 10
  EXPECT_EQ(sum(done, &Spend::reserved), (Cost{-1'000, -100}));
  EXPECT_EQ(sum(done, &Spend::spent), (Cost{270, 60}));
  EXPECT_EQ(sum(done, &Spend::spent, "own/r_7"), (Cost{270, 60}));
  EXPECT_EQ(done.spends[0].call_count, 1);
  EXPECT_EQ(done.spends[0].odd_count, 0);
}

TEST(Budget, AFailureThatWasSurelyNotDoneGivesItBack) {
  Life life;
  life.reserve();
  const Decision lost = life.decide(failed(/*maybe_done=*/false));
  EXPECT_EQ(kinds(lost), "10 3 ");
  EXPECT_EQ(sum(lost, &Spend::reserved), (Cost{-1'000, -100}));
  EXPECT_EQ(sum(lost, &Spend::doubt), Cost{});
  const Decision again = life.decide(input(InputKind::kRetryDue));
  EXPECT_EQ(kinds(again), "8 ") << "the next attempt reserves anew";
}

TEST(Budget, AFailureThatMayHaveBeenDoneStaysInDoubtUntilALaterAttemptSettlesIt) {
  Life life;
  life.reserve();
  const Decision lost = life.decide(failed(/*maybe_done=*/true));
  EXPECT_EQ(kinds(lost), "10 3 ");
  EXPECT_EQ(sum(lost, &Spend::reserved), (Cost{-1'000, -100}));
  EXPECT_EQ(sum(lost, &Spend::doubt), kEstimate);
  const Decision again = life.decide(input(InputKind::kRetryDue));
  EXPECT_TRUE(again.events.empty()) << "it repeats under the same reservation";
  ASSERT_EQ(again.commands.size(), 1U);
  EXPECT_EQ(kinds(life.decide(failed(/*maybe_done=*/false))), "3 ") << "the first attempt is in doubt as before";
  life.decide(input(InputKind::kRetryDue));
  const Decision done = life.decide(answered(1, 1));
  EXPECT_EQ(sum(done, &Spend::doubt), (Cost{-1'000, -100}));
  EXPECT_EQ(sum(done, &Spend::spent), (Cost{12, 2}));
  EXPECT_EQ(sum(done, &Spend::reserved), Cost{});
}

TEST(Budget, ALastFailureThatMayHaveBeenDoneIsInDoubtForGood) {
  Life life;
  life.reserve();
  const Decision lost = life.decide(failed(/*maybe_done=*/true, /*retryable=*/false));
  EXPECT_EQ(kinds(lost), "10 2 ");
  EXPECT_EQ(sum(lost, &Spend::doubt), kEstimate);
}

TEST(Budget, AfterACrashTheCallIsRepeatedUnderItsReservation) {
  Life life;
  life.reserve();
  life.crash();
  const Decision again = life.decide(call());
  EXPECT_TRUE(again.events.empty());
  ASSERT_EQ(again.commands.size(), 1U);
  EXPECT_EQ(again.commands[0].kind, CommandKind::kSendCall);
  const Decision lost = life.decide(failed(/*maybe_done=*/false));
  EXPECT_EQ(sum(lost, &Spend::doubt), kEstimate) << "nobody knows what the attempt before the crash came to";
  life.crash();
  EXPECT_TRUE(life.decide(call()).events.empty()) << "what is in doubt is still held";
  EXPECT_EQ(sum(life.decide(answered(1, 1)), &Spend::doubt), (Cost{-1'000, -100}));
}

TEST(Budget, ARefusedReservationHoldsTheCallAndBurnsNoAttempt) {
  Life life;
  life.decide(call());
  Input refused = input(InputKind::kBudgetReached);
  refused.topic = "budget:support/ask";
  refused.due_at = 77;
  const Decision held = life.decide(std::move(refused));
  EXPECT_TRUE(held.events.empty());
  EXPECT_TRUE(held.spends.empty());
  ASSERT_EQ(held.commands.size(), 1U);
  EXPECT_EQ(held.commands[0].kind, CommandKind::kHoldCall);
  EXPECT_EQ(held.commands[0].topic, "budget:support/ask");
  EXPECT_EQ(held.commands[0].due_at, 77);
  EXPECT_EQ(kinds(life.decide(call())), "8 ") << "asked for anew, it reserves anew";
}

TEST(Budget, ARefusalThatIsFinalFailsTheCall) {
  Life life;
  life.decide(call());
  Input refused = input(InputKind::kBudgetReached);
  refused.payload = R"({"code":"SW-E2180"})";
  const Decision over = life.decide(std::move(refused));
  EXPECT_EQ(kinds(over), "2 ");
  ASSERT_EQ(over.commands.size(), 1U);
  EXPECT_EQ(over.commands[0].kind, CommandKind::kAnswerStep);
  EXPECT_FALSE(over.commands[0].ok);
}

TEST(Budget, ACallThatIsHeldForAnotherReasonGivesItBack) {
  Life life;
  life.reserve();
  Input held = input(InputKind::kCallHeld);
  held.topic = "circuit:x";
  const Decision back = life.decide(std::move(held));
  EXPECT_EQ(kinds(back), "10 ");
  EXPECT_EQ(sum(back, &Spend::reserved), (Cost{-1'000, -100}));
}

TEST(Budget, ARunThatEndsLeavesWhatIsUnderWayInDoubt) {
  Life life;
  life.reserve();
  const Decision end = life.decide(input(InputKind::kCancelRequested));
  EXPECT_EQ(kinds(end), "10 ");
  EXPECT_TRUE(end.end.has_value());
  EXPECT_EQ(sum(end, &Spend::doubt), kEstimate);
}

TEST(Budget, ARunThatEndsBeforeItsReservationIsAnsweredTakesItBack) {
  Life life;
  life.decide(call());
  const Decision end = life.decide(input(InputKind::kRunFailed));
  EXPECT_EQ(sum(end, &Spend::reserved), (Cost{-1'000, -100}));
  EXPECT_EQ(sum(end, &Spend::doubt), Cost{});
  for (const Spend& spend : end.spends) EXPECT_EQ(spend.reserved_seq, 0) << "only if it was granted";
}

TEST(Budget, AReservationThatCannotBeReadIsDamage) {
  Life life;
  life.reserve();
  life.history.events[0].payload = "nonsense";
  life.crash();
  const Decision taken = life.machine->decide(input(InputKind::kTakenUp), 0);
  EXPECT_EQ(kinds(taken), "6 ");
}

TEST(Budget, ChildrenAndWhatIsSentInheritBudgets) {
  Life life;
  Input child = input(InputKind::kChildRequested);
  child.step = "child";
  child.creation = Creation{9, {}};
  EXPECT_EQ(life.decide(std::move(child)).creations.at(0).request.budgets, "support");
  Input done = input(InputKind::kStepSucceeded);
  done.step = "send";
  done.creations.resize(2);
  done.creations[1].request.budgets = "other";
  const Decision sent = life.decide(std::move(done));
  EXPECT_EQ(sent.creations.at(0).request.budgets, "support");
  EXPECT_EQ(sent.creations.at(1).request.budgets, "other");
}

TEST(Budget, UsageThatMakesNoSenseSettlesAtTheEstimateAndIsFlagged) {
  for (const Usage& usage : {Usage{-1, 5, 0}, Usage{-1, -1, 0}, Usage{5, 1, 6}, Usage{5, 1, -1}}) {
    EXPECT_EQ(settle(kPrice, kEstimate, usage).cost, kEstimate);
    EXPECT_STRNE(settle(kPrice, kEstimate, usage).odd, "");
  }
  EXPECT_EQ(settle(kPrice, kEstimate, {5, -1, 0}).cost, (Cost{10, 5})) << "an embedding has no output";
  const detail::Settlement more = settle(kPrice, kEstimate, {100, 100, 0});
  EXPECT_EQ(more.cost, (Cost{1'200, 200})) << "what was spent was spent";
  EXPECT_STREQ(more.odd, "more than the estimate");
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(settle({kMost, kMost, 0}, kEstimate, {1'000, 1'000, 0}).cost.usd, kMost) << "no sum goes round";
}

TEST(Usage, CountsAreReadWhereTheRuleSays) {
  const UsageRule rule{{"/usage/in", "/usage/made"}, {"/usage/out"}, "/usage/cached"};
  const auto read = [&](const char* body) {
    Usage found;
    (void)detail::check_and_count(body, {}, rule, found);
    return found;
  };
  Usage usage = read(R"({"usage":{"in":3,"made":4,"out":5,"cached":2}})");
  EXPECT_EQ(usage.input, 7);
  EXPECT_EQ(usage.output, 5);
  EXPECT_EQ(usage.cached, 2);
  for (const char* body :
       {R"({"usage":{"in":-3,"made":4,"out":5}})", R"({"usage":{"in":"3","made":4}})", "[]", "{",
        R"({"usage":{"in":3.5,"made":4}})", R"({"usage":{"in":99999999999999999999,"made":4}})", R"({"usage":null})"}) {
    EXPECT_EQ(read(body).input, -1) << body;
  }
  EXPECT_EQ(read(R"({"usage":{"in":3,"made":null,"out":5}})").input, 3) << "a part that is nothing may be left out";
}

}  // namespace
}  // namespace stepwell
