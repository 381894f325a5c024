// The door with its real threads: loop, store, and a host that polls, records and waits. For the thread sanitizer above
// all.
#include "stepwell/runtime.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace stepwell {
namespace {

constexpr int kRuns = 20;
constexpr int kStepsPerRun = 10;
constexpr int64_t kPatienceMs = 20'000;

Report report_of(ReportKind kind, const Item& activation) {
  Report report;
  report.kind = kind;
  report.run = activation.run;
  report.token = activation.token;
  report.payload = "1";
  return report;
}

class RuntimeTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "stepwell_runtime_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    open();
  }
  void TearDown() override {
    runtime_.reset();
    std::filesystem::remove_all(folder_);
  }
  void open(std::optional<TestWorld> world = {}) {
    RuntimeOptions options;
    options.test_world = world;
    if (GetParam()) options.path = folder_ + "/runs.db";
    auto opened = Runtime::open(std::move(options));
    ASSERT_TRUE(opened) << opened.error().to_string();
    runtime_ = std::move(*opened);
  }
  std::vector<RunId> start(int count) {
    std::vector<StartRequest> requests(static_cast<size_t>(count));
    for (StartRequest& request : requests) request.run.workflow = request.run.queue = "w";
    auto answers = runtime_->start(std::move(requests));
    std::vector<RunId> runs;
    for (const StartAnswer& answer : *answers) runs.push_back(answer.run);
    return runs;
  }
  // Plays a pool: takes activations and drives each to its end, recording steps one after the other.
  void drive() {
    while (true) {
      auto items = runtime_->poll(1, -1);
      if (!items) return;
      for (const Item& item : *items) {
        if (item.kind == ItemKind::kActivate) drive_run(item);
      }
    }
  }
  void drive_run(const Item& activation) {
    for (int n = 0; n < kStepsPerRun; ++n) {
      Report step = report_of(ReportKind::kStepSucceeded, activation);
      step.step = "s" + std::to_string(n);
      const auto answer = runtime_->record(std::move(step));
      if (!answer || answer->kind == ItemKind::kStop) return;
      EXPECT_EQ(ItemKind::kStepAnswer, answer->kind);
      EXPECT_EQ("s" + std::to_string(n), answer->text);
      ++recorded_;
    }
    std::vector<Report> reports;
    reports.push_back(report_of(ReportKind::kRunSucceeded, activation));
    EXPECT_TRUE(runtime_->complete(std::move(reports)).is_ok());
  }

  std::string folder_;
  std::unique_ptr<Runtime> runtime_;
  std::atomic<int> recorded_{0};
};

TEST_P(RuntimeTest, ManyThreadsRecordStepsAndEachIsKept) {
  ASSERT_TRUE(runtime_->serve("w", 100, 0).is_ok());
  std::vector<std::thread> pool;
  for (int n = 0; n < 4; ++n) pool.emplace_back([this] { drive(); });
  for (const RunId run : start(kRuns)) {
    const auto ended = runtime_->wait(run, kPatienceMs);
    ASSERT_TRUE(ended) << ended.error().to_string();
    EXPECT_EQ(RunStatus::kSucceeded, ended->run_status);
    FindRequest request;
    request.run = run;
    request.with_events = true;
    EXPECT_EQ(size_t{kStepsPerRun}, runtime_->find(std::move(request))->at(0).events.size());
  }
  EXPECT_EQ(kRuns * kStepsPerRun, recorded_);
  EXPECT_EQ(kRuns * kStepsPerRun, runtime_->counters().steps_recorded);
  EXPECT_TRUE(runtime_->close(0).is_ok());
  for (std::thread& thread : pool) thread.join();
}

TEST_P(RuntimeTest, WhoeverRecordsIsLetGoByACancelAndByTheEnd) {
  ASSERT_TRUE(runtime_->serve("w", 100, 0).is_ok());
  const std::vector<RunId> runs = start(2);
  std::vector<Item> activations;
  while (activations.size() < 2) {
    auto items = runtime_->poll(10, kPatienceMs);
    ASSERT_TRUE(items);
    for (Item& item : *items) activations.push_back(std::move(item));
  }
  ASSERT_TRUE(runtime_->cancel(runs[0]).is_ok());
  ASSERT_EQ(RunStatus::kCancelled, runtime_->wait(runs[0], kPatienceMs)->run_status);
  const Item& cancelled = activations[activations[0].run == runs[0] ? 0 : 1];
  const Item& left = activations[activations[0].run == runs[0] ? 1 : 0];
  Report late = report_of(ReportKind::kStepSucceeded, cancelled);
  late.step = "late";
  EXPECT_EQ(StatusKind::kFenced, runtime_->record(std::move(late)).error().kind());
  // A step that fails and is to be tried again in an hour: its reporter waits, until the engine ends.
  std::thread reporter([this, &left] {
    Report failed = report_of(ReportKind::kStepFailed, left);
    failed.step = "s";
    failed.retryable = true;
    failed.retry.attempts_max = 2;
    failed.retry.backoff_base_ms = failed.retry.backoff_cap_ms = int64_t{3'600} * 1'000;
    failed.retry.elapsed_ms_max = int64_t{86'400} * 1'000;
    const auto answer = runtime_->record(std::move(failed));
    if (answer) {
      EXPECT_EQ(ItemKind::kStop, answer->kind);
    } else {
      EXPECT_EQ(StatusKind::kClosed, answer.error().kind());
    }
  });
  while (runtime_->counters().retries == 0) std::this_thread::yield();
  EXPECT_TRUE(runtime_->close(0).is_ok());
  reporter.join();
}

// -- a test world
// --------------------------------------------------------------------------------------------------------

TEST_P(RuntimeTest, WithoutATestWorldNothingCanBeMoved) {
  EXPECT_EQ(StatusKind::kInvalid, runtime_->for_test_view().error().kind());
  EXPECT_EQ(StatusKind::kInvalid, runtime_->for_test_jump(0, 1).error().kind());
  EXPECT_EQ(0, runtime_->for_test_ahead_ms());
}

TEST_P(RuntimeTest, AJumpWakesARunThatWaitsAndIsRefusedWhenSomethingHappenedMeanwhile) {
  constexpr int64_t kWeekMs = 7 * int64_t{86'400'000};
  runtime_.reset();
  open(TestWorld{});
  ASSERT_TRUE(runtime_->serve("w", 100, 0).is_ok());
  std::vector<StartRequest> requests(1);
  requests[0].run.workflow = requests[0].run.queue = "w";
  requests[0].run.wake_at = runtime_->for_test_view()->wall_ms + kWeekMs;
  const RunId run = runtime_->start(std::move(requests))->at(0).run;
  TestView view = *runtime_->for_test_view();
  while (!view.is_idle) view = *runtime_->for_test_view();
  EXPECT_EQ(1, view.commit_count);
  // The lease's own timer stands before it, as in any engine.
  EXPECT_GT(view.next_in_ms, 0);
  EXPECT_EQ(StatusKind::kTimeout, runtime_->wait(run, 0).error().kind());
  EXPECT_FALSE(*runtime_->for_test_jump(view.activity, kWeekMs)) << "somebody has asked for the run since";
  view = *runtime_->for_test_view();
  while (!view.is_idle) view = *runtime_->for_test_view();
  EXPECT_TRUE(view.is_awaited);
  ASSERT_TRUE(*runtime_->for_test_jump(view.activity, kWeekMs));
  EXPECT_EQ(kWeekMs, runtime_->for_test_ahead_ms());
  std::thread worker([this] { drive(); });
  EXPECT_EQ(RunStatus::kSucceeded, runtime_->wait(run, kPatienceMs)->run_status);
  EXPECT_TRUE(runtime_->close(0).is_ok());
  worker.join();
}

TEST_P(RuntimeTest, ACutEngineAnswersNobodyAndClosesAtOnce) {
  runtime_.reset();
  TestWorld world;
  world.cut_at = 4;  // the start, two steps, and then
  open(world);
  ASSERT_TRUE(runtime_->serve("w", 100, 0).is_ok());
  std::thread worker([this] { drive(); });
  ASSERT_EQ(1U, start(1).size());
  while (!runtime_->for_test_view()->is_cut) std::this_thread::yield();
  EXPECT_EQ(4, runtime_->for_test_view()->commit_count);
  EXPECT_TRUE(runtime_->close(0).is_ok());
  worker.join();
  EXPECT_EQ(2, recorded_);
}

INSTANTIATE_TEST_SUITE_P(Stores, RuntimeTest, ::testing::Values(false, true),
                         [](const auto& parameter) { return parameter.param ? "Sqlite" : "Memory"; });

}  // namespace
}  // namespace stepwell
