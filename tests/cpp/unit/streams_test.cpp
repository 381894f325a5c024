// Streams through the dispatcher, in virtual time: the workflow, the store and readers see the same text, each byte
// once.
#include <gtest/gtest.h>

#include "runtime/dispatcher.h"
#include "sim/sim_http.h"
#include "sim/sim_store.h"

namespace stepwell::detail {
namespace {

constexpr const char* kUrl = "http://peer/once-upon-a-time";

struct World {
  explicit World(uint64_t seed = 1) : clock(seed) {
    faults.delay_ms_max = 20;
    dispatcher = std::make_unique<Dispatcher>(
        loop, store, http,
        [this](std::vector<Item>& more) {
          for (Item& item : more) items.push_back(std::move(item));
          more.clear();
        },
        DispatcherOptions{});
    dispatcher->serve("q", 10);
    std::vector<StartRequest> requests(1);
    requests[0].run.workflow = "w";
    requests[0].run.queue = "q";
    dispatcher->start(std::move(requests), [](const std::vector<StartAnswer>&) {});
    run_for(100);
    run = items.at(0).run;
    token = items.at(0).token;
    items.clear();
  }
  void ask_for_stream(int32_t attempts_max) {
    std::vector<Report> reports(1);
    Report& report = reports[0];
    report.kind = ReportKind::kCall;
    report.run = run;
    report.token = token;
    report.step = "s";
    report.call = std::make_unique<CallSpec>();
    report.call->request.url = kUrl;
    report.call->retry.attempts_max = attempts_max;
    report.call->repeatable = true;
    report.call->stream.emplace();
    report.call->stream->text_pointers = {"/text"};
    report.call->stream->end_data = "[DONE]";
    dispatcher->report(std::move(reports));
  }
  void read(int64_t generation, int64_t offset, uint64_t ticket = 9) {
    dispatcher->read_stream({run, "s", generation, offset, 60'000, ticket});
  }
  void run_for(int64_t ms) { clock.run_for(ms); }
  std::vector<Item> take(ItemKind kind) {
    std::vector<Item> taken;
    for (Item& item : items) {
      if (item.kind == kind) taken.push_back(std::move(item));
    }
    std::erase_if(items, [kind](const Item& item) { return item.kind == kind; });
    return taken;
  }

  sim::SimClock clock;
  sim::StoreFaults faults;
  std::shared_ptr<MemoryTable> table = std::make_shared<MemoryTable>();
  sim::SimLoop loop{clock, 1};
  sim::SimServer server{clock};
  sim::SimStore store{clock, loop, table, faults};
  sim::SimHttp http{clock, loop, server};
  std::vector<Item> items;
  std::unique_ptr<Dispatcher> dispatcher;
  RunId run = 0;
  LeaseToken token = 0;
};

// Reads as a reader outside does; returns the text of the last generation, and counts the restarts.
std::string read_all(World& world, int& restarts) {
  std::string text;
  int64_t generation = 0;
  for (int left = 1'000; left > 0; --left) {
    world.read(generation, static_cast<int64_t>(text.size()));
    std::vector<Item> answers;
    for (int waits = 0; answers.empty() && waits < 1'000; ++waits) {
      world.run_for(10);
      answers = world.take(ItemKind::kStreamText);
    }
    EXPECT_EQ(1U, answers.size());
    if (answers.size() != 1) return text;
    const Item& answer = answers[0];
    if (answer.standing != StreamStanding::kText) {
      EXPECT_EQ(StreamStanding::kRecorded, answer.standing);
      EXPECT_NE(std::string::npos, answer.payload.find(R"({"text":")" + std::string(kUrl) + "\"")) << answer.payload;
      return kUrl;
    }
    EXPECT_FALSE(answer.payload.empty());
    if (answer.generation != generation && generation != 0) ++restarts;
    if (answer.generation != generation) text.clear();
    EXPECT_EQ(static_cast<int64_t>(text.size()), answer.offset);
    generation = answer.generation;
    text += answer.payload;
    EXPECT_EQ(0U, std::string(kUrl).find(text)) << text;
  }
  return text;
}

TEST(Streams, TheWorkflowIsToldEachByteOnceBeforeTheAnswer) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    World world(seed);
    world.server.faults.percent = 30;
    world.ask_for_stream(50);
    world.run_for(600'000);
    std::string told;
    ASSERT_FALSE(world.items.empty());
    for (const Item& item : world.items) {
      if (item.kind != ItemKind::kStreamPiece) continue;
      EXPECT_EQ(1, item.generation);
      EXPECT_EQ(static_cast<int64_t>(told.size()), item.offset);
      told += item.payload;
    }
    EXPECT_EQ(kUrl, told);
    EXPECT_EQ(ItemKind::kStepAnswer, world.items.back().kind);
    EXPECT_TRUE(world.items.back().ok) << world.items.back().payload;
    EXPECT_EQ(R"({"text":")" + std::string(kUrl) + R"(","generation":1,"events":[{"text":"e"}]})",
              world.items.back().payload);
  }
}

TEST(Streams, AReaderOutsideSeesWhatIsCommittedAndOnlyThat) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    World world(seed);
    world.server.faults.percent = 30;
    world.ask_for_stream(50);
    int restarts = 0;
    EXPECT_EQ(kUrl, read_all(world, restarts)) << "seed " << seed;
    EXPECT_EQ(0, restarts);
  }
}

TEST(Streams, AnotherLifeGoesOnWhereTheStoreStands) {
  int lives_cut_in_the_middle = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    World world(seed);
    world.ask_for_stream(5);
    for (int waits = 0; waits < 1'000 && world.table->load(world.run)->streams.empty(); ++waits) world.run_for(5);
    if (world.table->load(world.run)->streams.empty()) continue;  // recorded before anything was kept
    const std::string kept = world.table->load(world.run)->streams[0].text;
    world.dispatcher.reset();  // the process dies
    world.run_for(60'000);     // and its lease with it
    world.items.clear();
    world.dispatcher = std::make_unique<Dispatcher>(
        world.loop, world.store, world.http,
        [&world](std::vector<Item>& more) {
          for (Item& item : more) world.items.push_back(std::move(item));
          more.clear();
        },
        DispatcherOptions{{}, 30'000, 2, 2});
    int restarts = 0;
    world.read(1, static_cast<int64_t>(kept.size()) - 1);
    world.run_for(100);
    const std::vector<Item> seen = world.take(ItemKind::kStreamText);
    ASSERT_EQ(1U, seen.size());
    EXPECT_EQ(kept.substr(kept.size() - 1), seen[0].payload) << "readable before anybody serves the run";
    world.dispatcher->serve("q", 10);
    world.run_for(20'000);
    ASSERT_EQ(1U, world.items.size());
    world.token = world.items[0].token;
    world.items.clear();
    world.ask_for_stream(5);
    EXPECT_EQ(kUrl, read_all(world, restarts));
    EXPECT_EQ(0, restarts);
    std::string told;
    for (const Item& item : world.take(ItemKind::kStreamPiece)) told += item.payload;
    EXPECT_EQ(kUrl, told) << "the workflow begins anew, and is told everything";
    lives_cut_in_the_middle += kept.size() < std::string(kUrl).size() ? 1 : 0;
  }
  EXPECT_GT(lives_cut_in_the_middle, 20);
}

TEST(Streams, AReaderIsToldWhenThereIsNothingToWaitFor) {
  World world;
  world.read(0, 0, 1);
  world.dispatcher->read_stream({12345, "s", 0, 0, 60'000, 2});
  world.dispatcher->read_stream({world.run, "s", 0, 0, 1'000, 3});
  world.run_for(5'000);
  std::vector<Item> answers = world.take(ItemKind::kStreamText);
  ASSERT_EQ(2U, answers.size());
  EXPECT_EQ(2U, answers[0].ticket);
  EXPECT_EQ(StreamStanding::kNoRun, answers[0].standing);
  EXPECT_EQ(3U, answers[1].ticket);
  EXPECT_EQ(StreamStanding::kNothing, answers[1].standing);
  world.dispatcher->cancel(world.run, [](const Status&) {});
  world.run_for(1'000);
  answers = world.take(ItemKind::kStreamText);
  ASSERT_EQ(1U, answers.size());
  EXPECT_EQ(1U, answers[0].ticket);
  EXPECT_EQ(StreamStanding::kRunEnded, answers[0].standing);
}

TEST(Streams, AStepThatFailsForGoodTellsItsReaders) {
  World world;
  world.server.faults.percent = 100;
  world.ask_for_stream(1);
  world.read(0, 0);
  world.run_for(60'000);
  std::vector<Item> answers = world.take(ItemKind::kStreamText);
  while (!answers.empty() && answers[0].standing == StreamStanding::kText) {
    world.read(answers[0].generation, answers[0].offset + static_cast<int64_t>(answers[0].payload.size()));
    world.run_for(1'000);
    answers = world.take(ItemKind::kStreamText);
  }
  ASSERT_EQ(1U, answers.size());
  EXPECT_EQ(StreamStanding::kFailed, answers[0].standing);
  world.read(7, 0);
  world.run_for(1'000);
  EXPECT_EQ(1U, world.take(ItemKind::kStreamText).size()) << "and those who come later";
}

// Streams that bring a first event when they are told to, and never end.
class OpenHttp final : public HttpTransport {
 public:
  CallId send(HttpRequest, HttpDone) override { return 0; }
  CallId stream(HttpRequest, HttpBody body, HttpDone done) override {
    bodies.push_back(std::move(body));
    dones.push_back(std::move(done));
    return bodies.size();
  }
  void cancel(CallId) override {}
  void begin_all(HttpHeaders headers = {}) {
    HttpResponse head;
    head.status = 200;
    head.headers = std::move(headers);
    for (; begun < bodies.size(); ++begun) bodies[begun](head, "data: {\"text\":\"x\"}\n\n");
  }

  std::vector<HttpBody> bodies;
  std::vector<HttpDone> dones;
  size_t begun = 0;
};

class StreamsInLine : public ::testing::Test {
 protected:
  StreamsInLine() {
    dispatcher_.serve("q", kRunCount);
    std::vector<StartRequest> requests(kRunCount);
    for (StartRequest& request : requests) {
      request.run.workflow = "w";
      request.run.queue = "q";
    }
    dispatcher_.start(std::move(requests), [](const std::vector<StartAnswer>&) {});
    run_for(100);
    std::vector<Report> reports;
    for (const Item& item : std::exchange(items_, {})) {
      Report& report = reports.emplace_back();
      report.kind = ReportKind::kCall;
      report.run = item.run;
      report.token = item.token;
      report.step = "s";
      report.call = std::make_unique<CallSpec>();
      report.call->request.url = kUrl;
      report.call->stream.emplace();
      report.call->stream->text_pointers = {"/text"};
      report.call->stream->end_data = "[DONE]";
      report.call->admission.bucket = "peer:model#1";
    }
    dispatcher_.report(std::move(reports));
    run_for(1'000);
  }
  void run_for(int64_t ms) { clock_.run_for(ms); }

  static constexpr size_t kRunCount = 200;
  sim::SimClock clock_{1};
  sim::StoreFaults faults_;
  sim::SimLoop loop_{clock_, 1};
  sim::SimStore store_{clock_, loop_, std::make_shared<MemoryTable>(), faults_};
  OpenHttp http_;
  std::vector<Item> items_;
  Dispatcher dispatcher_{loop_, store_, http_,
                         [this](std::vector<Item>& more) {
                           for (Item& item : more) items_.push_back(std::move(item));
                           more.clear();
                         },
                         DispatcherOptions{}};
};

// With a window that opened when streams end, the last of 200 had waited for three that came before.
TEST_F(StreamsInLine, WhoWaitsIsSentWhenTheOnesBeforeHaveBegun) {
  EXPECT_LT(http_.bodies.size(), 60U) << "of a peer that nobody knows";
  while (http_.begun < kRunCount) {
    const size_t before = http_.bodies.size();
    http_.begin_all();
    run_for(100);
    ASSERT_GE(http_.bodies.size(), std::min(3 * before, kRunCount)) << "twice as many each round";
  }
  EXPECT_EQ(kRunCount, items_.size()) << "each has brought its text";
}

TEST_F(StreamsInLine, TheirHeadsTellTheLimits) {
  const size_t first = http_.bodies.size();
  ASSERT_LT(first, 60U);
  http_.begin_all({{"x-ratelimit-limit-requests", "60"}, {"x-ratelimit-remaining-requests", "0"}});
  run_for(10'000);
  EXPECT_LE(http_.bodies.size() - first, 11U) << "one a second";
  EXPECT_GE(http_.bodies.size() - first, 5U);
}

}  // namespace
}  // namespace stepwell::detail
