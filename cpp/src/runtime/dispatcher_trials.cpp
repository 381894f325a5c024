// The dispatcher's part for suspects: runs that were in flight in several crashes. One of them may be poison, the
// others only stood beside it. So they are handed out one at a time, and a crash counts for none but the one under
// trial. Its trial is over when it ends, is laid aside or records a step, and after half a minute at the latest: it may
// wait for another one of them.
#include <utility>

#include "runtime/dispatcher.h"

namespace stepwell::detail {

namespace {
constexpr int64_t kTrialMs = 30'000;
}  // namespace

// It keeps its lease, so it stays this engine's, yet this life does not count for it until it is handed out.
void Dispatcher::put_aside(RunId run, Active& active, RunHistory history) {
  recount(run, active, history.row.claims - 1);
  active.untried = std::make_unique<RunHistory>(std::move(history));
  suspects_.push_back(run);
}

void Dispatcher::begin_trial(RunId run, const Active& active) {
  trial_ = run;
  trial_seq_ = active.machine.next_seq();
  loop_.after(kTrialMs, [this, self = self_, run, token = active.token] {
    const auto found = *self == nullptr ? active_.end() : active_.find(run);
    if (*self == nullptr || trial_ != run || found == active_.end() || found->second->token != token) return;
    next_trial();
    schedule_flush();
  });
}

void Dispatcher::next_trial() {
  trial_ = 0;
  while (trial_ == 0 && !suspects_.empty() && !is_closing_) {
    const auto next = active_.find(suspects_.front());
    suspects_.pop_front();
    if (next == active_.end() || !next->second->untried || next->second->machine.is_done()) continue;  // cancelled
    begin_trial(next->first, *next->second);
    recount(trial_, *next->second, next->second->untried->row.claims);
    continuations_.back().is_trial = true;
    schedule_flush();
  }
}

// The life is on the disk: if it ends in a crash, it counts.
void Dispatcher::try_out(RunId run) {
  const auto found = active_.find(run);
  if (found == active_.end() || !found->second->untried || found->second->machine.is_done()) return;
  hand_over(run, *found->second, std::move(*std::exchange(found->second->untried, nullptr)));
}

void Dispatcher::recount(RunId run, const Active& active, int32_t claims) {
  Transition transition;
  transition.run = run;
  transition.token = active.token;
  transition.first_seq = active.machine.next_seq();
  transition.at = loop_.wall_ms();
  transition.claims = claims;
  transitions_.push_back(std::move(transition));
  Continuation continuation;
  continuation.run = run;
  continuation.token = active.token;
  continuations_.push_back(std::move(continuation));
}

}  // namespace stepwell::detail
