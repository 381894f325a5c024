// The dispatcher's part for budgets: a call is sent once its reservation is kept, and held while there is no room.
#include <algorithm>
#include <utility>

#include "engine/judge.h"
#include "runtime/dispatcher.h"

namespace stepwell::detail {

namespace {

// Why a call fails that will not be paid for; empty: it may wait.
Payload refusal_payload(const BudgetRefusal& refusal, const BudgetUse& use, const Cost& estimate) {
  const std::string name = "budget \"" + refusal.budget + "\"";
  const std::string asked = "this call may cost " + std::to_string(estimate.usd) + " picodollars and " +
                            std::to_string(estimate.tokens) + " tokens";
  if (refusal.is_closed)
    return error_payload(code::kBudgetClosed, name + " was closed; nothing is paid from it", 0, false);
  if (refusal.is_too_large)
    return error_payload(code::kBudgetTooSmall, name + " could not pay for it if it were unused: " + asked, 0, false);
  if (use.fails) return error_payload(code::kBudgetReached, name + " is used up, and " + asked, 0, false);
  return {};
}

}  // namespace

// For what the store sends by itself.
int64_t Dispatcher::next_wake_ids() {
  const int64_t first = next_run_id();
  last_run_id_ += kBudgetWakeCountMax;
  return first;
}

void Dispatcher::on_asked(const Continuation& continuation, const BudgetRefusal& refusal) {
  const auto found = active_.find(continuation.run);
  if (found == active_.end() || found->second->token != continuation.token) return;
  Input input;
  input.step = continuation.asks;
  input.kind = InputKind::kReserved;
  if (!refusal.budget.empty()) {
    input.kind = InputKind::kBudgetReached;
    input.topic = budget_topic(refusal.budget, continuation.asks);
    const auto call = found->second->calls.find(continuation.asks);
    if (call == found->second->calls.end()) return;
    const Spending& spending = call->second->spec->spending;
    const auto use = std::find_if(spending.budgets.begin(), spending.budgets.end(),
                                  [&refusal](const BudgetUse& each) { return each.name == refusal.budget; });
    if (use == spending.budgets.end()) return;
    input.due_at = use->due_at;
    input.payload = refusal_payload(refusal, *use, spending.estimate);
  }
  feed(continuation.run, *found->second, std::move(input));
}

void Dispatcher::on_woken(CommitAnswer& answer) {
  pass_on(answer.woken);
  if (answer.wakes_more.empty()) return;
  BudgetChange more;
  more.name = answer.wakes_more;
  change_budget(std::move(more), [](const Status&) {});
}

void Dispatcher::change_budget(BudgetChange change, StatusDone done) {
  Transition transition;
  transition.at = loop_.wall_ms();
  transition.budget = std::make_unique<BudgetChange>(std::move(change));
  transition.wake_id = next_wake_ids();
  Continuation continuation;
  continuation.done = std::move(done);
  transitions_.push_back(std::move(transition));
  continuations_.push_back(std::move(continuation));
  schedule_flush();
}

}  // namespace stepwell::detail
