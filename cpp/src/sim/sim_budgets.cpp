// The world's limits and budgets: calls wait, some calls cost, caps are reached and raised, and the sums must always be
// right.
#include <map>
#include <utility>

#include "base/json.h"
#include "sim/sim_world.h"

namespace stepwell::sim {

namespace {

// Every answer says that it used 3 tokens in and 2 out.
constexpr Cost kCallCost{5, 5};
constexpr Cost kCallEstimate{20, 20};
constexpr Cost kCapFirst{90, -1};
constexpr const char* kShared = "all";

// What the histories say of each account.
void add_history(const RunHistory& run, std::map<std::string, BudgetRow>& sums) {
  struct Open {
    std::vector<std::string> budgets;
    Cost held;
    bool is_doubt = false;
  };
  std::map<std::string, Open> open;
  for (const Event& event : run.events) {
    if (event.kind != EventKind::kCallReserved && event.kind != EventKind::kCallSettled) continue;
    const std::vector<int64_t> amounts = detail::json_counts_at(event.payload, {"/usd", "/tokens"});
    if (event.kind == EventKind::kCallReserved) {
      open[event.step] = {detail::json_strings_at(event.payload, "/budgets"), {amounts[0], amounts[1]}, false};
      continue;
    }
    const std::string as = detail::json_string_at(event.payload, "/as");
    for (const std::string& budget : open[event.step].budgets) {
      if (as != "spent") continue;
      sums[budget].spent.usd += amounts[0];
      sums[budget].spent.tokens += amounts[1];
      ++sums[budget].call_count;
    }
    open[event.step].is_doubt = as == "doubt";
    if (as != "doubt") open.erase(event.step);
  }
  for (const auto& [step, each] : open) {
    for (const std::string& budget : each.budgets) {
      Cost& sum = each.is_doubt ? sums[budget].doubt : sums[budget].reserved;
      sum.usd += each.held.usd;
      sum.tokens += each.held.tokens;
    }
  }
}

}  // namespace

// Half of the runs pay, some of them from an account of their own as well.
void SimWorld::let_pay(RunId run, CallSpec& call) {
  if (run % 2 == 0) return;
  call.admission.usage = UsageRule{{"/usage/in"}, {"/usage/out"}, ""};
  call.spending.price = Price{1, 1, 1};
  call.spending.estimate = kCallEstimate;
  call.spending.budgets.push_back({kShared, kCapFirst, -1, false, false});
  if (run % 3 == 0) call.spending.budgets.push_back({"own/" + std::to_string(run), {1'000, 1'000}, -1, false, true});
}

// Somebody outside; those who wait are woken a part at a time.
void SimWorld::raise_budget(Picodollars cap) {
  BudgetChange change;
  change.name = kShared;
  change.makes = true;
  change.sets_cap = true;
  change.cap = {cap, -1};
  for (bool has_more = true; has_more;) {
    Transition raise;
    raise.budget = std::make_unique<BudgetChange>(change);
    raise.wake_id = next_wake_id_ += kBudgetWakeCountMax;
    has_more = !table_->apply(std::move(raise)).wakes_more.empty();
  }
}

// Now and then it is raised a little, so that runs are held and woken all the time.
void SimWorld::try_budgets() {
  const std::vector<BudgetRow> rows = table_->budgets(kShared);
  if (!rows.empty() && clock_.chance(20)) raise_budget(rows.front().cap.usd + clock_.draw(60));
  check_caps();
}

void SimWorld::check_caps() {
  for (const BudgetRow& row : table_->budgets("")) {
    const int64_t used = row.spent.usd + row.reserved.usd + row.doubt.usd;
    if (row.cap.usd >= 0 && used > row.cap.usd) return fail("budget " + row.name + " is over its cap");
    if (row.spent.usd < 0 || row.reserved.usd < 0 || row.doubt.usd < 0 || row.waiting_count < 0)
      return fail("budget " + row.name + " has less than nothing");
    if (row.spent.usd != row.call_count * kCallCost.usd) return fail("budget " + row.name + " paid a wrong price");
  }
}

// What is spent, reserved and in doubt is what the histories say.
void SimWorld::check_ledger(const std::vector<RunHistory>& runs) {
  check_caps();
  std::map<std::string, BudgetRow> sums;
  for (const RunHistory& run : runs) add_history(run, sums);
  for (const BudgetRow& row : table_->budgets("")) {
    const BudgetRow& sum = sums[row.name];
    if (row.spent != sum.spent || row.reserved != sum.reserved || row.doubt != sum.doubt)
      return fail("budget " + row.name + " differs from what the histories say");
    if (row.call_count != sum.call_count) return fail("budget " + row.name + " counts other calls than the histories");
    if (row.waiting_count != 0) return fail("somebody still waits for budget " + row.name);
    sums.erase(row.name);
  }
  if (!sums.empty()) fail("a history pays from a budget that is not there");
}

// Whoever is leased counts, however long ago the engine that leased it fell silent.
void SimWorld::check_limits() {
  if (!has_steady_limits_) return;
  FindRequest everything;
  everything.count_max = 1'000'000;
  std::map<std::string, int64_t> running;
  int64_t all = 0;
  for (const RunHistory& history : table_->find(everything)) {
    if (history.row.status != RunStatus::kRunning) continue;
    ++all;
    if (!history.row.group.empty()) ++running[history.row.group];
  }
  if (limits_.in_flight_max >= 0 && all > limits_.in_flight_max)
    return fail("more runs are leased than the queue's limit");
  if (limits_.group_in_flight_max < 0) return;
  for (const auto& [group, count] : running) {
    if (count > limits_.group_in_flight_max) return fail("group " + group + " has more runs leased than its limit");
  }
}

// Some engines know their limits, some learn that there are none; outages open the circuit often.
void SimWorld::limit_calls(detail::Dispatcher& dispatcher) {
  CallLimits limits;
  if (clock_.chance(50)) limits.all = {60 + clock_.draw(3'000), 3'000 + clock_.draw(100'000), clock_.draw(4)};
  if (clock_.chance(20)) limits.tenant = {30 + clock_.draw(600), 0, clock_.draw(2)};
  dispatcher.admission().set_limits("sim:*", limits);
  BreakerPolicy policy;
  policy.failures_min = 3;
  policy.window = 8;
  policy.cool_down_ms_max = 20'000;
  dispatcher.admission().set_breaker("*", policy);
}

void SimWorld::let_pass(RunId run, CallSpec& call) {
  call.admission.bucket = "sim:m#k";
  call.admission.circuit = "sim#k";
  call.admission.tenant = std::to_string(run % 3);
  call.admission.tokens = 1 + clock_.draw(100);
}

}  // namespace stepwell::sim
