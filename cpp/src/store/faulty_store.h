// FaultyStore: wraps a store for users' tests. It counts what is committed, cuts the engine off at one transition, and
// is slow or busy when a seed says so (TestWorld).
//
// Loop thread, like any store. A transition is the unit: of a batch that is cut, what stands before the cut is kept.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "stepwell/loop.h"
#include "stepwell/store.h"
#include "stepwell/test_world.h"

namespace stepwell {

class FaultyStore final : public Store {
 public:
  // `loop` gives slow operations their time and must outlive this.
  FaultyStore(Loop& loop, std::unique_ptr<Store> inner, const TestWorld& world);
  FaultyStore(const FaultyStore&) = delete;
  FaultyStore& operator=(const FaultyStore&) = delete;
  ~FaultyStore() override;

  [[nodiscard]] bool is_cut() const { return is_cut_; }
  // Operations that have not been answered.
  [[nodiscard]] int64_t open_count() const { return open_count_; }
  [[nodiscard]] int64_t commit_count() const { return commit_count_; }
  // Operations asked for since the beginning.
  [[nodiscard]] int64_t asked_count() const { return asked_count_; }

  void commit(std::vector<Transition> transitions, CommitDone done) override;
  void claim(ClaimRequest request, ClaimDone done) override;
  void due(WallMs now, int64_t count_max, DueDone done) override;
  void messages(OwnerId owner, MessagesDone done) override;
  void load(RunId run, MoveFunction<void(Result<RunHistory>)> done) override;
  void renew(OwnerId owner, WallMs until, StatusDone done) override;
  void look(const std::string& queue, MoveFunction<void(Result<QueueView>)> done) override;
  void set_limits(const std::string& queue, QueueLimits limits, StatusDone done) override;
  void documents(const std::string& kind, const std::string& name, DocumentsDone done) override;
  void budgets(const std::string& name, BudgetsDone done) override;
  void find(FindRequest request, FindDone done) override;
  void prune(PruneRequest request, PruneDone done) override;
  void backup(BackupSlice slice, BackupDone done) override;
  void watch(MoveFunction<void()> changed) override;
  // After a cut, too: the file is closed as it stands.
  void close(StatusDone done) override;

 private:
  using Operation = MoveFunction<void()>;
  // Does it now, behind those that wait, or never.
  void pass(Operation operation);
  void go_on();
  // What tells the caller, and that the operation is over.
  template <typename Answer>
  MoveFunction<void(Answer)> closing(MoveFunction<void(Answer)> done);
  // Takes those that are answered kBusy out of a batch; returns who was.
  std::vector<bool> refuse_some(std::vector<Transition>& transitions);
  bool chance(int32_t percent);

  Loop& loop_;
  const TestWorld world_;
  const std::shared_ptr<bool> is_alive_ = std::make_shared<bool>(true);
  std::deque<Operation> waiting_;
  bool is_resting_ = false;
  bool is_cut_ = false;
  int64_t open_count_ = 0;
  int64_t commit_count_ = 0;
  int64_t asked_count_ = 0;
  uint64_t random_state_;
  std::unique_ptr<Store> inner_;  // last, so that its late completions meet a whole object
};

}  // namespace stepwell
