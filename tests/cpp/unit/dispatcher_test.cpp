// Bugs of the dispatcher, each named after what went wrong, in virtual time.
#include "runtime/dispatcher.h"

#include <gtest/gtest.h>

#include "sim/sim_http.h"
#include "sim/sim_store.h"

namespace stepwell::detail {
namespace {

struct World {
  explicit World(int64_t store_delay_ms, std::shared_ptr<MemoryTable> kept = std::make_shared<MemoryTable>())
      : table(std::move(kept)) {
    faults.delay_ms_max = store_delay_ms;
  }
  sim::SimClock clock{1};
  sim::StoreFaults faults;
  std::shared_ptr<MemoryTable> table;
  sim::SimLoop loop{clock, 1};
  sim::SimServer server{clock};
  sim::SimStore store{clock, loop, table, faults};
  sim::SimHttp http{clock, loop, server};
  std::vector<Item> items;
  Dispatcher dispatcher{loop, store, http,
                        [this](std::vector<Item>& more) {
                          for (Item& item : more) items.push_back(std::move(item));
                          more.clear();
                        },
                        DispatcherOptions{}};

  void start() {
    std::vector<StartRequest> requests(1);
    requests[0].run.workflow = "w";
    requests[0].run.queue = "q";
    dispatcher.start(std::move(requests), [](const std::vector<StartAnswer>&) {});
  }
  // The worker has nothing to do but wait: for `topic`, or until `due_at`.
  void lay_aside(const std::string& topic, WallMs due_at = -1) {
    std::vector<Report> reports(2);
    reports[0].kind = ReportKind::kWait;
    reports[0].step = "wait";
    reports[0].topic = topic;
    reports[0].due_at = due_at;
    reports[1].kind = ReportKind::kPark;
    reports[1].open_waits = 1;
    for (Report& report : reports) {
      report.run = items.at(0).run;
      report.token = items.at(0).token;
    }
    dispatcher.report(std::move(reports));
  }
  void run_for(int64_t ms) { clock.run_for(ms); }
};

// A start that was committed while an empty claim was under way waited for the next lease tick, ten seconds later.
TEST(Dispatcher, AStartDuringAClaimIsNotForgotten) {
  for (int attempt = 0; attempt < 50; ++attempt) {
    World world(20);
    world.dispatcher.serve("q", 10);
    world.run_for(attempt % 25);
    world.start();
    world.run_for(500);
    ASSERT_EQ(world.items.size(), 1U) << "started " << attempt % 25 << " ms after the claim began";
    EXPECT_EQ(world.items[0].kind, ItemKind::kActivate);
  }
}

// A report of an activation that had lost its lease was taken for its successor's on the same engine.
TEST(Dispatcher, AReportWithAnOldTokenIsDropped) {
  World world(1);
  world.dispatcher.serve("q", 10);
  world.run_for(50);
  world.start();
  world.run_for(50);
  ASSERT_EQ(world.items.size(), 1U);
  const auto finish_with = [&](LeaseToken token) {
    std::vector<Report> reports(1);
    reports[0].run = world.items[0].run;
    reports[0].token = token;
    reports[0].payload = "result";
    world.dispatcher.report(std::move(reports));
    world.run_for(50);
    return world.table->load(world.items[0].run)->row.status;
  };
  EXPECT_EQ(finish_with(world.items[0].token - 1), RunStatus::kRunning);
  EXPECT_EQ(finish_with(world.items[0].token), RunStatus::kSucceeded);
}

// A second message with a known key was dropped by the store, yet its run heard it and took it for a new one.
TEST(Dispatcher, AMessageWithAKnownKeyIsHeardOnce) {
  World world(1);
  world.dispatcher.serve("q", 10);
  world.start();
  world.run_for(50);
  const RunId run = world.items.at(0).run;
  for (int i = 0; i < 2; ++i)
    world.dispatcher.tell(Message{0, run, "signal:a", "k", "payload", 0}, [](const Status&) {});
  world.run_for(50);
  std::vector<Report> reports(2);
  for (size_t i = 0; i < 2; ++i) {
    reports[i].kind = ReportKind::kWait;
    reports[i].run = run;
    reports[i].token = world.items[0].token;
    reports[i].step = "wait#" + std::to_string(i);
    reports[i].topic = "signal:a";
  }
  world.dispatcher.report(std::move(reports));
  world.run_for(50);
  ASSERT_EQ(world.items.size(), 2U);
  EXPECT_EQ(world.items[1].kind, ItemKind::kStepAnswer);
  EXPECT_EQ(world.items[1].text, "wait#0");
}

TEST(Dispatcher, ARunThatSleepsIsInNobodysMemoryUntilItsTime) {
  World world(1);
  world.dispatcher.serve("q", 1);
  world.start();
  world.run_for(50);
  world.lay_aside({}, world.loop.wall_ms() + 3'600'000);
  world.run_for(50);
  EXPECT_EQ(world.items.back().kind, ItemKind::kStop);
  EXPECT_EQ(world.dispatcher.counters().runs_in_flight, 0);
  world.start();  // its place is free
  world.run_for(50);
  EXPECT_EQ(world.dispatcher.counters().runs_in_flight, 1);
  world.dispatcher.serve("q", 2);
  world.run_for(3'600'000 - 200);
  EXPECT_EQ(world.dispatcher.counters().runs_in_flight, 1);
  world.run_for(200);
  EXPECT_EQ(world.dispatcher.counters().runs_in_flight, 2);
  ASSERT_EQ(world.items.back().kind, ItemKind::kActivate);
  EXPECT_EQ(world.items.back().history.size(), 1U);
}

TEST(Dispatcher, CancelEndsQueuedAndRunningRuns) {
  World world(1);
  world.start();  // nobody serves the queue: it stays queued
  world.run_for(50);
  const RunId run = world.table->find(FindRequest{0, "w", "", 1, false}).at(0).row.run;
  Status answer(StatusKind::kBusy, 1, "not answered");
  world.dispatcher.cancel(run, [&](Status status) { answer = std::move(status); });
  world.run_for(50);
  EXPECT_TRUE(answer.is_ok()) << answer.to_string();
  EXPECT_EQ(world.table->load(run)->row.status, RunStatus::kCancelled);
  world.dispatcher.serve("q", 10);
  world.start();
  world.run_for(50);
  ASSERT_EQ(world.items.size(), 1U) << "the cancelled run is not handed out";
  const RunId second = world.items[0].run;
  world.dispatcher.cancel(second, [&](Status status) { answer = std::move(status); });
  world.run_for(50);
  EXPECT_EQ(world.table->load(second)->row.status, RunStatus::kCancelled);
  EXPECT_EQ(world.items.back().kind, ItemKind::kStop);
}

// A cancel that came while its run was being laid aside was acknowledged, and the run went on waiting.
TEST(Dispatcher, ACancelDuringAParkIsNotForgotten) {
  for (int64_t after_ms = 0; after_ms < 60; ++after_ms) {
    World world(20);
    world.dispatcher.serve("q", 10);
    world.start();
    world.run_for(100);
    ASSERT_EQ(world.items.size(), 1U);
    const RunId run = world.items[0].run;
    world.lay_aside("signal:answer");
    world.run_for(after_ms);
    bool is_answered = false;
    world.dispatcher.cancel(run, [&](const Status& status) {
      is_answered = true;
      EXPECT_TRUE(status.is_ok()) << status.to_string();
      EXPECT_EQ(world.table->load(run)->row.status, RunStatus::kCancelled) << "before it was acknowledged";
    });
    world.run_for(500);
    EXPECT_TRUE(is_answered) << "asked for " << after_ms << " ms after the wait";
  }
}

// A thread that waits for its step's record hears of it directly, and is never left waiting.
TEST(Dispatcher, AWaitingReporterIsAnsweredOrLetGo) {
  World world(1);
  world.dispatcher.serve("q", 10);
  world.start();
  world.run_for(50);
  ASSERT_EQ(world.items.size(), 1U);
  const RunId run = world.items[0].run;
  const LeaseToken token = world.items[0].token;
  struct Heard {
    explicit Heard(std::vector<std::string>& to) : log(to) {}
    ~Heard() { log.emplace_back("let go"); }
    std::vector<std::string>& log;
  };
  const auto report = [&](LeaseToken with, std::vector<std::string>& log) {
    std::vector<Report> reports(1);
    reports[0].kind = ReportKind::kStepSucceeded;
    reports[0].run = run;
    reports[0].token = with;
    reports[0].step = "s" + std::to_string(world.clock.now_ms());
    reports[0].answer = [heard = std::make_shared<Heard>(log)](const Item& item) {
      heard->log.emplace_back(item.kind == ItemKind::kStop ? "stop" : item.ok ? "recorded" : "failed");
    };
    world.dispatcher.report(std::move(reports));
  };
  std::vector<std::string> log;
  report(token, log);
  EXPECT_TRUE(log.empty()) << "not before the commit";
  world.run_for(50);
  EXPECT_EQ((std::vector<std::string>{"recorded", "let go"}), log);
  EXPECT_EQ(world.items.size(), 1U) << "no item besides";
  log.clear();
  report(token - 1, log);
  EXPECT_EQ((std::vector<std::string>{"let go"}), log);
  log.clear();
  world.dispatcher.cancel(run, [](const Status&) {});
  report(token, log);
  world.run_for(50);
  EXPECT_EQ((std::vector<std::string>{"stop", "let go"}), log) << "the cancel came first";
}

TEST(Dispatcher, ALargePayloadFailsTheStepAndKeepsTheRun) {
  World world(1);
  world.dispatcher.serve("q", 10);
  world.start();
  world.run_for(50);
  ASSERT_EQ(world.items.size(), 1U);
  std::vector<Report> reports(1);
  reports[0].kind = ReportKind::kStepSucceeded;
  reports[0].run = world.items[0].run;
  reports[0].token = world.items[0].token;
  reports[0].step = "big";
  reports[0].payload.resize(static_cast<size_t>(Limits{}.payload_bytes_max) + 1);
  world.dispatcher.report(std::move(reports));
  world.run_for(50);
  ASSERT_EQ(world.items.size(), 2U);
  EXPECT_FALSE(world.items[1].ok);
  EXPECT_NE(world.items[1].payload.find("SW-E1203"), std::string::npos);
}

// Without the one timer it would wake with the next lease tick, ten seconds late.
TEST(Dispatcher, ARunThatSleptBeforeTheEngineOpenedWakesInTime) {
  World world(1);
  Transition made;
  made.run = 1;
  made.create = std::make_unique<NewRun>();
  made.create->workflow = "w";
  made.create->queue = "q";
  made.create->wake_at = world.loop.wall_ms() + 3'000;
  ASSERT_TRUE(world.table->apply(std::move(made)).status.is_ok());
  world.dispatcher.serve("q", 10);
  world.run_for(2'900);
  EXPECT_TRUE(world.items.empty());
  world.run_for(200);
  ASSERT_EQ(world.items.size(), 1U);
  EXPECT_EQ(world.items[0].kind, ItemKind::kActivate);
}

// A worker that ends what is handed to it, and dies when that is `poison`, with all that was handed out beside it.
bool is_killed_by(RunId poison, World& world) {
  for (size_t seen = 0;;) {
    world.run_for(50);
    if (seen == world.items.size()) return false;
    std::vector<Report> reports;
    for (; seen < world.items.size(); ++seen) {
      if (world.items[seen].kind != ItemKind::kActivate) continue;
      if (world.items[seen].run == poison) return true;
      Report& report = reports.emplace_back();
      report.run = world.items[seen].run;
      report.token = world.items[seen].token;
      report.payload = "result";
    }
    world.dispatcher.report(std::move(reports));
  }
}

// A run that kills its process took nine others with it, which were in flight whenever it did: they had been taken up
// as often as it, and never finished.
TEST(Dispatcher, APoisonRunTakesNobodyWithIt) {
  const auto table = std::make_shared<MemoryTable>();
  constexpr int kRuns = 10;
  std::vector<RunId> runs;
  {
    World world(1, table);
    for (int i = 0; i < kRuns; ++i) world.start();
    world.run_for(50);
    for (const RunHistory& found : table->find(FindRequest{0, "w", "", kRuns, false})) runs.push_back(found.row.run);
  }
  ASSERT_EQ(runs.size(), static_cast<size_t>(kRuns));
  const RunId poison = runs[4];
  int lives = 0;
  for (bool is_killed = true; is_killed; ++lives) {
    ASSERT_LE(lives, 20);
    World world(1, table);
    world.run_for(lives * int64_t{60'000});  // past the leases of the life before
    world.dispatcher.serve("q", kRuns);
    is_killed = is_killed_by(poison, world);
  }
  EXPECT_EQ(lives, Limits().crashes_max + 1);
  for (const RunId run : runs) {
    EXPECT_EQ(table->load(run)->row.status, run == poison ? RunStatus::kDead : RunStatus::kSucceeded) << run_name(run);
    EXPECT_LE(table->load(run)->row.claims, run == poison ? Limits().crashes_max + 1 : 4);
  }
}

// A run under trial may wait, in its own code, for another one that waits for its trial.
TEST(Dispatcher, ATrialDoesNotLastForEver) {
  const auto table = std::make_shared<MemoryTable>();
  for (int life = 0; life <= Limits().crashes_alone_min; ++life) {
    World world(1, table);
    for (int i = 0; i < 3 && life == 0; ++i) world.start();
    world.run_for(life * int64_t{60'000});
    world.dispatcher.serve("q", 10);
    world.run_for(1'000);
    if (life < Limits().crashes_alone_min) continue;
    EXPECT_EQ(world.items.size(), 1U);
    world.run_for(30'000);
    EXPECT_EQ(world.items.size(), 2U);
    EXPECT_FALSE(is_killed_by(0, world));
    EXPECT_EQ(world.items.size(), 3U);
  }
}

// What its users order reaches a run that waits for its trial.
TEST(Dispatcher, ARunThatWaitsForItsTrialTakesOrders) {
  const auto table = std::make_shared<MemoryTable>();
  std::vector<RunId> runs;
  for (int life = 0; life <= Limits().crashes_alone_min; ++life) {
    World world(1, table);
    for (int i = 0; i < 4 && life == 0; ++i) world.start();
    world.run_for(life * int64_t{60'000});
    world.dispatcher.serve("q", 10);
    world.run_for(50);
    if (life < Limits().crashes_alone_min) continue;
    ASSERT_EQ(world.items.size(), 1U);
    for (const RunHistory& found : table->find(FindRequest{0, "w", "", 4, false})) {
      if (found.row.run != world.items[0].run) runs.push_back(found.row.run);
    }
    world.dispatcher.tell(Message{0, runs[0], "pause", "", "", 0}, [](const Status&) {});
    world.dispatcher.cancel(runs[1], [](const Status&) {});
    world.run_for(50);
    EXPECT_EQ(table->load(runs[1])->row.status, RunStatus::kCancelled);
    EXPECT_EQ(world.items.size(), 1U) << "no worker knows them";
    EXPECT_FALSE(is_killed_by(0, world));
    EXPECT_EQ(table->load(runs[0])->row.status, RunStatus::kPaused);
    EXPECT_EQ(table->load(runs[2])->row.status, RunStatus::kSucceeded);
  }
}

}  // namespace
}  // namespace stepwell::detail
