// FaultyStore: a cut leaves exactly what a crash at that transition would, and nobody hears of it; busy takes nothing.
// That it is a store like any other when nothing is cut is the contract's business.
#include "store/faulty_store.h"

#include <gtest/gtest.h>

#include "contract/store_asks.h"
#include "store/memory_store.h"

namespace stepwell {
namespace {

using testing::batch;
using testing::creation;
using testing::StoreAsks;
using testing::TestLoop;

class FaultyStoreTest : public ::testing::Test {
 protected:
  FaultyStore& open(const TestWorld& world) {
    store_ = std::make_unique<FaultyStore>(loop_, open_memory_store(loop_, table_), world);
    return *store_;
  }
  // Commits without waiting; counts what is answered.
  void commit(std::vector<Transition> transitions) {
    store_->commit(std::move(transitions), [this](const std::vector<CommitAnswer>&) { ++answered_; });
  }
  // Runs that a store beside the cut one sees.
  size_t kept_count() {
    const auto fresh = open_memory_store(loop_, table_);
    FindRequest all;
    all.workflow = "triage";
    all.count_max = 100;
    return StoreAsks(loop_, *fresh).find(std::move(all)).value().size();
  }

  TestLoop loop_;
  std::shared_ptr<MemoryTable> table_ = std::make_shared<MemoryTable>();
  std::unique_ptr<FaultyStore> store_;
  int answered_ = 0;
};

TEST_F(FaultyStoreTest, ACutInsideABatchKeepsWhatStandsBeforeIt) {
  for (const bool keeps : {false, true}) {
    table_ = std::make_shared<MemoryTable>();
    answered_ = 0;
    TestWorld world;
    world.cut_at = 3;
    world.keeps_cut = keeps;
    FaultyStore& store = open(world);
    StoreAsks(loop_, store).commit_one(creation(1));
    EXPECT_FALSE(store.is_cut());
    commit(batch(creation(2), creation(3), creation(4)));
    commit(batch(creation(5)));
    EXPECT_TRUE(store.is_cut());
    EXPECT_EQ(3, store.commit_count());
    EXPECT_EQ(keeps ? 3U : 2U, kept_count());
    EXPECT_EQ(0, answered_) << "nothing is answered after a cut";
  }
}

TEST_F(FaultyStoreTest, AnAnswerUnderWayIsLostWithTheCut) {
  TestWorld world;
  world.cut_at = 2;
  open(world);
  commit(batch(creation(1)));
  commit(batch(creation(2)));  // before the first one's answer
  EXPECT_EQ(1U, kept_count());
  EXPECT_EQ(0, answered_);
}

TEST_F(FaultyStoreTest, ACutStoreCloses) {
  TestWorld world;
  world.cut_at = 1;
  FaultyStore& store = open(world);
  commit(batch(creation(1)));
  StoreAsks asks(loop_, store);
  EXPECT_TRUE(asks.renew(1, 0).is_ok());
  EXPECT_TRUE(asks.close().is_ok());
  EXPECT_EQ(0U, kept_count());
}

TEST_F(FaultyStoreTest, BusyTakesNothingAndAnswersEachInItsPlace) {
  TestWorld world;
  world.busy_percent = 50;
  StoreAsks asks(loop_, open(world));
  size_t taken = 0;
  for (RunId run = 1; run <= 99; run += 3) {
    for (const CommitAnswer& answer : asks.commit(batch(creation(run), creation(run + 1), creation(run + 2)))) {
      taken += answer.status.is_ok() ? 1 : 0;
      EXPECT_TRUE(answer.status.is_ok() || answer.status.kind() == StatusKind::kBusy);
    }
  }
  EXPECT_EQ(taken, kept_count());
  EXPECT_GT(taken, 10U);
  EXPECT_LT(taken, 90U);
}

TEST_F(FaultyStoreTest, OperationsAreCountedUntilTheyAreAnswered) {
  TestWorld world;
  world.slow_percent = 100;
  FaultyStore& store = open(world);
  commit(batch(creation(1)));
  commit(batch(creation(2)));
  EXPECT_EQ(2, store.open_count());
  EXPECT_TRUE(loop_.run_until([&] { return answered_ == 2; }));
  EXPECT_EQ(0, store.open_count());
  EXPECT_EQ(2, store.asked_count());
}

}  // namespace
}  // namespace stepwell
