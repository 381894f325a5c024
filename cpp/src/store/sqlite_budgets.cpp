#include "store/sqlite_budgets.h"

#include <algorithm>
#include <utility>

#include "store/sql_budgets.h"

namespace stepwell::detail {

namespace {
using Text = SqliteStatement::Text;
using IntegerOrNull = SqliteStatement::IntegerOrNull;

// Accounts of single runs are many, and soon of no interest.
constexpr size_t kRowsMax = 4'096;

BudgetRow row_of(const SqliteStatement& found) {
  BudgetRow row;
  row.name = found.bytes(0);
  row.cap = {found.integer(1), found.integer(2)};
  row.spent = {found.integer(3), found.integer(4)};
  row.reserved = {found.integer(5), found.integer(6)};
  row.doubt = {found.integer(7), found.integer(8)};
  row.call_count = found.integer(9);
  row.odd_count = found.integer(10);
  row.waiting_count = found.integer(11);
  row.is_closed = found.integer(12) != 0;
  row.run = found.integer(13);
  row.at = found.integer(14);
  return row;
}
}  // namespace

Result<std::unique_ptr<SqliteBudgets>> SqliteBudgets::open(SqliteFile& file, Deliver deliver) {
  std::unique_ptr<SqliteBudgets> budgets(new SqliteBudgets(file, std::move(deliver)));
  const std::pair<SqliteStatement*, const char*> statements[] = {
      {&budgets->find_, sql::kBudgetFind},
      {&budgets->replace_, sql::kBudgetReplace},
      {&budgets->list_, sql::kBudgetList},
      {&budgets->drop_, sql::kBudgetDrop},
      {&budgets->note_insert_, sql::kBudgetNoteInsert},
      {&budgets->notes_, sql::kBudgetNotes},
      {&budgets->wait_replace_, sql::kBudgetWaitReplace},
      {&budgets->wait_delete_, sql::kBudgetWaitDelete},
      {&budgets->wait_line_, sql::kBudgetWaitLine},
      {&budgets->wait_promised_, sql::kBudgetWaitPromised},
      {&budgets->event_kind_, sql::kEventKind},
  };
  for (const auto& [statement, text] : statements) {
    Result<SqliteStatement> prepared = file.prepare(text);
    if (!prepared) return prepared.error();
    *statement = std::move(prepared).value();
  }
  const Result<int64_t> waits = file.read_integer(sql::kBudgetWaitCount);
  if (!waits) return waits.error();
  budgets->wait_count_ = *waits;
  return budgets;
}

Status SqliteBudgets::finish(SqliteStatement& statement, const char* doing) {
  const int outcome = statement.step();
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault(doing, outcome);
}

Status SqliteBudgets::write_rows() {
  for (const BudgetRow* row : changed_) {
    replace_.bind(Text{row->name}, row->cap.usd, row->cap.tokens, row->spent.usd, row->spent.tokens, row->reserved.usd,
                  row->reserved.tokens, row->doubt.usd, row->doubt.tokens, row->call_count, row->odd_count,
                  row->waiting_count, row->is_closed, IntegerOrNull{row->run, 0}, row->at);
    STEPWELL_TRY(finish(replace_, "write a budget to"));
  }
  changed_.clear();
  if (rows_.size() > kRowsMax) rows_.clear();
  return Status::ok();
}

void SqliteBudgets::forget_rows() {
  changed_.clear();
  rows_.clear();
}

Status SqliteBudgets::find(const std::string& name, BudgetRow*& row) {
  row = nullptr;
  if (const auto known = rows_.find(name); known != rows_.end()) {
    row = &known->second;
    return Status::ok();
  }
  const int outcome = find_.bind(Text{name}).step();
  if (outcome == SQLITE_DONE) return Status::ok();
  if (outcome != SQLITE_ROW) return file_.fault("read a budget of", outcome);
  row = &rows_.emplace(name, row_of(find_)).first->second;
  find_.reset();
  return Status::ok();
}

Status SqliteBudgets::make(BudgetRow row, BudgetRow*& made) {
  std::string name = row.name;
  made = &rows_.insert_or_assign(std::move(name), std::move(row)).first->second;
  change_row(*made);
  return Status::ok();
}

Status SqliteBudgets::note(const std::string& name, WallMs at, const std::string& text) {
  return finish(note_insert_.bind(Text{name}, at, Text{text}), "note a change of a budget in");
}

Status SqliteBudgets::list(const std::string& name, std::vector<BudgetRow>& found) {
  // In a group that only reads nothing was changed.
  STEPWELL_TRY(write_rows());
  const std::string begin = name + "/";
  const std::string end = name + "0";  // the character after '/'
  list_.bind(Text{name}, Text{begin}, Text{end}, kBudgetListCountMax);
  int outcome = SQLITE_ROW;
  while ((outcome = list_.step()) == SQLITE_ROW) found.push_back(row_of(list_));
  if (outcome != SQLITE_DONE) return file_.fault("list the budgets of", outcome);
  if (name.empty()) return Status::ok();
  for (BudgetRow& row : found) {
    if (row.name == name) STEPWELL_TRY(read_notes(row));
  }
  return Status::ok();
}

Status SqliteBudgets::read_notes(BudgetRow& row) {
  notes_.bind(Text{row.name}, kBudgetNoteCountMax);
  int outcome = SQLITE_ROW;
  while ((outcome = notes_.step()) == SQLITE_ROW) row.notes += notes_.bytes(0) + "\n";
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read the notes of a budget of", outcome);
}

Status SqliteBudgets::list_changed(std::vector<BudgetRow>& found) {
  STEPWELL_TRY(write_rows());
  Result<SqliteStatement> changed = file_.prepare(sql::kBudgetsChanged);
  if (!changed) return changed.error();
  int outcome = SQLITE_ROW;
  while ((outcome = changed->step()) == SQLITE_ROW) {
    BudgetRow* row = nullptr;
    STEPWELL_TRY(find(changed->bytes(0), row));
    if (row == nullptr) continue;  // it went with its run
    found.push_back(*row);
    STEPWELL_TRY(read_notes(found.back()));
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("list the budgets of", outcome);
}

Status SqliteBudgets::take_in_changed(const BudgetRow& changed) {
  BudgetRow* row = nullptr;
  STEPWELL_TRY(find(changed.name, row));
  if (row != nullptr) return Status::ok();
  BudgetRow fresh;
  fresh.name = changed.name;
  fresh.cap = changed.cap;
  fresh.is_closed = changed.is_closed;
  fresh.run = changed.run;
  fresh.at = changed.at;
  STEPWELL_TRY(make(std::move(fresh), row));
  for (size_t begin = 0; begin < changed.notes.size();) {
    const size_t end = std::min(changed.notes.find('\n', begin), changed.notes.size());
    STEPWELL_TRY(note(changed.name, changed.at, changed.notes.substr(begin, end - begin)));
    begin = end + 1;
  }
  return Status::ok();
}

Status SqliteBudgets::drop(RunId run) {
  STEPWELL_TRY(write_rows());
  std::erase_if(rows_, [run](const auto& entry) { return entry.second.run == run; });
  return finish(drop_.bind(run), "delete the budgets of a run from");
}

Status SqliteBudgets::keep_wait(const BudgetWait& wait) {
  wait_replace_.bind(wait.run, Text{wait.step}, Text{wait.budget}, wait.turn, wait.wanted.usd, wait.wanted.tokens,
                     wait.is_woken);
  if (!wait.is_woken) ++wait_count_;  // it was not there; see BudgetBook::hold
  return finish(wait_replace_, "hold a call in");
}

Status SqliteBudgets::drop_waits(RunId run, const std::string& step, std::vector<BudgetWait>& dropped) {
  wait_delete_.bind(run, Text{step});
  int outcome = SQLITE_ROW;
  while ((outcome = wait_delete_.step()) == SQLITE_ROW) {
    BudgetWait& wait = dropped.emplace_back();
    wait.run = run;
    wait.step = wait_delete_.bytes(0);
    wait.budget = wait_delete_.bytes(1);
    wait.turn = wait_delete_.integer(2);
    wait.wanted = {wait_delete_.integer(3), wait_delete_.integer(4)};
    wait.is_woken = wait_delete_.integer(5) != 0;
    --wait_count_;
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("let a call go on in", outcome);
}

Status SqliteBudgets::read_waits(const std::string& budget, int64_t count_max, std::vector<BudgetWait>& waits) {
  wait_line_.bind(Text{budget}, count_max);
  int outcome = SQLITE_ROW;
  while ((outcome = wait_line_.step()) == SQLITE_ROW) {
    BudgetWait& wait = waits.emplace_back();
    wait.run = wait_line_.integer(0);
    wait.step = wait_line_.bytes(1);
    wait.budget = budget;
    wait.turn = wait_line_.integer(2);
    wait.wanted = {wait_line_.integer(3), wait_line_.integer(4)};
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("look who waits for a budget in", outcome);
}

Status SqliteBudgets::read_promised(const std::string& budget, Cost& promised) {
  const int outcome = wait_promised_.bind(Text{budget}).step();
  if (outcome != SQLITE_ROW) return file_.fault("look who waits for a budget in", outcome);
  promised = {wait_promised_.integer(0), wait_promised_.integer(1)};
  wait_promised_.reset();
  return Status::ok();
}

Status SqliteBudgets::read_kind(RunId run, int64_t seq, EventKind& kind) {
  const int outcome = event_kind_.bind(run, seq).step();
  if (outcome != SQLITE_ROW && outcome != SQLITE_DONE) return file_.fault("read a reservation of", outcome);
  if (outcome == SQLITE_ROW) kind = static_cast<EventKind>(event_kind_.integer(0));
  event_kind_.reset();
  return Status::ok();
}

}  // namespace stepwell::detail
