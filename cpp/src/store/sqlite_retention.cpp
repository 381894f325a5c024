// SqliteRows: what retention lets go of. The cost of a slice is bounded by its rows, also for runs of long histories.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "store/retention.h"
#include "store/sql_upkeep.h"
#include "store/sqlite_rows.h"

namespace stepwell::detail {

namespace {
using Text = SqliteStatement::Text;

struct Ended {
  RunRow row;
  int64_t workflow_id = 0;
  bool is_trimmed = false;
};
}  // namespace

Status SqliteRows::prune(const PruneRequest& request, PruneAnswer& answer) {
  STEPWELL_TRY(forget_collapsed(request.rows_max));
  const int64_t youngest = request.now - shortest_ms(*request.policy);
  SqliteStatement* list = nullptr;
  STEPWELL_TRY(upkeep_statement(sql::kEndedAfter, list));
  list->bind(request.after, request.rows_max);
  std::vector<Ended> ended;
  int outcome = SQLITE_ROW;
  while ((outcome = list->step()) == SQLITE_ROW) {
    Ended& each = ended.emplace_back();
    each.row.run = list->integer(0);
    each.row.status = static_cast<RunStatus>(list->integer(1));
    each.row.finished_at = list->integer(2);
    each.row.event_count = list->integer(3);
    each.workflow_id = list->integer(4);
    each.row.workflow = name_of(each.workflow_id);
    each.row.key = list->bytes(5);
    each.row.created_at = list->integer(6);
    each.is_trimmed = list->integer(7) != 0;
  }
  if (outcome != SQLITE_DONE) return file_.fault("look for old runs in", outcome);
  answer.after = request.after;
  int64_t rows_left = request.rows_max;
  for (const Ended& each : ended) {
    answer.is_over = each.row.created_at > youngest;
    if (answer.is_over) return Status::ok();
    const Fate fate = fate_of(*request.policy, each.row, request.now);
    if (fate != Fate::kKeep) {
      bool is_empty = false;
      const int64_t rows_before = rows_left;
      STEPWELL_TRY(drop_content(each.row.run, each.is_trimmed, rows_left, is_empty));
      if (!is_empty) return Status::ok();  // the next slice goes on with this run
      if (fate == Fate::kDelete) ++answer.deleted_count;
      if (fate == Fate::kTrim && rows_left < rows_before) ++answer.trimmed_count;
      if (fate == Fate::kDelete) STEPWELL_TRY(delete_run(each.row.run, each.workflow_id, each.row.key));
    }
    answer.after = each.row.run;
  }
  answer.is_over = static_cast<int64_t>(ended.size()) < request.rows_max;
  return Status::ok();
}

// Input, history and message keys, as far as `rows_left` goes; the newest events first, so that what is left has no
// gap.
Status SqliteRows::drop_content(RunId run, bool is_dropped, int64_t& rows_left, bool& is_empty) {
  if (rows_left <= 0) return Status::ok();
  std::vector<int64_t> blobs;
  if (!is_dropped) {
    STEPWELL_TRY(list_numbers(sql::kInputBlob, run, 0, blobs));
    STEPWELL_TRY(finish_upkeep(sql::kInputDrop, run));
  }
  std::vector<int64_t> count;
  STEPWELL_TRY(list_numbers(sql::kEventsLeft, run, 0, count));
  is_empty = is_dropped && count.front() == 0;
  if (is_empty) return Status::ok();
  const int64_t keep_count = std::max<int64_t>(count.front() - rows_left, 0);
  STEPWELL_TRY(list_numbers(sql::kEventBlobs, run, keep_count, blobs));
  STEPWELL_TRY(finish_upkeep(sql::kEventsDelete, run, keep_count));
  for (const int64_t number : blobs) STEPWELL_TRY(blobs_->release(number));
  rows_left -= count.front() - keep_count + 1;
  is_empty = keep_count == 0;
  if (!is_empty) return Status::ok();
  STEPWELL_TRY(finish_upkeep(sql::kStreamsDelete, run));
  return finish_upkeep(sql::kMessageKeysDelete, run);
}

// A slice of the starts that others could have joined: those whose runs were deleted. Nothing leads from a run to them.
Status SqliteRows::forget_collapsed(int64_t rows_max) {
  const auto [workflow_id, kind, key] = collapsed_after_;  // a copy: the statement reads it at every row
  SqliteStatement* list = nullptr;
  STEPWELL_TRY(upkeep_statement(sql::kCollapsedAfter, list));
  list->bind(workflow_id, kind, Text{key}, rows_max);
  std::vector<std::tuple<int64_t, int64_t, std::string>> gone;
  int64_t row_count = 0;
  int outcome = SQLITE_ROW;
  while ((outcome = list->step()) == SQLITE_ROW) {
    collapsed_after_ = {list->integer(0), list->integer(1), list->bytes(2)};
    if (list->integer(3) == 0) gone.push_back(collapsed_after_);
    ++row_count;
  }
  if (outcome != SQLITE_DONE) return file_.fault("look for old starts in", outcome);
  for (const auto& [gone_workflow_id, gone_kind, gone_key] : gone) {
    STEPWELL_TRY(finish_upkeep(sql::kCollapsedDelete, gone_workflow_id, gone_kind, Text{gone_key}));
  }
  if (row_count < rows_max) collapsed_after_ = {};
  return Status::ok();
}

Status SqliteRows::delete_run(RunId run, int64_t workflow_id, const std::string& key) {
  std::vector<int64_t> blobs;
  STEPWELL_TRY(list_numbers(sql::kResultBlob, run, 0, blobs));
  for (const int64_t number : blobs) STEPWELL_TRY(blobs_->release(number));
  if (!key.empty()) STEPWELL_TRY(finish_upkeep(sql::kKeyDeleteOf, workflow_id, Text{key}, run));
  STEPWELL_TRY(budgets_->drop(run));
  STEPWELL_TRY(finish_upkeep(sql::kFinishedDelete, run));
  return finish_upkeep(sql::kRunDelete, run);
}

Status SqliteRows::upkeep_statement(const char* text, SqliteStatement*& statement) {
  const auto known = upkeep_.find(text);
  if (known != upkeep_.end()) {
    statement = &known->second;
    return Status::ok();
  }
  Result<SqliteStatement> prepared = file_.prepare(text);
  if (!prepared) return prepared.error();
  statement = &upkeep_.emplace(text, std::move(prepared).value()).first->second;
  return Status::ok();
}

Status SqliteRows::list_numbers(const char* text, RunId run, int64_t from, std::vector<int64_t>& numbers) {
  SqliteStatement* statement = nullptr;
  STEPWELL_TRY(upkeep_statement(text, statement));
  statement->bind(run, from);
  int outcome = SQLITE_ROW;
  while ((outcome = statement->step()) == SQLITE_ROW) numbers.push_back(statement->integer(0));
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("look through", outcome);
}

}  // namespace stepwell::detail
