#include "store/faulty_store.h"

#include <algorithm>
#include <utility>

#include "base/random.h"

namespace stepwell {

namespace {
constexpr int64_t kRestMsMax = 20;
}  // namespace

FaultyStore::FaultyStore(Loop& loop, std::unique_ptr<Store> inner, const TestWorld& world)
    : loop_(loop), world_(world), random_state_(world.seed), inner_(std::move(inner)) {}

FaultyStore::~FaultyStore() { *is_alive_ = false; }

bool FaultyStore::chance(int32_t percent) { return percent > 0 && detail::random_up_to(random_state_, 99) < percent; }

void FaultyStore::pass(Operation operation) {
  if (is_cut_) return;
  ++asked_count_;
  ++open_count_;
  if (!is_resting_ && !chance(world_.slow_percent)) {
    operation();
    return;
  }
  waiting_.push_back(std::move(operation));
  if (is_resting_) return;
  is_resting_ = true;
  loop_.after(1 + detail::random_up_to(random_state_, kRestMsMax - 1), [this, is_alive = is_alive_] {
    if (*is_alive) go_on();
  });
}

void FaultyStore::go_on() {
  is_resting_ = false;
  for (Operation& operation : std::exchange(waiting_, {})) {
    if (is_cut_) return;
    operation();
  }
}

template <typename Answer>
MoveFunction<void(Answer)> FaultyStore::closing(MoveFunction<void(Answer)> done) {
  return [this, is_alive = is_alive_, done = std::move(done)](Answer answer) mutable {
    if (!*is_alive) return;
    --open_count_;
    if (!is_cut_) done(std::move(answer));
  };
}

std::vector<bool> FaultyStore::refuse_some(std::vector<Transition>& transitions) {
  std::vector<bool> is_refused;
  is_refused.reserve(transitions.size());
  for (const Transition& transition : transitions) {
    const bool is_from_outside = transition.create != nullptr || transition.message != nullptr;
    is_refused.push_back(is_from_outside && chance(world_.busy_percent));
  }
  size_t index = 0;
  std::erase_if(transitions, [&](const Transition&) { return is_refused[index++]; });
  return is_refused;
}

void FaultyStore::commit(std::vector<Transition> transitions, CommitDone done) {
  pass([this, transitions = std::move(transitions), done = std::move(done)]() mutable {
    std::vector<bool> is_refused = refuse_some(transitions);
    const int64_t before = commit_count_;
    commit_count_ += static_cast<int64_t>(transitions.size());
    if (world_.cut_at > before && world_.cut_at <= commit_count_) {
      is_cut_ = true;
      commit_count_ = world_.cut_at;
      transitions.resize(static_cast<size_t>(world_.cut_at - before - (world_.keeps_cut ? 0 : 1)));
      if (!transitions.empty()) inner_->commit(std::move(transitions), [](const std::vector<CommitAnswer>&) {});
      return;
    }
    inner_->commit(
        std::move(transitions),
        closing<std::vector<CommitAnswer>>(
            [is_refused = std::move(is_refused), done = std::move(done)](std::vector<CommitAnswer> taken) mutable {
              std::vector<CommitAnswer> answers(is_refused.size());
              for (size_t i = 0, next = 0; i < answers.size(); ++i) {
                if (is_refused[i]) {
                  answers[i].status = Status(StatusKind::kBusy, code::kBusy, "busy, as the test's faults want it");
                } else {
                  answers[i] = std::move(taken[next++]);
                }
              }
              done(std::move(answers));
            }));
  });
}

void FaultyStore::claim(ClaimRequest request, ClaimDone done) {
  pass([this, request = std::move(request), done = std::move(done)]() mutable {
    inner_->claim(std::move(request), closing(std::move(done)));
  });
}

void FaultyStore::due(WallMs now, int64_t count_max, DueDone done) {
  pass([this, now, count_max, done = std::move(done)]() mutable {
    inner_->due(now, count_max, closing(std::move(done)));
  });
}

void FaultyStore::messages(OwnerId owner, MessagesDone done) {
  pass([this, owner, done = std::move(done)]() mutable { inner_->messages(owner, closing(std::move(done))); });
}

void FaultyStore::load(RunId run, MoveFunction<void(Result<RunHistory>)> done) {
  pass([this, run, done = std::move(done)]() mutable { inner_->load(run, closing(std::move(done))); });
}

void FaultyStore::renew(OwnerId owner, WallMs until, StatusDone done) {
  if (is_cut_) {  // the engine's last word: what was open before it is not waited for
    loop_.post([done = std::move(done)]() mutable { done(Status::ok()); });
    return;
  }
  pass([this, owner, until, done = std::move(done)]() mutable {
    inner_->renew(owner, until, closing(std::move(done)));
  });
}

void FaultyStore::look(const std::string& queue, MoveFunction<void(Result<QueueView>)> done) {
  pass([this, queue, done = std::move(done)]() mutable { inner_->look(queue, closing(std::move(done))); });
}

void FaultyStore::set_limits(const std::string& queue, QueueLimits limits, StatusDone done) {
  pass([this, queue, limits, done = std::move(done)]() mutable {
    inner_->set_limits(queue, limits, closing(std::move(done)));
  });
}

void FaultyStore::documents(const std::string& kind, const std::string& name, DocumentsDone done) {
  pass([this, kind, name, done = std::move(done)]() mutable {
    inner_->documents(kind, name, closing(std::move(done)));
  });
}

void FaultyStore::budgets(const std::string& name, BudgetsDone done) {
  pass([this, name, done = std::move(done)]() mutable { inner_->budgets(name, closing(std::move(done))); });
}

void FaultyStore::find(FindRequest request, FindDone done) {
  pass([this, request = std::move(request), done = std::move(done)]() mutable {
    inner_->find(std::move(request), closing(std::move(done)));
  });
}

void FaultyStore::prune(PruneRequest request, PruneDone done) {
  pass([this, request = std::move(request), done = std::move(done)]() mutable {
    inner_->prune(std::move(request), closing(std::move(done)));
  });
}

void FaultyStore::backup(BackupSlice slice, BackupDone done) {
  pass([this, slice = std::move(slice), done = std::move(done)]() mutable {
    inner_->backup(std::move(slice), closing(std::move(done)));
  });
}

void FaultyStore::watch(MoveFunction<void()> changed) { inner_->watch(std::move(changed)); }

void FaultyStore::close(StatusDone done) {
  if (!is_cut_) go_on();
  inner_->close(std::move(done));
}

}  // namespace stepwell
