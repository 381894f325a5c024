// The admission stage in virtual time: lines, turns, holds; and ten thousand calls against a peer with limits.
#include "runtime/admission.h"

#include <gtest/gtest.h>

#include <map>

#include "runtime/dispatcher.h"
#include "sim/limited_http.h"
#include "sim/sim_store.h"

namespace stepwell::detail {
namespace {

Admission of(const std::string& bucket, const std::string& tenant = "", int64_t tokens = 1) {
  Admission admission;
  admission.bucket = bucket;
  admission.circuit = "host#k";
  admission.tenant = tenant;
  admission.tokens = tokens;
  return admission;
}

CallLimits limits_of(int64_t requests, int64_t tokens, int64_t concurrency) {
  CallLimits limits;
  limits.all = {requests, tokens, concurrency};
  return limits;
}

// A stage whose calls are known by their step.
struct Stage {
  sim::SimClock clock{1};
  sim::SimLoop loop{clock, 1};
  std::vector<std::string> sent;
  std::map<std::string, CallPass> passes;
  std::map<std::string, WallMs> held;
  std::map<std::string, Status> refused;
  AdmissionStage stage{loop, 5, [this](const CallRef& call, const Ruling& ruling) {
                         if (ruling.kind == RulingKind::kSend) {
                           sent.push_back(call.step);
                           passes[call.step] = ruling.pass;
                         } else if (ruling.kind == RulingKind::kHold) {
                           held[call.step] = ruling.due_at;
                         } else {
                           refused[call.step] = ruling.status;
                         }
                       }};

  PlaceId ask(const std::string& step, const Admission& admission, int32_t priority = 0, int32_t attempt = 1) {
    return stage.ask({1, 1, step, attempt}, admission, priority);
  }
  void end(const std::string& step, Blame blame = Blame::kNobody) {
    Verdict verdict;
    verdict.ok = blame == Blame::kNobody;
    verdict.blame = blame;
    auto pass = passes.extract(step);
    stage.settle(pass.mapped(), verdict);
  }
  void run_for(int64_t ms) { clock.run_for(ms); }
  int64_t waiting() {
    Counters counters;
    stage.add_to(counters);
    return counters.calls_waiting;
  }
};

TEST(Admission, ACallWithoutNamesPasses) {
  Stage stage;
  EXPECT_EQ(stage.ask("a", Admission()), 0U);
  EXPECT_EQ(stage.sent.size(), 1U);
  stage.end("a");
  EXPECT_TRUE(stage.stage.buckets().empty());
}

TEST(Admission, LimitsAreFoundByNameWithoutTheKeyAndKeysDoNotShare) {
  Stage stage;
  stage.stage.set_limits("p:m", limits_of(0, 0, 1));
  stage.stage.set_limits("p:*", limits_of(0, 0, 2));
  stage.stage.set_limits("*", limits_of(0, 0, 3));
  for (const char* bucket : {"p:m#k1", "p:m#k2", "p:n#k1", "q:m#k1"}) {
    for (int i = 0; i < 5; ++i) stage.ask(bucket + std::to_string(i), of(bucket));
  }
  EXPECT_EQ(stage.sent.size(), 1U + 1U + 2U + 3U);
  stage.stage.set_limits("p:m", limits_of(0, 0, 4));  // while calls wait
  EXPECT_EQ(stage.sent.size(), 4U + 4U + 2U + 3U);
}

TEST(Admission, AWaitingCallGoesWhenItsTimeHasCome) {
  Stage stage;
  stage.stage.set_limits("p:m", limits_of(60, 0, 0));
  for (int i = 0; i < 5; ++i) stage.ask(std::to_string(i), of("p:m#k"));
  EXPECT_EQ(stage.sent.size(), 1U);
  stage.run_for(2'000);
  EXPECT_EQ(stage.sent.size(), 3U);
  stage.run_for(2'000);
  EXPECT_EQ(stage.sent, (std::vector<std::string>{"0", "1", "2", "3", "4"}));
  EXPECT_EQ(stage.waiting(), 0);
}

TEST(Admission, TenantsTakeTurnsByTokens) {
  Stage stage;
  stage.stage.set_limits("p:m", limits_of(0, 0, 1));
  stage.ask("first", of("p:m#k", "a"));
  // a asks for a hundred small calls before b asks for ten that are ten times as large.
  for (int i = 0; i < 100; ++i) stage.ask("a" + std::to_string(i), of("p:m#k", "a", 10));
  for (int i = 0; i < 10; ++i) stage.ask("b" + std::to_string(i), of("p:m#k", "b", 100));
  for (int i = 0; i < 44; ++i) stage.end(stage.sent.back());
  const auto of_b =
      std::count_if(stage.sent.begin(), stage.sent.end(), [](const auto& step) { return step[0] == 'b'; });
  EXPECT_EQ(of_b, 4) << "of 44 calls, 40 small ones weigh as much as 4 large ones";
}

TEST(Admission, ATenantAtItsOwnLimitDoesNotStopTheOthers) {
  Stage stage;
  CallLimits limits = limits_of(0, 0, 10);
  limits.tenant = {60, 0, 2};
  stage.stage.set_limits("p:m", limits);
  for (int i = 0; i < 5; ++i) stage.ask("a" + std::to_string(i), of("p:m#k", "a"));
  for (int i = 0; i < 5; ++i) stage.ask("b" + std::to_string(i), of("p:m#k", "b"));
  EXPECT_EQ(stage.sent, (std::vector<std::string>{"a0", "b0"}));
  stage.run_for(1'100);
  EXPECT_EQ(stage.sent.size(), 4U);
  stage.run_for(5'000);
  EXPECT_EQ(stage.sent.size(), 4U) << "two of each are in flight";
  stage.end("b0");
  EXPECT_EQ(stage.sent.back()[0], 'b');
  EXPECT_EQ(stage.sent.size(), 5U);
}

TEST(Admission, HigherPriorityGoesFirst) {
  Stage stage;
  stage.stage.set_limits("p:m", limits_of(0, 0, 1));
  stage.ask("first", of("p:m#k"));
  stage.ask("low", of("p:m#k"), -1);
  stage.ask("normal", of("p:m#k"), 0);
  stage.ask("high", of("p:m#k"), 5);
  for (int i = 0; i < 3; ++i) stage.end(stage.sent.back());
  EXPECT_EQ(stage.sent, (std::vector<std::string>{"first", "high", "normal", "low"}));
}

TEST(Admission, AWithdrawnCallIsNeverSent) {
  Stage stage;
  stage.stage.set_limits("p:m", limits_of(0, 0, 1));
  stage.ask("first", of("p:m#k"));
  const PlaceId place = stage.ask("second", of("p:m#k"));
  ASSERT_NE(place, 0U);
  stage.ask("third", of("p:m#k"));
  stage.stage.withdraw(place);
  stage.stage.withdraw(place);
  stage.stage.withdraw(4'711);
  stage.end("first");
  EXPECT_EQ(stage.sent, (std::vector<std::string>{"first", "third"}));
  EXPECT_EQ(stage.waiting(), 0);
}

TEST(Admission, ACallLargerThanItsLimitIsRefusedAndNotADeadlock) {
  Stage stage;
  stage.stage.set_limits("p:m", limits_of(0, 1'000, 0));
  stage.ask("large", of("p:m#k", "", 1'001));
  EXPECT_EQ(stage.refused.at("large").code(), code::kCallTooLarge);
  stage.ask("just so", of("p:m#k", "", 1'000));
  stage.run_for(60'000);
  EXPECT_EQ(stage.sent.size(), 1U);
}

TEST(Admission, WhoWouldWaitForLongIsGivenATurnInTheStore) {
  Stage stage;
  stage.stage.set_limits("p:m", limits_of(60, 0, 0));
  for (int i = 0; i < 100; ++i) stage.ask(std::to_string(i), of("p:m#k"));
  EXPECT_EQ(stage.sent.size(), 1U);
  EXPECT_GE(stage.waiting(), 28);
  EXPECT_LE(stage.waiting(), 30) << "half a minute's worth";
  ASSERT_EQ(stage.held.size(), 100U - 1U - static_cast<size_t>(stage.waiting()));
  WallMs last = 0;
  for (int i = 100 - static_cast<int>(stage.held.size()); i < 100; ++i) {
    const WallMs due = stage.held.at(std::to_string(i));
    EXPECT_GE(due, last + 250) << "one after the other, four at a turn";
    last = due;
  }
  EXPECT_LE(last - stage.loop.wall_ms(), 90'000) << "a little before its turn";
}

TEST(Admission, AnOpenCircuitHoldsWhoAsksAndWhoWaits) {
  Stage stage;
  stage.stage.set_limits("p:m", limits_of(0, 0, 20));
  for (int i = 0; i < 30; ++i) stage.ask(std::to_string(i), of("p:m#k"));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(stage.stage.circuits().at(0).state, CircuitState::kClosed);
    stage.end(std::to_string(i), Blame::kPeer);
  }
  const CircuitView open = stage.stage.circuits().at(0);
  EXPECT_EQ(open.state, CircuitState::kOpen);
  const auto sent = static_cast<int64_t>(stage.sent.size());
  stage.ask("late", of("p:m#k"));
  EXPECT_EQ(stage.waiting(), 0);
  EXPECT_GE(stage.held.at("late"), open.open_until);
  EXPECT_EQ(static_cast<int64_t>(stage.sent.size()), sent);
  // When it has cooled down one may look, and the others wait for what it finds.
  stage.run_for(open.open_until - stage.loop.wall_ms());
  stage.ask("probe", of("p:m#k"));
  stage.ask("behind", of("p:m#k"));
  EXPECT_EQ(stage.sent.back(), "probe");
  EXPECT_TRUE(stage.held.contains("behind"));
  stage.end("probe");
  stage.ask("second", of("p:m#k"));
  stage.end("second");
  EXPECT_EQ(stage.stage.circuits().at(0).state, CircuitState::kClosed);
}

TEST(Admission, OurOwnErrorsAnd429sOpenNoCircuit) {
  Stage stage;
  for (int i = 0; i < 200; ++i) {
    stage.ask("a", of(""));
    stage.end("a", i % 3 == 0 ? Blame::kOurs : i % 3 == 1 ? Blame::kThrottle : Blame::kUnknown);
  }
  EXPECT_EQ(stage.stage.circuits().at(0).state, CircuitState::kClosed);
  EXPECT_TRUE(stage.held.empty());
}

TEST(Admission, RetriesBeyondTheirShareWait) {
  Stage stage;
  for (int i = 0; i < 50; ++i) {
    stage.ask(std::to_string(i), of(""));
    stage.end(std::to_string(i));
  }
  for (int i = 0; i < 60; ++i) stage.ask("retry" + std::to_string(i), of(""), 0, 2);
  EXPECT_EQ(stage.sent.size(), 50U + 10U + 10U) << "a fifth of the first attempts, and ten a second";
  EXPECT_EQ(stage.held.size(), 40U);
  EXPECT_TRUE(stage.refused.empty());
  EXPECT_EQ(stage.stage.circuits().at(0).retries_held, 40);
  stage.ask("fresh", of(""));
  EXPECT_EQ(stage.sent.back(), "fresh") << "first attempts go on";
}

TEST(Admission, A429PausesOnlyItsOwnBucket) {
  Stage stage;
  stage.stage.set_limits("*", limits_of(0, 0, 8));
  stage.ask("a", of("p:a#k"));
  Verdict verdict;
  verdict.blame = Blame::kThrottle;
  verdict.retry_after_ms = 10'000;
  stage.stage.settle(stage.passes.at("a"), verdict);
  stage.ask("a2", of("p:a#k"));
  stage.ask("b", of("p:b#k"));
  EXPECT_EQ(stage.sent, (std::vector<std::string>{"a", "b"}));
  stage.run_for(9'900);
  EXPECT_EQ(stage.sent.size(), 2U);
  stage.run_for(1'200);
  EXPECT_EQ(stage.sent.back(), "a2");
  EXPECT_EQ(stage.stage.buckets().at(0).throttled, 1);
}

// --- with the dispatcher, a store, and a peer that has limits ---

struct World {
  explicit World(const sim::PeerSettings& settings, int64_t seed = 1)
      : clock(static_cast<uint64_t>(seed)), peer(clock, loop, settings) {}
  sim::SimClock clock;
  sim::StoreFaults faults;
  std::shared_ptr<MemoryTable> table = std::make_shared<MemoryTable>();
  sim::SimLoop loop{clock, 1};
  sim::SimStore store{clock, loop, table, faults};
  sim::LimitedHttp peer;
  struct Script {
    LeaseToken token = 0;
    std::string tokens;
    int waits = 0;
  };
  std::map<RunId, Script> scripts;
  int64_t estimate_percent = 130;  // of what it will use
  int64_t finished = 0;
  int64_t held = 0;
  std::string error;
  std::vector<Item> inbox;
  bool is_busy = false;
  Dispatcher dispatcher{loop, store, peer,
                        [this](std::vector<Item>& items) {
                          for (Item& item : items) inbox.push_back(std::move(item));
                          items.clear();
                          if (std::exchange(is_busy, true)) return;
                          loop.post([this] { work(); });
                        },
                        DispatcherOptions{}};

  void start(int64_t count) {
    std::vector<StartRequest> requests(static_cast<size_t>(count));
    for (StartRequest& request : requests) {
      request.run.workflow = "w";
      request.run.queue = "q";
      request.run.input = std::to_string(20 + clock.draw(260));
      request.ticket = 1;
    }
    dispatcher.start(std::move(requests), [](const std::vector<StartAnswer>&) {});
  }
  Report report_of(ReportKind kind, RunId run, const std::string& step = {}) {
    Report report;
    report.kind = kind;
    report.run = run;
    report.token = scripts.at(run).token;
    report.step = step;
    return report;
  }
  Report call(RunId run) {
    Report report = report_of(ReportKind::kCall, run, "call");
    const std::string& tokens = scripts.at(run).tokens;
    report.call = std::make_unique<CallSpec>();
    report.call->request.url = "http://peer/" + std::to_string(run);
    report.call->request.body = tokens;
    report.call->judge = {true, "/value"};
    report.call->retry = RetryPolicy{50, 100, 5'000, 3'600'000};
    report.call->repeatable = true;
    report.call->admission = of("p:m#k", "", std::stoll(tokens) * estimate_percent / 100);
    report.call->admission.usage.input = {"/usage/tokens"};
    return report;
  }
  // As the Python worker does it.
  void work() {
    is_busy = false;
    std::vector<Report> reports;
    for (Item& item : std::exchange(inbox, {})) {
      switch (item.kind) {
        case ItemKind::kActivate:
          scripts[item.run] = Script{item.token, item.payload, static_cast<int>(item.history.size()) / 2};
          reports.push_back(call(item.run));
          break;
        case ItemKind::kCallHeld: {
          ++held;
          Script& script = scripts.at(item.run);
          Report wait = report_of(ReportKind::kWait, item.run, "held:" + std::to_string(script.waits++));
          wait.due_at = item.due_at;
          wait.then_park = true;
          reports.push_back(std::move(wait));
          break;
        }
        case ItemKind::kStepAnswer:
          if (item.text.starts_with("held:")) {
            reports.push_back(call(item.run));
            break;
          }
          if (!item.ok) error = item.payload;
          reports.push_back(report_of(ReportKind::kRunSucceeded, item.run));
          break;
        case ItemKind::kStop:
          scripts.erase(item.run);
          break;
        case ItemKind::kRunFinished:
          ++finished;
          break;
        default:
          break;
      }
    }
    dispatcher.report(std::move(reports));
  }
  // Until so many have finished; virtual milliseconds.
  int64_t run_until_finished(int64_t count, int64_t most_ms) {
    const int64_t begun = clock.now_ms();
    while (finished < count && clock.now_ms() - begun < most_ms && error.empty()) clock.step(clock.now_ms() + 1'000);
    return clock.now_ms() - begun;
  }
};

// Of 150 tokens on the average: by requests 20 minutes, by tokens 16.7.
#ifdef STEPWELL_SANITIZED
constexpr int64_t kCalls = 2'000;  // they take ten times as long
#else
constexpr int64_t kCalls = 10'000;
#endif

void expect_close_to_ideal(const char* what, const CallLimits* limits, bool tells_limits,
                           int64_t tokens_a_minute = 90'000, int64_t peer_burst_ms = 60'000) {
  sim::PeerSettings settings;
  settings.burst_ms = peer_burst_ms;
  settings.tells_limits = tells_limits;
  settings.tokens_per_minute = tokens_a_minute;
  World world(settings);
  if (limits != nullptr) world.dispatcher.admission().set_limits("p:m", *limits);
  world.dispatcher.serve("q", 1'000);
  world.start(kCalls);
  const int64_t took_ms = world.run_until_finished(kCalls, int64_t{4} * 3'600'000);
  ASSERT_EQ(world.error, "");
  ASSERT_EQ(world.finished, kCalls) << "after " << took_ms << " ms";
  const double by_requests = static_cast<double>(kCalls) / static_cast<double>(settings.requests_per_minute);
  const double by_tokens = static_cast<double>(world.peer.token_count()) / static_cast<double>(tokens_a_minute);
  const double ideal_ms = std::max(by_requests, by_tokens) * 60'000;
  const double of_ideal = static_cast<double>(took_ms) / ideal_ms;
  const double throttled = static_cast<double>(world.peer.throttled_count()) / static_cast<double>(kCalls);
  std::printf("admission.sim %s: %.1f%% of the ideal time, %.2f%% answered 429, %lld held, most in flight %lld\n", what,
              of_ideal * 100, throttled * 100, static_cast<long long>(world.held),
              static_cast<long long>(world.peer.in_flight_most()));
  EXPECT_LE(of_ideal, 1.05);
  EXPECT_LT(throttled, 0.01);
}

TEST(AdmissionSim, TenThousandCallsWithLimitsThatAreSet) {
  const CallLimits limits = limits_of(500, 90'000, 0);
  expect_close_to_ideal("limits set", &limits, /*tells_limits=*/true);
}

TEST(AdmissionSim, TenThousandCallsWithLimitsThatAreSetAndNeverTold) {
  const CallLimits limits = limits_of(500, 90'000, 0);
  expect_close_to_ideal("limits set, not told", &limits, /*tells_limits=*/false);
}

TEST(AdmissionSim, TenThousandCallsWithLimitsThatAreLearned) {
  expect_close_to_ideal("limits learned", nullptr, /*tells_limits=*/true);
}

TEST(AdmissionSim, TenThousandCallsBoundByTokens) {
  const CallLimits limits = limits_of(500, 45'000, 0);
  expect_close_to_ideal("bound by tokens", &limits, /*tells_limits=*/true, 45'000);
  expect_close_to_ideal("bound by tokens, learned", nullptr, /*tells_limits=*/true, 45'000);
}

// What it has left is never much, and most of what we have in flight is counted in it already.
TEST(AdmissionSim, TenThousandCallsToAPeerThatHoldsASecondsWorth) {
  const CallLimits limits = limits_of(500, 90'000, 0);
  expect_close_to_ideal("a second's worth, limits set", &limits, /*tells_limits=*/true, 90'000, 1'000);
  expect_close_to_ideal("a second's worth, not told", &limits, /*tells_limits=*/false, 90'000, 1'000);
  expect_close_to_ideal("a second's worth, by tokens", &limits, /*tells_limits=*/true, 45'000, 2'000);
}

TEST(AdmissionSim, AnOutageBurnsFewAttemptsAndEveryRunEnds) {
  sim::PeerSettings settings;
  settings.requests_per_minute = 60'000;
  settings.tokens_per_minute = 60'000'000;
  World world(settings);
  world.dispatcher.serve("q", 200);
  world.peer.settings.is_down = true;
  world.start(2'000);
  world.run_until_finished(2'000, 600'000);
  const int64_t during_outage = world.peer.request_count();
  EXPECT_LE(during_outage, 200) << "of two thousand calls in ten minutes";
  EXPECT_EQ(world.finished, 0) << "nobody fails for it";
  world.peer.settings.is_down = false;
  world.run_until_finished(2'000, 3'600'000);
  EXPECT_EQ(world.error, "");
  EXPECT_EQ(world.finished, 2'000);
  EXPECT_LE(world.peer.request_count(), during_outage + 2'100);
  std::printf("admission.sim outage: %lld requests in ten minutes of 503s, %lld after it for 2,000 calls\n",
              static_cast<long long>(during_outage),
              static_cast<long long>(world.peer.request_count() - during_outage));
}

TEST(AdmissionSim, ACancelledRunLeavesTheLine) {
  World world({});
  world.dispatcher.admission().set_limits("p:m", limits_of(6, 0, 0));
  world.dispatcher.serve("q", 10);
  world.start(3);
  world.run_until_finished(1, 5'000);
  EXPECT_EQ(world.dispatcher.counters().calls_waiting, 2);
  for (const auto& [run, script] : std::map(world.scripts)) world.dispatcher.cancel(run, [](const Status&) {});
  world.run_until_finished(4, 120'000);
  EXPECT_EQ(world.finished, 3);
  EXPECT_EQ(world.dispatcher.counters().calls_waiting, 0);
  EXPECT_EQ(world.dispatcher.counters().calls_in_flight, 0);
  EXPECT_EQ(world.peer.request_count(), 1);
}

}  // namespace
}  // namespace stepwell::detail
