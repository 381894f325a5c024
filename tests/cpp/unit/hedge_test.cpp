// Hedged calls in virtual time: the same request once more beside a slow one, and one answer.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>

#include "runtime/dispatcher.h"
#include "sim/sim_store.h"

namespace stepwell::detail {
namespace {

constexpr int64_t kHedgeMs = 500;

// Answers each request as it was told to, and remembers which were given up.
class ScriptedHttp final : public HttpTransport {
 public:
  struct Answer {
    int64_t after_ms;
    int32_t status;
  };
  explicit ScriptedHttp(Loop& loop) : loop_(loop) {}

  CallId send(HttpRequest, HttpDone done) override {
    const CallId call = ++sent_count;
    const Answer answer = script.empty() ? Answer{0, 200} : script.front();
    if (!script.empty()) script.pop_front();
    in_flight_[call] = std::move(done);
    loop_.after(answer.after_ms + 1, [this, call, status = answer.status] {
      HttpOutcome outcome;
      outcome.maybe_sent = true;
      outcome.response.status = status;
      outcome.response.body = "{\"value\":" + std::to_string(call) + "}";
      finish(call, std::move(outcome));
    });
    return call;
  }
  CallId stream(HttpRequest request, HttpBody, HttpDone done) override {
    return send(std::move(request), std::move(done));
  }
  void cancel(CallId call) override {
    cancelled.push_back(call);
    loop_.post([this, call] {
      HttpOutcome outcome;
      outcome.status = Status(StatusKind::kCancelled, code::kHttpBroken, "the call was cancelled");
      finish(call, std::move(outcome));
    });
  }

  std::deque<Answer> script;
  CallId sent_count = 0;
  std::vector<CallId> cancelled;

 private:
  void finish(CallId call, HttpOutcome outcome) {
    auto found = in_flight_.extract(call);
    if (!found.empty()) found.mapped()(std::move(outcome));
  }
  Loop& loop_;
  std::map<CallId, HttpDone> in_flight_;
};

class Hedge : public ::testing::Test {
 protected:
  void begin(std::deque<ScriptedHttp::Answer> script) {
    http_.script = std::move(script);
    dispatcher_.serve("q", 10);
    std::vector<StartRequest> requests(1);
    requests[0].run.workflow = "w";
    requests[0].run.queue = "q";
    dispatcher_.start(std::move(requests), [](const std::vector<StartAnswer>&) {});
    run_for(50);
    ASSERT_EQ(items_.size(), 1U);
    std::vector<Report> reports(1);
    reports[0].kind = ReportKind::kCall;
    reports[0].run = items_[0].run;
    reports[0].token = items_[0].token;
    reports[0].step = "call";
    reports[0].call = std::make_unique<CallSpec>(std::move(spec_));
    items_.clear();
    dispatcher_.report(std::move(reports));
    asked_at_ = clock_.now_ms();
  }
  static CallSpec hedged() {
    CallSpec spec;
    spec.request.url = "http://peer/";
    spec.judge = {true, "/value"};
    spec.retry = RetryPolicy{3, 100, 200, 60'000, kHedgeMs};
    spec.admission.bucket = "p:m#k";
    spec.admission.circuit = "peer/m#k";
    spec.repeatable = true;
    return spec;
  }
  void run_for(int64_t ms) { clock_.run_for(ms); }
  // Runs until the step is answered; how long that took.
  int64_t answered_after() {
    while (items_.empty() && clock_.step(asked_at_ + 600'000)) {
    }
    return clock_.now_ms() - asked_at_;
  }
  // Nothing is in flight, and nothing is reserved.
  void expect_settled() {
    run_for(60'000);
    EXPECT_EQ(dispatcher_.counters().calls_in_flight, 0);
    EXPECT_EQ(dispatcher_.admission().buckets().at(0).in_flight, 0);
  }

  CallSpec spec_ = hedged();
  sim::SimClock clock_{1};
  sim::StoreFaults faults_;
  std::shared_ptr<MemoryTable> table_ = std::make_shared<MemoryTable>();
  sim::SimLoop loop_{clock_, 1};
  sim::SimStore store_{clock_, loop_, table_, faults_};
  ScriptedHttp http_{loop_};
  std::vector<Item> items_;
  Dispatcher dispatcher_{loop_, store_, http_,
                         [this](std::vector<Item>& more) {
                           for (Item& item : more) items_.push_back(std::move(item));
                           more.clear();
                         },
                         DispatcherOptions{}};
  int64_t asked_at_ = 0;
};

TEST_F(Hedge, TheSecondRequestAnswersForASlowFirst) {
  begin({{100'000, 200}, {20, 200}});
  EXPECT_LT(answered_after(), kHedgeMs + 100);
  EXPECT_EQ(items_.at(0).payload, "{\"value\":2}");
  EXPECT_EQ(items_.at(0).attempt, 1) << "both are one attempt";
  EXPECT_EQ(http_.cancelled, std::vector<CallId>{1});
  EXPECT_EQ(dispatcher_.counters().calls_hedged, 1);
  expect_settled();
  EXPECT_EQ(items_.size(), 1U) << "answered once";
}

TEST_F(Hedge, AFirstThatIsQuickEnoughIsAlone) {
  begin({{kHedgeMs - 50, 200}});
  answered_after();
  run_for(10'000);
  EXPECT_EQ(http_.sent_count, 1U);
  EXPECT_EQ(dispatcher_.counters().calls_hedged, 0);
  expect_settled();
}

TEST_F(Hedge, TheFirstMayStillWin) {
  begin({{kHedgeMs + 100, 200}, {100'000, 200}});
  EXPECT_LT(answered_after(), kHedgeMs + 200);
  EXPECT_EQ(items_.at(0).payload, "{\"value\":1}");
  EXPECT_EQ(http_.cancelled, std::vector<CallId>{2});
  expect_settled();
}

TEST_F(Hedge, OneThatFailsWaitsForTheOther) {
  begin({{kHedgeMs + 10, 503}, {2'000, 200}});
  const int64_t took = answered_after();
  EXPECT_GE(took, kHedgeMs + 2'000);
  EXPECT_EQ(items_.at(0).payload, "{\"value\":2}");
  EXPECT_EQ(items_.at(0).attempt, 1);
  EXPECT_EQ(http_.sent_count, 2U) << "no retry";
  expect_settled();
}

TEST_F(Hedge, TwoThatFailAreOneFailedAttempt) {
  begin({{kHedgeMs + 10, 503}, {2'000, 500}, {10, 200}});
  answered_after();
  EXPECT_EQ(items_.at(0).payload, "{\"value\":3}");
  EXPECT_EQ(items_.at(0).attempt, 2);
  expect_settled();
}

TEST_F(Hedge, ARefusalOfOneEndsBoth) {
  begin({{kHedgeMs + 10, 400}, {100'000, 200}});
  EXPECT_LT(answered_after(), kHedgeMs + 200);
  EXPECT_FALSE(items_.at(0).ok);
  EXPECT_EQ(http_.cancelled, std::vector<CallId>{2});
  expect_settled();
}

TEST_F(Hedge, ACancelledRunEndsBoth) {
  begin({{100'000, 200}, {100'000, 200}});
  run_for(kHedgeMs + 100);
  EXPECT_EQ(http_.sent_count, 2U);
  const RunId run = table_->find(FindRequest{0, "w", "", 1, false}).at(0).row.run;
  dispatcher_.cancel(run, [](const Status&) {});
  run_for(100);
  EXPECT_EQ(std::set<CallId>(http_.cancelled.begin(), http_.cancelled.end()), (std::set<CallId>{1, 2}));
  expect_settled();
}

TEST_F(Hedge, NobodyWaitsForAHedge) {
  CallLimits limits;
  limits.all.concurrency = 1;
  dispatcher_.admission().set_limits("p:m", limits);
  begin({{2'000, 200}});
  answered_after();
  EXPECT_EQ(http_.sent_count, 1U) << "the limit has no room for a second";
  expect_settled();
}

TEST_F(Hedge, WhatMayNotBeDoneTwiceIsNotSentTwice) {
  spec_.repeatable = false;
  begin({{2'000, 200}});
  answered_after();
  EXPECT_EQ(http_.sent_count, 1U);
  expect_settled();
}

TEST_F(Hedge, WhatABudgetPaysForIsBoughtOnce) {
  BudgetUse use;
  use.name = "b";
  use.cap.usd = 100;
  spec_.spending.budgets.push_back(use);
  spec_.spending.estimate.usd = 1;
  begin({{2'000, 200}});
  answered_after();
  EXPECT_TRUE(items_.at(0).ok) << items_.at(0).payload;
  EXPECT_EQ(http_.sent_count, 1U);
  expect_settled();
}

// In an outage hedges would be twice the load: they are a share of the first attempts, as retries are.
TEST_F(Hedge, SpendsTheShareOfTheRetries) {
  BreakerPolicy policy;
  policy.retry_percent = 0;
  policy.retries_per_second_min = 1;
  dispatcher_.admission().set_breaker("peer", policy);
  const Admission admission = spec_.admission;
  begin({{900, 200}});
  const std::optional<CallPass> other = dispatcher_.admission().pass_beside(admission);
  ASSERT_TRUE(other.has_value()) << "one a second";
  answered_after();
  dispatcher_.admission().settle(*other, Verdict{});
  EXPECT_EQ(http_.sent_count, 1U);
  expect_settled();
}

}  // namespace
}  // namespace stepwell::detail
