#include "store/sqlite_rows.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "store/sql.h"

namespace stepwell::detail {

namespace {
using Text = SqliteStatement::Text;
using TextOrNull = SqliteStatement::TextOrNull;
}  // namespace

Result<std::unique_ptr<SqliteRows>> SqliteRows::open(SqliteFile& file) {
  std::unique_ptr<SqliteRows> rows(new SqliteRows(file));
  STEPWELL_TRY(rows->prepare_all());
  STEPWELL_TRY(rows->load_names());
  return rows;
}

Status SqliteRows::prepare_all() {
  const std::pair<SqliteStatement*, const char*> statements[] = {
      {&begin_, sql::kBegin},
      {&commit_, sql::kCommit},
      {&roll_back_, sql::kRollback},
      {&name_insert_, sql::kNameInsert},
      {&run_insert_, sql::kRunInsert},
      {&key_insert_, sql::kKeyInsert},
      {&key_find_, sql::kKeyFind},
      {&key_delete_, sql::kKeyDelete},
      {&event_insert_, sql::kEventInsert},
      {&event_list_, sql::kEventList},
      {&ready_insert_, sql::kReadyInsert},
      {&ready_update_, sql::kReadyUpdate},
      {&ready_delete_, sql::kReadyDelete},
      {&ready_count_, sql::kReadyCount},
      {&ready_list_, sql::kReadyList},
      {&ready_take_, sql::kReadyTake},
      {&lease_insert_, sql::kLeaseInsert},
      {&lease_delete_, sql::kLeaseDelete},
      {&finished_insert_, sql::kFinishedInsert},
      {&row_by_run_, sql::kRowByRun},
      {&runs_by_workflow_, sql::kRunsByWorkflow},
      {&runs_newest_, sql::kRunsNewest},
  };
  for (const auto& [statement, text] : statements) {
    Result<SqliteStatement> prepared = file_.prepare(text);
    if (!prepared) return prepared.error();
    *statement = std::move(prepared).value();
  }
  return Status::ok();
}

Status SqliteRows::load_names() {
  Result<SqliteStatement> list = file_.prepare(sql::kNameList);
  if (!list) return list.error();
  int outcome = SQLITE_ROW;
  while ((outcome = list->step()) == SQLITE_ROW) {
    const int64_t id = list->integer(0);
    const std::string& name = names_.emplace(id, list->bytes(1)).first->second;
    name_ids_.emplace(name, id);
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read the names of", outcome);
}

void SqliteRows::roll_back() {
  // SQLite has often rolled back by itself when we get here; then this is an error of no interest.
  (void)roll_back_.step();
}

Status SqliteRows::finish(SqliteStatement& statement, const char* doing) {
  const int outcome = statement.step();
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault(doing, outcome);
}

Status SqliteRows::name_id(const std::string& name, int64_t& id) {
  if (const auto known = name_ids_.find(name); known != name_ids_.end()) {
    id = known->second;
    return Status::ok();
  }
  id = static_cast<int64_t>(names_.size()) + 1;
  STEPWELL_TRY(finish(name_insert_.bind(id, Text{name}), "write a name to"));
  name_ids_.emplace(name, id);
  names_.emplace(id, name);
  return Status::ok();
}

bool SqliteRows::is_refused_for_bytes(const Transition& transition, CommitAnswer& answer) const {
  size_t bytes = transition.create ? transition.create->input.size() : 0;
  if (transition.end) bytes = std::max(bytes, transition.end->payload.size());
  for (const Event& event : transition.events) bytes = std::max(bytes, event.payload.size() + event.step.size());
  if (bytes <= file_.payload_bytes_max()) return false;
  answer.status = payload_too_large(transition.run, bytes, file_.payload_bytes_max());
  return true;
}

Status SqliteRows::apply(const Transition& transition, CommitAnswer& answer) {
  if (is_refused_for_bytes(transition, answer)) return Status::ok();
  if (transition.create) return create(transition, answer);
  Standing standing;
  bool is_there = false;
  STEPWELL_TRY(read_standing(transition.run, standing, is_there));
  if (!is_there) {
    answer.status = run_missing(transition.run);
    return Status::ok();
  }
  size_t events_known = 0;
  answer.status = check_fence(transition, standing.fence, events_known);
  if (!answer.status.is_ok()) return Status::ok();
  STEPWELL_TRY(append_events(transition, events_known));
  standing.fence.event_count += static_cast<int64_t>(transition.events.size() - events_known);
  return move_on(transition, standing);
}

Status SqliteRows::read_standing(RunId run, Standing& standing, bool& is_there) {
  // Nearly always the run is leased.
  if (const auto lease = leases_.find(run); lease != leases_.end()) {
    standing = lease->second;
    is_there = true;
    return Status::ok();
  }
  RunRow row;
  STEPWELL_TRY(read_row(run, false, false, row, is_there));
  if (!is_there) return Status::ok();
  standing.fence = {row.status, row.token, row.event_count};
  standing.claims = row.claims;
  standing.queue_id = name_ids_[row.queue];
  return Status::ok();
}

Status SqliteRows::append_events(const Transition& transition, size_t events_known) {
  for (size_t i = events_known; i < transition.events.size(); ++i) {
    const Event& event = transition.events[i];
    event_insert_.bind(transition.run, transition.first_seq + static_cast<int64_t>(i), static_cast<int32_t>(event.kind),
                       event.attempt, Text{event.step}, event.at, event.payload);
    STEPWELL_TRY(finish(event_insert_, "record an event in"));
  }
  return Status::ok();
}

Status SqliteRows::move_on(const Transition& transition, const Standing& standing) {
  const FenceView& row = standing.fence;
  const RunId run = transition.run;
  const bool is_leased = row.status == RunStatus::kRunning;
  const bool leaves = transition.end || transition.release;
  if (is_leased && leaves) {
    STEPWELL_TRY(finish(lease_delete_.bind(run), "free a lease in"));
    leases_.erase(run);
  } else if (is_leased) {
    leases_[run].fence.event_count = row.event_count;
  } else if (transition.end) {
    STEPWELL_TRY(finish(ready_delete_.bind(standing.queue_id, run), "take a run from the queue of"));
  } else {
    STEPWELL_TRY(finish(ready_update_.bind(standing.queue_id, run, row.event_count), "record a step in"));
  }
  if (transition.end) {
    finished_insert_.bind(run, static_cast<int32_t>(transition.end->status), row.token, standing.claims,
                          row.event_count, transition.at, transition.end->payload);
    return finish(finished_insert_, "end a run in");
  }
  if (!is_leased || !transition.release) return Status::ok();
  RunRow kept;
  bool is_there = false;
  STEPWELL_TRY(read_row(run, false, false, kept, is_there));
  ready_insert_.bind(name_ids_[kept.queue], run, row.token, standing.claims, row.event_count);
  return finish(ready_insert_, "queue a run in");
}

Status SqliteRows::lease(RunId run, LeaseToken token, int32_t claims, int64_t event_count) {
  Standing& standing = leases_[run];
  standing.fence = {RunStatus::kRunning, token, event_count};
  standing.claims = claims;
  return finish(lease_insert_.bind(run, token, claims), "lease a run in");
}

Status SqliteRows::create(const Transition& transition, CommitAnswer& answer) {
  const NewRun& asked = *transition.create;
  int64_t workflow_id = 0;
  int64_t queue_id = 0;
  STEPWELL_TRY(name_id(asked.workflow, workflow_id));
  STEPWELL_TRY(name_id(asked.queue, queue_id));
  if (!asked.key.empty()) {
    bool is_settled = false;
    STEPWELL_TRY(meet_key(transition, workflow_id, is_settled, answer));
    if (is_settled) return Status::ok();
  }
  run_insert_.bind(transition.run, workflow_id, queue_id, TextOrNull{asked.key}, transition.at, asked.input);
  STEPWELL_TRY(finish(run_insert_, "create a run in"));
  if (file_.changed_row_count() == 1) {
    if (asked.claimed_by != 0) return lease(transition.run, 1, 1, 0);
    return finish(ready_insert_.bind(queue_id, transition.run, 0, 0, 0), "queue a run in");
  }
  STEPWELL_TRY(meet_run(transition, answer));
  if (asked.key.empty()) return Status::ok();
  return finish(key_delete_.bind(workflow_id, Text{asked.key}), "take back a key in");
}

// The unique constraint decides who was first. Settled: the key is another run's, or this very run's from before.
Status SqliteRows::meet_key(const Transition& transition, int64_t workflow_id, bool& is_settled, CommitAnswer& answer) {
  const NewRun& asked = *transition.create;
  const auto fingerprint = static_cast<int64_t>(asked.fingerprint);
  key_insert_.bind(workflow_id, Text{asked.key}, transition.run, fingerprint);
  STEPWELL_TRY(finish(key_insert_, "record a key in"));
  if (file_.changed_row_count() == 1) return Status::ok();
  is_settled = true;
  const int outcome = key_find_.bind(workflow_id, Text{asked.key}).step();
  if (outcome != SQLITE_ROW) return file_.fault("read a key of", outcome);
  const RunId existing = key_find_.integer(0);
  const bool is_same = key_find_.integer(1) == fingerprint;
  key_find_.reset();
  if (!is_same) {
    answer.status = key_conflict(asked, existing);
    return Status::ok();
  }
  if (existing == transition.run) return Status::ok();
  answer.attached = std::make_unique<RunRow>();
  bool is_there = false;
  return read_row(existing, false, true, *answer.attached, is_there);
}

// The run id is known: the same creation once more, or a mistake.
Status SqliteRows::meet_run(const Transition& transition, CommitAnswer& answer) {
  RunRow row;
  bool is_there = false;
  STEPWELL_TRY(read_row(transition.run, true, false, row, is_there));
  const NewRun& asked = *transition.create;
  if (row.workflow != asked.workflow || row.key != asked.key || row.input != asked.input) {
    answer.status = run_id_taken(transition.run);
  }
  return Status::ok();
}

Status SqliteRows::claim(const ClaimRequest& request, std::vector<RunHistory>& claimed) {
  const auto queue = name_ids_.find(request.queue);
  if (queue == name_ids_.end() || request.count_max <= 0) return Status::ok();
  ready_list_.bind(queue->second, request.count_max);
  int outcome = SQLITE_ROW;
  while ((outcome = ready_list_.step()) == SQLITE_ROW) {
    RunRow& row = claimed.emplace_back().row;
    row.run = ready_list_.integer(0);
    row.status = RunStatus::kRunning;
    row.token = ready_list_.integer(1) + 1;
    row.claims = ready_list_.small_integer(2) + 1;
    row.event_count = ready_list_.integer(3);
    row.workflow = names_[ready_list_.integer(4)];
    row.queue = request.queue;
    row.key = ready_list_.bytes(5);
    row.created_at = ready_list_.integer(6);
    row.input = ready_list_.bytes(7);
  }
  if (outcome != SQLITE_DONE) return file_.fault("read the queue of", outcome);
  if (claimed.empty()) return Status::ok();
  STEPWELL_TRY(finish(ready_take_.bind(queue->second, claimed.back().row.run), "take runs from the queue of"));
  STEPWELL_CHECK(file_.changed_row_count() == static_cast<int64_t>(claimed.size()),
                 "the queue changed under the claim");
  for (RunHistory& history : claimed) {
    const RunRow& row = history.row;
    STEPWELL_TRY(lease(row.run, row.token, row.claims, row.event_count));
    if (row.event_count > 0) STEPWELL_TRY(read_events(row.run, history.events));
  }
  return Status::ok();
}

Status SqliteRows::depth(const std::string& queue, int64_t& count) {
  count = 0;
  const auto known = name_ids_.find(queue);
  if (known == name_ids_.end()) return Status::ok();
  const int outcome = ready_count_.bind(known->second).step();
  if (outcome != SQLITE_ROW) return file_.fault("count a queue of", outcome);
  count = ready_count_.integer(0);
  ready_count_.reset();
  return Status::ok();
}

Status SqliteRows::find(const FindRequest& request, std::vector<RunHistory>& found) {
  if (request.run != 0) return add_found(request.run, request.with_events, found);
  const auto workflow = name_ids_.find(request.workflow);
  const bool is_known = workflow != name_ids_.end();
  std::vector<RunId> runs;
  SqliteStatement* list = nullptr;
  if (!request.key.empty()) {
    if (!is_known) return Status::ok();
    list = &key_find_.bind(workflow->second, Text{request.key});
  } else if (!request.workflow.empty()) {
    if (!is_known) return Status::ok();
    list = &runs_by_workflow_.bind(workflow->second, std::max<int64_t>(request.count_max, 0));
  } else {
    list = &runs_newest_.bind(std::max<int64_t>(request.count_max, 0));
  }
  int outcome = SQLITE_ROW;
  while ((outcome = list->step()) == SQLITE_ROW) runs.push_back(list->integer(0));
  if (outcome != SQLITE_DONE) return file_.fault("search", outcome);
  for (const RunId run : runs) STEPWELL_TRY(add_found(run, request.with_events, found));
  return Status::ok();
}

Status SqliteRows::add_found(RunId run, bool with_events, std::vector<RunHistory>& found) {
  RunHistory history;
  bool is_there = false;
  STEPWELL_TRY(read_row(run, true, true, history.row, is_there));
  if (!is_there) return Status::ok();
  if (with_events) STEPWELL_TRY(read_events(run, history.events));
  found.push_back(std::move(history));
  return Status::ok();
}

Status SqliteRows::read_row(RunId run, bool with_input, bool with_result, RunRow& row, bool& is_there) {
  const int outcome = row_by_run_.bind(run, with_input, with_result).step();
  is_there = outcome == SQLITE_ROW;
  if (outcome == SQLITE_DONE) return Status::ok();
  if (!is_there) return file_.fault("read a run of", outcome);
  row.run = run;
  row.queue = names_[row_by_run_.integer(0)];
  row.status = static_cast<RunStatus>(row_by_run_.integer(1));
  row.token = row_by_run_.integer(2);
  row.claims = row_by_run_.small_integer(3);
  row.event_count = row_by_run_.integer(4);
  row.workflow = names_[row_by_run_.integer(5)];
  row.key = row_by_run_.bytes(6);
  row.created_at = row_by_run_.integer(7);
  row.finished_at = row_by_run_.integer(8);
  row.input = row_by_run_.bytes(9);
  row.result = row_by_run_.bytes(10);
  row_by_run_.reset();
  return Status::ok();
}

Status SqliteRows::read_events(RunId run, std::vector<Event>& events) {
  event_list_.bind(run);
  int outcome = SQLITE_ROW;
  while ((outcome = event_list_.step()) == SQLITE_ROW) {
    Event& event = events.emplace_back();
    event.kind = static_cast<EventKind>(event_list_.integer(0));
    event.attempt = event_list_.small_integer(1);
    event.step = event_list_.bytes(2);
    event.at = event_list_.integer(3);
    event.payload = event_list_.bytes(4);
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read the history of", outcome);
}

}  // namespace stepwell::detail
