#include "store/budget_book.h"

#include <algorithm>
#include <limits>
#include <map>

#include "base/json.h"

namespace stepwell::detail {

namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

void add(int64_t& to, int64_t what) {
  if (__builtin_add_overflow(to, what, &to)) to = what > 0 ? kMost : -kMost;
}

void add(Cost& to, const Cost& what) {
  add(to.usd, what.usd);
  add(to.tokens, what.tokens);
}

bool fits(int64_t cap, int64_t used, int64_t wanted) { return cap < 0 || (used <= cap && wanted <= cap - used); }
bool fits(const Cost& cap, const Cost& used, const Cost& wanted) {
  return fits(cap.usd, used.usd, wanted.usd) && fits(cap.tokens, used.tokens, wanted.tokens);
}

Cost used(const BudgetRow& row) {
  Cost all = row.spent;
  add(all, row.reserved);
  add(all, row.doubt);
  return all;
}

void apply(BudgetRow& row, const Spend& spend, WallMs at) {
  add(row.reserved, spend.reserved);
  add(row.doubt, spend.doubt);
  add(row.spent, spend.spent);
  row.call_count += spend.call_count;
  row.odd_count += spend.odd_count;
  row.at = at;
}

}  // namespace

Status budget_missing(const std::string& name) {
  return {StatusKind::kNotFound, code::kBudgetNotFound, "budget \"" + name + "\" is not in this store"};
}

Status BudgetBook::find_or_make(const Spend& spend, WallMs at, BudgetRow*& row) {
  STEPWELL_TRY(find(spend.budget, row));
  if (row == nullptr) {
    BudgetRow fresh;
    fresh.name = spend.budget;
    fresh.run = spend.run;
    fresh.at = at;
    STEPWELL_TRY(make(std::move(fresh), row));
  }
  if (spend.is_asking && row->cap == Cost{-1, -1}) {
    row->cap = spend.cap;
    change_row(*row);
  }
  return Status::ok();
}

Status BudgetBook::spend(const Transition& transition, CommitAnswer& answer) {
  std::vector<BudgetRow*> rows(transition.spends.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const Spend& spend = transition.spends[i];
    STEPWELL_TRY(find_or_make(spend, transition.at, rows[i]));
    if (!spend.is_asking) continue;
    BudgetRow& row = *rows[i];
    if (!row.is_closed && fits(row.cap, used(row), spend.reserved)) continue;
    answer.refusal = {spend.budget, row.is_closed, !fits(row.cap, {}, spend.reserved)};
    const bool is_final = row.is_closed || answer.refusal.is_too_large || spend.fails;
    if (!is_final) return hold(transition, spend, row);
    return has_waits() ? leave(transition, answer) : Status::ok();
  }
  bool has_asked = false;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Spend& spend = transition.spends[i];
    has_asked = has_asked || spend.is_asking;
    if (spend.reserved_seq >= 0) {
      EventKind kind = EventKind::kCallHeld;
      STEPWELL_TRY(read_kind(transition.run, spend.reserved_seq, kind));
      if (kind != EventKind::kCallReserved) continue;
    }
    apply(*rows[i], spend, transition.at);
    change_row(*rows[i]);
  }
  if (!has_waits()) return Status::ok();
  if (has_asked) return leave(transition, answer);
  std::vector<std::string> budgets;
  for (const Spend& spend : transition.spends) budgets.push_back(spend.budget);
  return wake_all(budgets, transition, answer);
}

// The call that asked stands in no line any more.
Status BudgetBook::leave(const Transition& transition, CommitAnswer& answer) {
  std::vector<std::string> budgets;
  for (const Spend& spend : transition.spends) budgets.push_back(spend.budget);
  STEPWELL_TRY(leave_line(transition.run, transition.events.front().step, budgets));
  return wake_all(budgets, transition, answer);
}

Status BudgetBook::wake_all(const std::vector<std::string>& budgets, const Transition& transition,
                            CommitAnswer& answer) {
  int64_t wake_id = transition.wake_id + static_cast<int64_t>(answer.woken.size());
  for (const std::string& name : budgets) {
    BudgetRow* row = nullptr;
    STEPWELL_TRY(find(name, row));
    if (row != nullptr) STEPWELL_TRY(wake(*row, transition.at, wake_id, answer));
  }
  return Status::ok();
}

// It keeps its place in the line if it had one.
Status BudgetBook::hold(const Transition& transition, const Spend& spend, BudgetRow& row) {
  BudgetWait wait{transition.run, transition.events.front().step, spend.budget, transition.wake_id, spend.reserved,
                  false};
  std::vector<BudgetWait> before;
  if (has_waits()) STEPWELL_TRY(drop_waits(wait.run, wait.step, before));
  for (const BudgetWait& each : before) {
    if (each.budget == wait.budget) wait.turn = each.turn;
    BudgetRow* left = nullptr;
    STEPWELL_TRY(find(each.budget, left));
    if (left == nullptr || each.is_woken) continue;
    --left->waiting_count;
    change_row(*left);
  }
  ++row.waiting_count;
  change_row(row);
  return keep_wait(wait);
}

Status BudgetBook::leave_line(RunId run, const std::string& step, std::vector<std::string>& budgets) {
  std::vector<BudgetWait> dropped;
  STEPWELL_TRY(drop_waits(run, step, dropped));
  for (const BudgetWait& each : dropped) {
    BudgetRow* row = nullptr;
    STEPWELL_TRY(find(each.budget, row));
    if (row == nullptr) continue;
    if (std::find(budgets.begin(), budgets.end(), each.budget) == budgets.end()) budgets.push_back(each.budget);
    if (each.is_woken) continue;
    --row->waiting_count;
    change_row(*row);
  }
  return Status::ok();
}

Status BudgetBook::wake(BudgetRow& row, WallMs at, int64_t& wake_id, CommitAnswer& answer) {
  if (row.waiting_count == 0) return Status::ok();
  const auto left = kBudgetWakeCountMax - static_cast<int64_t>(answer.woken.size());
  std::vector<BudgetWait> line;
  STEPWELL_TRY(read_waits(row.name, left + 1, line));
  Cost taken;
  STEPWELL_TRY(read_promised(row.name, taken));
  // Nothing is under way that could make room: the first is told all the same, so that somebody may be asked for more.
  bool is_at_rest = row.reserved == Cost{} && taken == Cost{};
  add(taken, used(row));
  for (BudgetWait& each : line) {
    // Whoever will be refused for good is told so, too.
    const bool is_hopeless = row.is_closed || !fits(row.cap, {}, each.wanted);
    if (!is_hopeless && !is_at_rest && !fits(row.cap, taken, each.wanted)) return Status::ok();
    is_at_rest = false;
    if (static_cast<int64_t>(answer.woken.size()) == kBudgetWakeCountMax) {
      answer.wakes_more = row.name;
      return Status::ok();
    }
    if (is_hopeless) {
      std::vector<BudgetWait> ignored;
      STEPWELL_TRY(drop_waits(each.run, each.step, ignored));
    } else {
      add(taken, each.wanted);
      each.is_woken = true;
      STEPWELL_TRY(keep_wait(each));
    }
    --row.waiting_count;
    change_row(row);
    Message& message = answer.woken.emplace_back();
    message.id = wake_id++;
    message.to = each.run;
    message.topic = budget_topic(row.name, each.step);
    message.payload = json_quote(row.name);
    message.at = at;
    STEPWELL_TRY(tell(message));
  }
  return Status::ok();
}

Status BudgetBook::change(const BudgetChange& change, WallMs at, int64_t wake_id, CommitAnswer& answer) {
  BudgetRow* row = nullptr;
  STEPWELL_TRY(find(change.name, row));
  if (row == nullptr && !change.makes) {
    answer.status = budget_missing(change.name);
    return Status::ok();
  }
  if (row == nullptr) {
    BudgetRow fresh;
    fresh.name = change.name;
    fresh.at = at;
    STEPWELL_TRY(make(std::move(fresh), row));
  }
  if (change.sets_cap) {
    row->cap = change.cap;
    row->is_closed = false;
  }
  row->is_closed = row->is_closed || change.closes;
  if (change.sets_cap || change.closes) {
    row->at = at;
    change_row(*row);
  }
  if (!change.note.empty()) STEPWELL_TRY(note(change.name, at, change.note));
  return has_waits() ? wake(*row, at, wake_id, answer) : Status::ok();
}

Status BudgetBook::forget(const Transition& transition, CommitAnswer& answer) {
  if (!has_waits()) return Status::ok();
  std::vector<std::string> budgets;
  STEPWELL_TRY(leave_line(transition.run, {}, budgets));
  return wake_all(budgets, transition, answer);
}

Status BudgetBook::take_in(const RunHistory& history) {
  struct Open {
    Cost held;
    std::vector<std::string> budgets;
    bool is_doubt = false;
  };
  std::map<std::string, Open> steps;
  std::vector<Spend> spends;
  const auto spend = [&](const Open& open, const Event& event, bool is_spent) {
    const std::vector<int64_t> amounts = json_counts_at(event.payload, {"/usd", "/tokens"});
    for (const std::string& budget : open.budgets) {
      Spend& each = spends.emplace_back();
      each.budget = budget;
      if (is_spent) {
        each.spent = {std::max<int64_t>(amounts[0], 0), std::max<int64_t>(amounts[1], 0)};
        each.call_count = 1;
        each.odd_count = json_string_at(event.payload, "/odd").empty() ? 0 : 1;
      } else {
        (open.is_doubt ? each.doubt : each.reserved) = open.held;
      }
    }
  };
  for (const Event& event : history.events) {
    if (event.kind == EventKind::kCallReserved) {
      const std::vector<int64_t> amounts = json_counts_at(event.payload, {"/usd", "/tokens"});
      steps[event.step] = {{amounts[0], amounts[1]}, json_strings_at(event.payload, "/budgets"), false};
    } else if (event.kind == EventKind::kCallSettled && steps.contains(event.step)) {
      const std::string as = json_string_at(event.payload, "/as");
      if (as == "spent") spend(steps[event.step], event, true);
      steps[event.step].is_doubt = as == "doubt";
      if (as != "doubt") steps.erase(event.step);
    }
  }
  for (const auto& [step, open] : steps) spend(open, {}, false);
  for (const Spend& each : spends) {
    BudgetRow* row = nullptr;
    STEPWELL_TRY(find_or_make(each, history.row.created_at, row));
    apply(*row, each, history.row.created_at);
    change_row(*row);
  }
  return Status::ok();
}

}  // namespace stepwell::detail
