// SqliteBudgets: the accounts in SQL. Store thread only. A Status that is not ok is a failure of the file.
//
// Many calls of one group commit change the same few accounts, so that a row is changed in memory and written once,
// before the group's commit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "store/budget_book.h"
#include "store/sqlite_file.h"
#include "store/sqlite_statement.h"

namespace stepwell::detail {

class SqliteBudgets final : public BudgetBook {
 public:
  using Deliver = std::function<Status(const Message&)>;
  static Result<std::unique_ptr<SqliteBudgets>> open(SqliteFile& file, Deliver deliver);

  // What was changed since the last time.
  Status write_rows();
  // The transaction was rolled back.
  void forget_rows();
  Status list(const std::string& name, std::vector<BudgetRow>& found);
  // Export and import: the accounts that somebody changed. One that is there already stays as it is.
  Status list_changed(std::vector<BudgetRow>& found);
  Status take_in_changed(const BudgetRow& changed);
  // The accounts of a run that is deleted go with it.
  Status drop(RunId run);

 protected:
  Status find(const std::string& name, BudgetRow*& row) override;
  Status make(BudgetRow row, BudgetRow*& made) override;
  void change_row(BudgetRow& row) override { changed_.insert(&row); }
  Status note(const std::string& name, WallMs at, const std::string& text) override;
  bool has_waits() override { return wait_count_ > 0; }
  Status keep_wait(const BudgetWait& wait) override;
  Status drop_waits(RunId run, const std::string& step, std::vector<BudgetWait>& dropped) override;
  Status read_waits(const std::string& budget, int64_t count_max, std::vector<BudgetWait>& waits) override;
  Status read_promised(const std::string& budget, Cost& promised) override;
  Status tell(const Message& message) override { return deliver_(message); }
  Status read_kind(RunId run, int64_t seq, EventKind& kind) override;

 private:
  SqliteBudgets(SqliteFile& file, Deliver deliver) : file_(file), deliver_(std::move(deliver)) {}
  Status finish(SqliteStatement& statement, const char* doing);
  Status read_notes(BudgetRow& row);

  SqliteFile& file_;
  Deliver deliver_;
  std::unordered_map<std::string, BudgetRow> rows_;  // those met lately
  std::unordered_set<BudgetRow*> changed_;
  int64_t wait_count_ = 0;
  SqliteStatement find_, replace_, list_, drop_, note_insert_, notes_;
  SqliteStatement wait_replace_, wait_delete_, wait_line_, wait_promised_, event_kind_;
};

}  // namespace stepwell::detail
