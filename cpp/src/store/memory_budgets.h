// MemoryBudgets: the accounts of a MemoryTable.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "stepwell/function.h"
#include "store/budget_book.h"

namespace stepwell::detail {

class MemoryBudgets final : public BudgetBook {
 public:
  // `deliver` tells a run something, `kind` says what the run's event of a number is.
  MemoryBudgets(MoveFunction<void(Message)> deliver, MoveFunction<EventKind(RunId, int64_t)> kind)
      : deliver_(std::move(deliver)), kind_(std::move(kind)) {}

  [[nodiscard]] std::vector<BudgetRow> list(const std::string& name) const;
  // The accounts of a run that is deleted go with it.
  void drop(RunId run);

 protected:
  Status find(const std::string& name, BudgetRow*& row) override;
  Status make(BudgetRow row, BudgetRow*& made) override;
  void change_row(BudgetRow&) override {}
  Status note(const std::string& name, WallMs at, const std::string& text) override;
  bool has_waits() override { return !waits_.empty(); }
  Status keep_wait(const BudgetWait& wait) override;
  Status drop_waits(RunId run, const std::string& step, std::vector<BudgetWait>& dropped) override;
  Status read_waits(const std::string& budget, int64_t count_max, std::vector<BudgetWait>& waits) override;
  Status read_promised(const std::string& budget, Cost& promised) override;
  Status tell(const Message& message) override;
  Status read_kind(RunId run, int64_t seq, EventKind& kind) override;

 private:
  MoveFunction<void(Message)> deliver_;
  MoveFunction<EventKind(RunId, int64_t)> kind_;
  std::map<std::string, BudgetRow> rows_;
  std::map<std::pair<RunId, std::string>, BudgetWait> waits_;  // by run and step
};

}  // namespace stepwell::detail
