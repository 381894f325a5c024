// BudgetBook: what accounts take, refuse and tell, the same in every store. What a store adds is where it keeps them.
//
// Calls that are held back stand in a line for each account and are woken in order, as far as there is room: what was
// promised to those who were woken and have not asked again is not promised twice. One at the head that needs more than
// there is lets nobody past.
#pragma once

#include <string>
#include <vector>

#include "stepwell/budget.h"
#include "stepwell/transition.h"

namespace stepwell::detail {

// A call that waits for room.
struct BudgetWait {
  RunId run = 0;
  std::string step;
  std::string budget;
  int64_t turn = 0;
  Cost wanted;
  bool is_woken = false;  // told, and not back yet
};

Status budget_missing(const std::string& name);

class BudgetBook {
 public:
  virtual ~BudgetBook() = default;

  // Applies a transition's spends, or says in the answer which account refused them.
  Status spend(const Transition& transition, CommitAnswer& answer);
  Status change(const BudgetChange& change, WallMs at, int64_t wake_id, CommitAnswer& answer);
  // A run has ended: whoever stood behind it moves up.
  Status forget(const Transition& transition, CommitAnswer& answer);
  // What an imported run's history says of its calls, as if it had been spent here.
  Status take_in(const RunHistory& history);

 protected:
  // Null when there is none. Rows stay where they are until the transaction's end.
  virtual Status find(const std::string& name, BudgetRow*& row) = 0;
  virtual Status make(BudgetRow row, BudgetRow*& made) = 0;
  virtual void change_row(BudgetRow& row) = 0;  // it was changed, and is to be kept
  virtual Status note(const std::string& name, WallMs at, const std::string& text) = 0;
  virtual bool has_waits() = 0;
  virtual Status keep_wait(const BudgetWait& wait) = 0;
  // Of one step, or of all (empty): the waits that were there.
  virtual Status drop_waits(RunId run, const std::string& step, std::vector<BudgetWait>& dropped) = 0;
  virtual Status read_waits(const std::string& budget, int64_t count_max, std::vector<BudgetWait>& waits) = 0;
  // The sum of what those who were woken want.
  virtual Status read_promised(const std::string& budget, Cost& promised) = 0;
  virtual Status tell(const Message& message) = 0;
  virtual Status read_kind(RunId run, int64_t seq, EventKind& kind) = 0;

 private:
  Status find_or_make(const Spend& spend, WallMs at, BudgetRow*& row);
  Status hold(const Transition& transition, const Spend& spend, BudgetRow& row);
  Status leave_line(RunId run, const std::string& step, std::vector<std::string>& budgets);
  Status leave(const Transition& transition, CommitAnswer& answer);
  Status wake_all(const std::vector<std::string>& budgets, const Transition& transition, CommitAnswer& answer);
  Status wake(BudgetRow& row, WallMs at, int64_t& wake_id, CommitAnswer& answer);
};

}  // namespace stepwell::detail
