// SimStore: the store's twin. It wraps a MemoryTable that outlives engines, and takes its time: an operation waits, is
// applied, and its answer waits again, so a crash in between loses the operation or only the reply.
#pragma once

#include <memory>
#include <vector>

#include "sim/sim_loop.h"
#include "stepwell/store.h"
#include "store/memory_store.h"

namespace stepwell::sim {

struct StoreFaults {
  int64_t delay_ms_max = 5;
  int64_t slow_percent = 0;  // a batch that takes seconds
};

class SimStore final : public Store {
 public:
  SimStore(SimClock& clock, Loop& loop, std::shared_ptr<MemoryTable> table, const StoreFaults& faults);
  ~SimStore() override { table_->unwatch(this); }

  void commit(std::vector<Transition> transitions, CommitDone done) override;
  void claim(ClaimRequest request, ClaimDone done) override;
  void load(RunId run, MoveFunction<void(Result<RunHistory>)> done) override;
  void renew(OwnerId owner, WallMs until, StatusDone done) override;
  void due(WallMs now, int64_t count_max, DueDone done) override;
  void messages(OwnerId owner, MessagesDone done) override;
  void look(const std::string& queue, MoveFunction<void(Result<QueueView>)> done) override;
  void set_limits(const std::string& queue, QueueLimits limits, StatusDone done) override;
  void documents(const std::string& kind, const std::string& name, DocumentsDone done) override;
  void budgets(const std::string& name, BudgetsDone done) override;
  void find(FindRequest request, FindDone done) override;
  void prune(PruneRequest request, PruneDone done) override;
  void backup(BackupSlice slice, BackupDone done) override;
  void watch(MoveFunction<void()> changed) override;
  void close(StatusDone done) override;

  // Writes of an owner that had lost its lease.
  [[nodiscard]] int64_t refused_count() const { return refused_count_; }

 private:
  // Applies itself to the table and returns what then tells the caller.
  using Operation = MoveFunction<MoveFunction<void()>()>;
  void enqueue(Operation operation);
  void serve();
  int64_t delay();

  SimClock& clock_;
  Loop& loop_;
  std::shared_ptr<MemoryTable> table_;
  const StoreFaults& faults_;
  std::vector<Operation> waiting_;
  bool is_serving_ = false;
  int64_t refused_count_ = 0;
};

}  // namespace stepwell::sim
