#include "store/memory_budgets.h"

#include <algorithm>

namespace stepwell::detail {

Status MemoryBudgets::find(const std::string& name, BudgetRow*& row) {
  const auto found = rows_.find(name);
  row = found == rows_.end() ? nullptr : &found->second;
  return Status::ok();
}

Status MemoryBudgets::make(BudgetRow row, BudgetRow*& made) {
  std::string name = row.name;
  made = &rows_.insert_or_assign(std::move(name), std::move(row)).first->second;
  return Status::ok();
}

Status MemoryBudgets::note(const std::string& name, WallMs, const std::string& text) {
  rows_.at(name).notes += text + "\n";
  return Status::ok();
}

Status MemoryBudgets::keep_wait(const BudgetWait& wait) {
  waits_[{wait.run, wait.step}] = wait;
  return Status::ok();
}

Status MemoryBudgets::drop_waits(RunId run, const std::string& step, std::vector<BudgetWait>& dropped) {
  for (auto wait = waits_.lower_bound({run, step}); wait != waits_.end() && wait->first.first == run;) {
    if (!step.empty() && wait->first.second != step) break;
    dropped.push_back(std::move(wait->second));
    wait = waits_.erase(wait);
  }
  return Status::ok();
}

Status MemoryBudgets::read_waits(const std::string& budget, int64_t count_max, std::vector<BudgetWait>& waits) {
  for (const auto& [key, wait] : waits_) {
    if (wait.budget == budget && !wait.is_woken) waits.push_back(wait);
  }
  std::sort(waits.begin(), waits.end(), [](const BudgetWait& one, const BudgetWait& other) {
    return std::tie(one.turn, one.run, one.step) < std::tie(other.turn, other.run, other.step);
  });
  if (static_cast<int64_t>(waits.size()) > count_max) waits.resize(static_cast<size_t>(count_max));
  return Status::ok();
}

Status MemoryBudgets::read_promised(const std::string& budget, Cost& promised) {
  for (const auto& [key, wait] : waits_) {
    if (wait.budget != budget || !wait.is_woken) continue;
    promised.usd += wait.wanted.usd;
    promised.tokens += wait.wanted.tokens;
  }
  return Status::ok();
}

Status MemoryBudgets::tell(const Message& message) {
  deliver_(message);
  return Status::ok();
}

Status MemoryBudgets::read_kind(RunId run, int64_t seq, EventKind& kind) {
  kind = kind_(run, seq);
  return Status::ok();
}

std::vector<BudgetRow> MemoryBudgets::list(const std::string& name) const {
  std::vector<BudgetRow> found;
  for (const auto& [key, row] : rows_) {
    if (static_cast<int64_t>(found.size()) == kBudgetListCountMax) break;
    if (name.empty() || key == name || key.starts_with(name + "/")) found.push_back(row);
  }
  return found;
}

void MemoryBudgets::drop(RunId run) {
  std::erase_if(rows_, [run](const auto& entry) { return entry.second.run == run; });
}

}  // namespace stepwell::detail
