#include "sim/sim_store.h"

#include "store/refusals.h"

namespace stepwell::sim {

SimStore::SimStore(SimClock& clock, Loop& loop, std::shared_ptr<MemoryTable> table, const StoreFaults& faults)
    : clock_(clock), loop_(loop), table_(std::move(table)), faults_(faults) {}

int64_t SimStore::delay() {
  if (clock_.chance(faults_.slow_percent)) return 500 + clock_.draw(4'000);
  return clock_.draw(faults_.delay_ms_max);
}

void SimStore::enqueue(Operation operation) {
  waiting_.push_back(std::move(operation));
  if (!is_serving_) {
    is_serving_ = true;
    loop_.after(delay(), [this] { serve(); });
  }
}

// One group commit: all that waits is applied at one instant; the answers come together, later.
void SimStore::serve() {
  std::vector<Operation> batch;
  batch.swap(waiting_);
  std::vector<MoveFunction<void()>> answers;
  table_->set_writer(this);
  answers.reserve(batch.size());
  for (Operation& operation : batch) answers.push_back(operation());
  table_->set_writer(nullptr);
  loop_.after(delay(), [this, answers = std::move(answers)]() mutable {
    for (MoveFunction<void()>& answer : answers) answer();
    is_serving_ = !waiting_.empty();
    if (is_serving_) loop_.after(delay(), [this] { serve(); });
  });
}

void SimStore::commit(std::vector<Transition> transitions, CommitDone done) {
  enqueue([this, transitions = std::move(transitions), done = std::move(done)]() mutable {
    std::vector<CommitAnswer> answers;
    for (Transition& transition : transitions) {
      answers.push_back(table_->apply(std::move(transition)));
      if (answers.back().status.kind() == StatusKind::kFenced) ++refused_count_;
    }
    return MoveFunction<void()>(
        [answers = std::move(answers), done = std::move(done)]() mutable { done(std::move(answers)); });
  });
}

void SimStore::claim(ClaimRequest request, ClaimDone done) {
  enqueue([this, request = std::move(request), done = std::move(done)]() mutable {
    return MoveFunction<void()>(
        [claimed = table_->claim(request), done = std::move(done)]() mutable { done(std::move(claimed)); });
  });
}

void SimStore::load(RunId run, MoveFunction<void(Result<RunHistory>)> done) {
  enqueue([this, run, done = std::move(done)]() mutable {
    return MoveFunction<void()>(
        [found = table_->load(run), done = std::move(done)]() mutable { done(std::move(found)); });
  });
}

void SimStore::renew(OwnerId owner, WallMs until, StatusDone done) {
  enqueue([this, owner, until, done = std::move(done)]() mutable {
    table_->renew(owner, until);
    return MoveFunction<void()>([done = std::move(done)]() mutable { done(Status::ok()); });
  });
}

void SimStore::due(WallMs now, int64_t count_max, DueDone done) {
  enqueue([this, now, count_max, done = std::move(done)]() mutable {
    return MoveFunction<void()>(
        [answer = table_->due(now, count_max), done = std::move(done)]() mutable { done(answer); });
  });
}

void SimStore::messages(OwnerId owner, MessagesDone done) {
  enqueue([this, owner, done = std::move(done)]() mutable {
    return MoveFunction<void()>(
        [found = table_->messages(owner), done = std::move(done)]() mutable { done(std::move(found)); });
  });
}

void SimStore::look(const std::string& queue, MoveFunction<void(Result<QueueView>)> done) {
  enqueue([this, queue, done = std::move(done)]() mutable {
    return MoveFunction<void()>([view = table_->look(queue), done = std::move(done)]() mutable { done(view); });
  });
}

void SimStore::set_limits(const std::string& queue, QueueLimits limits, StatusDone done) {
  enqueue([this, queue, limits, done = std::move(done)]() mutable {
    table_->set_limits(queue, limits);
    return MoveFunction<void()>([done = std::move(done)]() mutable { done(Status::ok()); });
  });
}

void SimStore::documents(const std::string& kind, const std::string& name, DocumentsDone done) {
  enqueue([this, kind, name, done = std::move(done)]() mutable {
    return MoveFunction<void()>(
        [found = table_->documents(kind, name), done = std::move(done)]() mutable { done(std::move(found)); });
  });
}

void SimStore::budgets(const std::string& name, BudgetsDone done) {
  enqueue([this, name, done = std::move(done)]() mutable {
    return MoveFunction<void()>(
        [found = table_->budgets(name), done = std::move(done)]() mutable { done(std::move(found)); });
  });
}

void SimStore::find(FindRequest request, FindDone done) {
  enqueue([this, request = std::move(request), done = std::move(done)]() mutable {
    return MoveFunction<void()>(
        [found = table_->find(request), done = std::move(done)]() mutable { done(std::move(found)); });
  });
}

void SimStore::prune(PruneRequest request, PruneDone done) {
  enqueue([this, request = std::move(request), done = std::move(done)]() mutable {
    return MoveFunction<void()>([answer = table_->prune(request), done = std::move(done)]() mutable { done(answer); });
  });
}

void SimStore::backup(BackupSlice, BackupDone done) {
  enqueue([done = std::move(done)]() mutable {
    return MoveFunction<void()>([done = std::move(done)]() mutable { done(detail::store_has_no_file()); });
  });
}

void SimStore::watch(MoveFunction<void()> changed) {
  auto shared = std::make_shared<MoveFunction<void()>>(std::move(changed));
  table_->watch(this, [this, shared] { loop_.post([shared] { (*shared)(); }); });
}

void SimStore::close(StatusDone done) {
  enqueue([done = std::move(done)]() mutable {
    return MoveFunction<void()>([done = std::move(done)]() mutable { done(Status::ok()); });
  });
}

}  // namespace stepwell::sim
