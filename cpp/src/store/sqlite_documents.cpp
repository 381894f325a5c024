// SqliteRows' part for what stands beside runs: documents, and starts that become one run.
#include <utility>

#include "store/sql.h"
#include "store/sql_upkeep.h"
#include "store/sqlite_rows.h"

namespace stepwell::detail {

namespace {
using Text = SqliteStatement::Text;
}  // namespace

Status SqliteRows::keep(const Document& document, WallMs at, CommitAnswer& answer) {
  int outcome = document_version_.bind(Text{document.kind}, Text{document.name}).step();
  int64_t version = 0;
  if (outcome == SQLITE_ROW) {
    version = document_version_.integer(0);
    document_version_.reset();
  } else if (outcome != SQLITE_DONE) {
    return file_.fault("read a document of", outcome);
  }
  if (document.version >= 0 && document.version != version) {
    answer.status = document_changed(document, version);
    return Status::ok();
  }
  if (document.body.empty()) {
    return finish(document_delete_.bind(Text{document.kind}, Text{document.name}), "delete a document from");
  }
  document_replace_.bind(Text{document.kind}, Text{document.name}, version + 1, at, document.body);
  return finish(document_replace_, "keep a document in");
}

Status SqliteRows::documents(const std::string& kind, const std::string& name, std::vector<Document>& found) {
  document_list_.bind(Text{kind}, Text{name});
  int outcome = SQLITE_ROW;
  while ((outcome = document_list_.step()) == SQLITE_ROW) {
    Document& document = found.emplace_back();
    document.kind = kind;
    document.name = document_list_.bytes(0);
    document.version = document_list_.integer(1);
    document.at = document_list_.integer(2);
    document.body = document_list_.bytes(3);
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read the documents of", outcome);
}

// Settled: the start was taken in by an earlier one. Otherwise its run will take in later ones.
Status SqliteRows::collapse(const Transition& transition, int64_t workflow_id, bool& is_settled, CommitAnswer& answer) {
  const NewRun& asked = *transition.create;
  const auto kind = static_cast<int32_t>(asked.collapse.kind);
  RunId run = 0;
  int64_t count = 1;
  const int outcome = collapsed_find_.bind(workflow_id, kind, Text{asked.collapse.key}).step();
  if (outcome == SQLITE_ROW) {
    run = collapsed_find_.integer(0);
    count = collapsed_find_.integer(1);
    collapsed_find_.reset();
  } else if (outcome != SQLITE_DONE) {
    return file_.fault("look for a start to join in", outcome);
  }
  auto row = std::make_unique<RunRow>();
  bool is_there = false;
  if (run != 0) STEPWELL_TRY(read_row(run, true, true, *row, is_there));
  if (!row->damage.is_ok()) {  // what it was to be joined to cannot be read
    is_settled = true;
    answer.status = row->damage;
    return Status::ok();
  }
  is_settled = is_there && takes_in(asked.collapse, *row, count);
  if (!is_settled) {
    run = transition.run;
    count = 1;
  } else if (asked.collapse.kind != CollapseKind::kSingleton) {
    const TakenIn taken_in = take_in(asked, *row, ++count);
    std::vector<int64_t> blobs;
    STEPWELL_TRY(list_numbers(sql::kInputBlob, run, 0, blobs));
    SqliteStatement::BytesOrNumber input;
    STEPWELL_TRY(blobs_->keep(taken_in.input, input));
    STEPWELL_TRY(finish(input_update_.bind(run, input), "join a start to a run in"));
    for (const int64_t number : blobs) STEPWELL_TRY(blobs_->release(number));
    row->input = taken_in.input;
    if (taken_in.is_due) {
      Standing standing;
      STEPWELL_TRY(read_standing(run, standing, is_there));
      STEPWELL_TRY(wake(run, standing));
      row->status = RunStatus::kQueued;
      row->wake_at = -1;
    } else {
      STEPWELL_TRY(finish(waiting_put_off_.bind(run, taken_in.wake_at), "put off a run in"));
      row->wake_at = taken_in.wake_at;
    }
  }
  collapsed_replace_.bind(workflow_id, kind, Text{asked.collapse.key}, run, count);
  STEPWELL_TRY(finish(collapsed_replace_, "note a start to join in"));
  if (is_settled) answer.attached = std::move(row);
  return Status::ok();
}

}  // namespace stepwell::detail
