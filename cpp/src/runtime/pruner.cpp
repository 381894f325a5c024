#include "runtime/pruner.h"

#include <algorithm>
#include <utility>

#include "store/retention.h"

namespace stepwell::detail {

namespace {

constexpr int64_t kFirstMs = 50;
constexpr int64_t kPauseMsMin = 20;
// The store rests this many times as long as the slice took, its wait in line included: when it is busy, we step back.
constexpr int64_t kPausePerSlice = 9;
constexpr int64_t kPassMsMin = 100;
constexpr int64_t kPassMsMax = 600'000;
// Runs go at most this part of their time too late.
constexpr int64_t kPassPart = 100;

int64_t time_of_a_pass(const RetentionPolicy& policy) {
  const int64_t shortest = shortest_ms(policy);
  return shortest < 0 ? kPassMsMax : std::clamp(shortest / kPassPart, kPassMsMin, kPassMsMax);
}

}  // namespace

Pruner::Pruner(Loop& loop, Store& store, std::shared_ptr<const RetentionPolicy> policy)
    : loop_(loop), store_(store), policy_(std::move(policy)), pass_ms_(time_of_a_pass(*policy_)) {
  wait(kFirstMs);
}

Pruner::~Pruner() {
  *is_alive_ = false;
  loop_.cancel(timer_);
}

void Pruner::add_to(Counters& counters) const {
  counters.runs_trimmed = trimmed_count_;
  counters.runs_deleted = deleted_count_;
}

void Pruner::wait(int64_t delay_ms) {
  timer_ = loop_.after(delay_ms, [this] { prune(); });
}

void Pruner::prune() {
  PruneRequest request;
  request.policy = policy_;
  request.now = loop_.wall_ms();
  request.after = after_;
  const int64_t began = loop_.now_ms();
  store_.prune(std::move(request), [this, is_alive = is_alive_, began](Result<PruneAnswer> answer) {
    if (!*is_alive || !answer) return;  // a store that cannot prune takes no commits either, and says so there
    trimmed_count_ += answer->trimmed_count;
    deleted_count_ += answer->deleted_count;
    after_ = answer->is_over ? 0 : answer->after;
    wait(answer->is_over ? pass_ms_ : std::max(kPauseMsMin, kPausePerSlice * (loop_.now_ms() - began)));
  });
}

}  // namespace stepwell::detail
