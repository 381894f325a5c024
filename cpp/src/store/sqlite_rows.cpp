#include "store/sqlite_rows.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "store/sql.h"

namespace stepwell::detail {

namespace {
using Kept = SqliteStatement::BytesOrNumber;
using Text = SqliteStatement::Text;
using TextOrNull = SqliteStatement::TextOrNull;
using IntegerOrNull = SqliteStatement::IntegerOrNull;
}  // namespace

Result<std::unique_ptr<SqliteRows>> SqliteRows::open(SqliteFile& file) {
  std::unique_ptr<SqliteRows> rows(new SqliteRows(file));
  STEPWELL_TRY(rows->prepare_all());
  STEPWELL_TRY(rows->load_names());
  Result<std::unique_ptr<SqliteBlobs>> blobs = SqliteBlobs::open(file);
  if (!blobs) return blobs.error();
  rows->blobs_ = std::move(blobs).value();
  const Result<int64_t> messages = file.read_integer(sql::kMessageCountAll);
  if (!messages) return messages.error();
  rows->message_count_ = *messages;
  Result<std::unique_ptr<SqliteLines>> lines = SqliteLines::open(file);
  if (!lines) return lines.error();
  rows->lines_ = std::move(lines).value();
  Result<std::unique_ptr<SqliteStreams>> streams = SqliteStreams::open(file);
  if (!streams) return streams.error();
  rows->streams_ = std::move(streams).value();
  Result<std::unique_ptr<SqliteBudgets>> budgets =
      SqliteBudgets::open(file, [rows = rows.get()](const Message& message) {
        CommitAnswer ignored;  // of one that has ended: nobody is left to be told
        return rows->deliver(message, ignored);
      });
  if (!budgets) return budgets.error();
  rows->budgets_ = std::move(budgets).value();
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
      {&ready_list_, sql::kReadyList},
      {&ready_take_, sql::kReadyTake},
      {&waiting_insert_, sql::kWaitingInsert},
      {&waiting_update_, sql::kWaitingUpdate},
      {&waiting_delete_, sql::kWaitingDelete},
      {&waiting_wake_, sql::kWaitingWake},
      {&waiting_due_, sql::kWaitingDue},
      {&waiting_next_, sql::kWaitingNext},
      {&message_insert_, sql::kMessageInsert},
      {&message_key_insert_, sql::kMessageKeyInsert},
      {&message_list_, sql::kMessageList},
      {&message_one_count_, sql::kMessageCount},
      {&message_delete_, sql::kMessageDelete},
      {&messages_delete_, sql::kMessagesDelete},
      {&lease_insert_, sql::kLeaseInsert},
      {&lease_recount_, sql::kLeaseRecount},
      {&lease_delete_, sql::kLeaseDelete},
      {&finished_insert_, sql::kFinishedInsert},
      {&row_by_run_, sql::kRowByRun},
      {&runs_by_workflow_, sql::kRunsByWorkflow},
      {&runs_newest_, sql::kRunsNewest},
      {&runs_dead_, sql::kRunsDead},
      {&runs_breached_, sql::kRunsBreached},
      {&collapsed_find_, sql::kCollapsedFind},
      {&collapsed_replace_, sql::kCollapsedReplace},
      {&input_update_, sql::kInputUpdate},
      {&waiting_put_off_, sql::kWaitingPutOff},
      {&document_replace_, sql::kDocumentReplace},
      {&document_delete_, sql::kDocumentDelete},
      {&document_version_, sql::kDocumentVersion},
      {&document_list_, sql::kDocumentList},
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
    name_id_last_ = std::max(name_id_last_, id);
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read the names of", outcome);
}

Status SqliteRows::commit() {
  STEPWELL_TRY(budgets_->write_rows());
  return finish(commit_, "commit to");
}

void SqliteRows::roll_back() {
  // SQLite has often rolled back by itself when we get here; then this is an error of no interest.
  (void)roll_back_.step();
  budgets_->forget_rows();
  // What was counted is undone, and nothing is written any more: it only matters that readers look.
  message_count_ = std::max<int64_t>(message_count_, 1);
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
  id = ++name_id_last_;
  STEPWELL_TRY(finish(name_insert_.bind(id, Text{name}), "write a name to"));
  name_ids_.emplace(name, id);
  names_.emplace(id, name);
  return Status::ok();
}

// NULL reads as 0: no version, so no name.
std::string SqliteRows::name_of(int64_t id) const {
  const auto found = names_.find(id);
  return found == names_.end() ? std::string() : found->second;
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
  if (transition.message) return deliver(*transition.message, answer);
  if (transition.document) return keep(*transition.document, transition.at, answer);
  if (transition.budget) return budgets_->change(*transition.budget, transition.at, transition.wake_id, answer);
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
  if (!transition.spends.empty() && events_known == 0) STEPWELL_TRY(budgets_->spend(transition, answer));
  const bool is_refused = !answer.refusal.budget.empty();
  STEPWELL_TRY(append_events(transition.run, transition.first_seq, transition.events, events_known, is_refused));
  standing.fence.event_count += static_cast<int64_t>(transition.events.size() - events_known);
  STEPWELL_TRY(carry_out(transition));
  STEPWELL_TRY(streams_->apply(transition));
  STEPWELL_TRY(move_on(transition, standing));
  return transition.end ? budgets_->forget(transition, answer) : Status::ok();
}

// What the events bring with them.
Status SqliteRows::carry_out(const Transition& transition) {
  for (const int64_t id : transition.taken) {
    STEPWELL_TRY(finish(message_delete_.bind(transition.run, id), "take a message from"));
    message_count_ -= file_.changed_row_count();
  }
  for (const Message& message : transition.messages) {
    CommitAnswer ignored;  // of one that has ended: nobody is left to be told
    STEPWELL_TRY(deliver(message, ignored));
  }
  for (const Creation& creation : transition.creations) {
    Transition child;
    child.run = creation.run;
    child.at = transition.at;
    child.create = std::make_unique<NewRun>(creation.request);
    CommitAnswer ignored;
    STEPWELL_TRY(create(child, ignored));
  }
  return Status::ok();
}

Status SqliteRows::deliver(const Message& message, CommitAnswer& answer) {
  Standing standing;
  bool is_there = false;
  STEPWELL_TRY(read_standing(message.to, standing, is_there));
  if (!is_there || is_final(standing.fence.status)) {
    answer.status = is_there ? run_ended(message) : run_missing(message.to);
    return Status::ok();
  }
  int64_t count = 0;
  STEPWELL_TRY(count_messages(message.to, count));
  if (count >= Limits().messages_per_run_max) {
    answer.status = inbox_full(message);
    return Status::ok();
  }
  if (!message.key.empty()) {
    message_key_insert_.bind(message.to, Text{message.topic}, Text{message.key});
    STEPWELL_TRY(finish(message_key_insert_, "record a message's key in"));
    answer.is_known = file_.changed_row_count() == 0;
    if (answer.is_known) return Status::ok();
  }
  message_insert_.bind(message.to, message.id, Text{message.topic}, TextOrNull{message.key}, message.at,
                       message.payload);
  STEPWELL_TRY(finish(message_insert_, "record a message in"));
  message_count_ += file_.changed_row_count();
  return wakes(standing.fence.status, standing.fence.token, message.topic) ? wake(message.to, standing) : Status::ok();
}

Status SqliteRows::wake(RunId run, const Standing& standing) {
  STEPWELL_TRY(lines_->enqueue(run, standing));
  return finish(waiting_delete_.bind(run), "wake a run in");
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
  standing.priority = row.priority;
  standing.group = std::move(row.group);
  standing.is_held = is_row_held_;
  return Status::ok();
}

Status SqliteRows::append_events(RunId run, int64_t first_seq, const std::vector<Event>& events, size_t events_known,
                                 bool is_refused) {
  for (size_t i = events_known; i < events.size(); ++i) {
    const Event& event = events[i];
    const EventKind kind = is_refused && i == 0 ? EventKind::kCallHeld : event.kind;
    Kept payload;
    STEPWELL_TRY(blobs_->keep(event.payload, payload));
    event_insert_.bind(run, first_seq + static_cast<int64_t>(i), static_cast<int32_t>(kind), event.attempt,
                       Text{event.step}, event.at, payload, IntegerOrNull{event.took_ms, -1},
                       IntegerOrNull{event.waited_ms, -1});
    STEPWELL_TRY(finish(event_insert_, "record an event in"));
  }
  return Status::ok();
}

Status SqliteRows::move_on(const Transition& transition, const Standing& standing) {
  const FenceView& row = standing.fence;
  const RunId run = transition.run;
  if (transition.end || transition.release || transition.park) STEPWELL_TRY(leave(run, standing));
  if (transition.end) {
    if (message_count_ > 0) {
      STEPWELL_TRY(finish(messages_delete_.bind(run), "drop the messages of a run in"));
      message_count_ -= file_.changed_row_count();
    }
    Kept result;
    STEPWELL_TRY(blobs_->keep(transition.end->payload, result));
    finished_insert_.bind(run, static_cast<int32_t>(transition.end->status), row.token, standing.claims,
                          row.event_count, transition.at, result);
    return finish(finished_insert_, "end a run in");
  }
  if (transition.release) {
    Standing queued = standing;
    queued.claims = 0;  // given back in good order: closing an engine is no crash
    return lines_->enqueue(run, queued);
  }
  if (transition.park) return park(transition, standing);
  switch (row.status) {
    case RunStatus::kRunning: {
      Standing& lease = leases_[run];
      lease.fence.event_count = row.event_count;
      if (transition.claims < 0) return Status::ok();
      lease.claims = transition.claims;
      return finish(lease_recount_.bind(run, lease.claims), "count the lives of a run in");
    }
    case RunStatus::kQueued:
      return lines_->update(run, standing);
    default:
      return finish(waiting_update_.bind(run, row.event_count), "record a step in");
  }
}

// Out of whichever table the run stands in.
Status SqliteRows::leave(RunId run, const Standing& standing) {
  switch (standing.fence.status) {
    case RunStatus::kRunning:
      leases_.erase(run);
      STEPWELL_TRY(finish(lease_delete_.bind(run), "free a lease in"));
      return lines_->free_place(standing);
    case RunStatus::kQueued:
      return lines_->dequeue(run, standing);
    default:
      return finish(waiting_delete_.bind(run), "wake a run in");
  }
}

Status SqliteRows::park(const Transition& transition, const Standing& standing) {
  const Park& park = *transition.park;
  const FenceView& row = standing.fence;
  std::vector<Message> waiting;
  STEPWELL_TRY(read_messages(transition.run, waiting));
  const bool is_wanted = park.is_paused ? std::any_of(waiting.begin(), waiting.end(),
                                                      [](const Message& each) { return ends_a_pause(each.topic); })
                                        : static_cast<int64_t>(waiting.size()) > park.message_count_known;
  if (is_wanted) {
    Standing queued = standing;
    queued.claims = 0;  // it was laid aside in good order, so earlier crashes do not count any more
    return lines_->enqueue(transition.run, queued);
  }
  waiting_insert_.bind(transition.run, row.token, 0, row.event_count,
                       IntegerOrNull{park.is_paused ? -1 : park.wake_at, -1}, park.is_paused);
  return finish(waiting_insert_, "lay a run aside in");
}

Status SqliteRows::lease(RunId run, const Standing& standing) {
  leases_[run] = standing;
  lines_->take_place(standing);
  return finish(lease_insert_.bind(run, standing.fence.token, standing.claims), "lease a run in");
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
  if (asked.collapse.kind != CollapseKind::kNone) {
    bool is_settled = false;
    STEPWELL_TRY(collapse(transition, workflow_id, is_settled, answer));
    if (is_settled) return Status::ok();
  }
  int64_t version_id = 0;
  int64_t breach_flow_id = 0;
  if (!asked.version.empty()) STEPWELL_TRY(name_id(asked.version, version_id));
  if (!asked.breach_flow.empty()) STEPWELL_TRY(name_id(asked.breach_flow, breach_flow_id));
  int64_t budgets_id = 0;
  if (!asked.budgets.empty()) STEPWELL_TRY(name_id(asked.budgets, budgets_id));
  Kept input;
  STEPWELL_TRY(blobs_->keep(asked.input, input));
  run_insert_.bind(transition.run, workflow_id, queue_id, TextOrNull{asked.key}, transition.at, input,
                   IntegerOrNull{asked.priority, 0}, IntegerOrNull{asked.deadline_at, -1},
                   IntegerOrNull{asked.parent, 0}, TextOrNull{asked.parent_step}, IntegerOrNull{version_id, 0},
                   TextOrNull{asked.group}, IntegerOrNull{asked.sla_at, -1}, IntegerOrNull{asked.sla_ms, -1},
                   IntegerOrNull{breach_flow_id, 0}, IntegerOrNull{budgets_id, 0});
  STEPWELL_TRY(finish(run_insert_, "create a run in"));
  if (file_.changed_row_count() == 1) {
    STEPWELL_TRY(append_events(transition.run, 0, asked.events, 0));
    const auto event_count = static_cast<int64_t>(asked.events.size());
    if (asked.wake_at >= 0) {
      waiting_insert_.bind(transition.run, 0, 0, event_count, asked.wake_at, false);
      return finish(waiting_insert_, "lay a run aside in");
    }
    Standing standing;
    standing.fence.event_count = event_count;
    standing.priority = asked.priority;
    standing.queue_id = queue_id;
    standing.group = asked.group;
    answer.is_queued = asked.claimed_by != 0 && lines_->line(queue_id) != nullptr;
    if (asked.claimed_by == 0 || answer.is_queued) return lines_->enqueue(transition.run, standing);
    standing.fence.status = RunStatus::kRunning;
    standing.fence.token = standing.claims = 1;
    return lease(transition.run, standing);
  }
  STEPWELL_TRY(blobs_->release(input.number));
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
  STEPWELL_TRY(read_row(existing, false, true, *answer.attached, is_there));
  refuse_damaged(answer);
  return Status::ok();
}

// A run that is joined answers with its payloads.
void SqliteRows::refuse_damaged(CommitAnswer& answer) {
  if (answer.attached->damage.is_ok()) return;
  answer.status = answer.attached->damage;
  answer.attached.reset();
}

// The run id is known: the same creation once more, or a mistake.
Status SqliteRows::meet_run(const Transition& transition, CommitAnswer& answer) {
  RunRow row;
  bool is_there = false;
  STEPWELL_TRY(read_row(transition.run, true, false, row, is_there));
  const NewRun& asked = *transition.create;
  if (!row.damage.is_ok()) {
    answer.status = row.damage;
  } else if (row.workflow != asked.workflow || row.key != asked.key || row.input != asked.input) {
    answer.status = run_id_taken(transition.run);
  }
  return Status::ok();
}

Status SqliteRows::due(WallMs now, int64_t count_max, DueAnswer& answer) {
  std::vector<RunId> runs;
  int outcome = SQLITE_ROW;
  waiting_due_.bind(now, count_max);
  while ((outcome = waiting_due_.step()) == SQLITE_ROW) runs.push_back(waiting_due_.integer(0));
  if (outcome != SQLITE_DONE) return file_.fault("look for due runs in", outcome);
  for (const RunId run : runs) {
    if (lines_->has_limits()) {
      Standing standing;
      bool is_there = false;
      STEPWELL_TRY(read_standing(run, standing, is_there));
      STEPWELL_TRY(wake(run, standing));
    } else {
      STEPWELL_TRY(finish(waiting_wake_.bind(run), "queue a run in"));
      STEPWELL_TRY(finish(waiting_delete_.bind(run), "wake a run in"));
    }
  }
  answer.queued_count = static_cast<int64_t>(runs.size());
  outcome = waiting_next_.step();
  if (outcome == SQLITE_ROW) {
    answer.next_at = waiting_next_.integer(0);
    waiting_next_.reset();
    return Status::ok();
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("look for due runs in", outcome);
}

Status SqliteRows::find(const FindRequest& request, std::vector<RunHistory>& found) {
  if (request.run != 0) return add_found(request.run, request, found);
  const auto workflow = name_ids_.find(request.workflow);
  const bool is_known = workflow != name_ids_.end();
  const RunId before = request.before > 0 ? request.before : std::numeric_limits<RunId>::max();
  const int64_t count_max = std::max<int64_t>(request.count_max, 0);
  std::vector<RunId> runs;
  SqliteStatement* list = nullptr;
  if (!request.key.empty()) {
    if (!is_known) return Status::ok();
    list = &key_find_.bind(workflow->second, Text{request.key});
  } else if (request.is_failed || request.is_breached) {
    if (!request.workflow.empty() && !is_known) return Status::ok();
    SqliteStatement& wanted = request.is_breached ? runs_breached_ : runs_dead_;
    list = &wanted.bind(is_known ? workflow->second : 0, before, count_max);
  } else if (!request.workflow.empty()) {
    if (!is_known) return Status::ok();
    list = &runs_by_workflow_.bind(workflow->second, before, count_max);
  } else {
    list = &runs_newest_.bind(before, count_max);
  }
  int outcome = SQLITE_ROW;
  while ((outcome = list->step()) == SQLITE_ROW) runs.push_back(list->integer(0));
  if (outcome != SQLITE_DONE) return file_.fault("search", outcome);
  for (const RunId run : runs) STEPWELL_TRY(add_found(run, request, found));
  return Status::ok();
}

Status SqliteRows::add_found(RunId run, const FindRequest& request, std::vector<RunHistory>& found) {
  RunHistory history;
  bool is_there = false;
  STEPWELL_TRY(read_row(run, request.with_payloads, request.with_payloads, history.row, is_there));
  if (!is_there) return Status::ok();
  if (request.with_events) STEPWELL_TRY(read_events(history));
  if (request.with_events) STEPWELL_TRY(read_messages(run, history.messages));
  if (request.with_events) STEPWELL_TRY(streams_->read(run, history.streams));
  found.push_back(std::move(history));
  return Status::ok();
}

Status SqliteRows::read_row(RunId run, bool with_input, bool with_result, RunRow& row, bool& is_there) {
  const int outcome = row_by_run_.bind(run, with_input, with_result, lines_->turn(run)).step();
  is_there = outcome == SQLITE_ROW;
  if (outcome == SQLITE_DONE) return Status::ok();
  if (!is_there) return file_.fault("read a run of", outcome);
  row.run = run;
  row.queue = name_of(row_by_run_.integer(0));
  row.status = static_cast<RunStatus>(row_by_run_.integer(1));
  row.token = row_by_run_.integer(2);
  row.claims = row_by_run_.small_integer(3);
  row.event_count = row_by_run_.integer(4);
  row.workflow = name_of(row_by_run_.integer(5));
  row.key = row_by_run_.bytes(6);
  row.created_at = row_by_run_.integer(7);
  row.finished_at = row_by_run_.integer(8);
  STEPWELL_TRY(blobs_->read(row_by_run_, 9, row.input, row.damage));
  STEPWELL_TRY(blobs_->read(row_by_run_, 10, row.result, row.damage));
  row.priority = row_by_run_.small_integer(11);
  row.deadline_at = row_by_run_.integer_or(12, -1);
  row.parent = row_by_run_.integer(13);
  row.parent_step = row_by_run_.bytes(14);
  row.version = name_of(row_by_run_.integer(15));
  row.wake_at = row_by_run_.integer_or(16, -1);
  row.group = row_by_run_.bytes(17);
  is_row_held_ = row_by_run_.integer(18) != 0;
  row.sla_at = row_by_run_.integer_or(19, -1);
  row.sla_ms = row_by_run_.integer_or(20, -1);
  row.breach_flow = name_of(row_by_run_.integer(21));
  row.budgets = name_of(row_by_run_.integer(22));
  row_by_run_.reset();
  return Status::ok();
}

Status SqliteRows::read_events(RunHistory& history) {
  event_list_.bind(history.row.run);
  int outcome = SQLITE_ROW;
  while ((outcome = event_list_.step()) == SQLITE_ROW) {
    Event& event = history.events.emplace_back();
    event.kind = static_cast<EventKind>(event_list_.integer(0));
    event.attempt = event_list_.small_integer(1);
    event.step = event_list_.bytes(2);
    event.at = event_list_.integer(3);
    STEPWELL_TRY(blobs_->read(event_list_, 4, event.payload, history.row.damage));
    event.took_ms = event_list_.integer_or(5, -1);
    event.waited_ms = event_list_.integer_or(6, -1);
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read the history of", outcome);
}

Status SqliteRows::count_messages(RunId run, int64_t& count) {
  if (message_count_ == 0) return Status::ok();
  const int outcome = message_one_count_.bind(run).step();
  if (outcome != SQLITE_ROW) return file_.fault("count the messages of", outcome);
  count = message_one_count_.integer(0);
  message_one_count_.reset();
  return Status::ok();
}

Status SqliteRows::read_messages(RunId run, std::vector<Message>& messages) {
  if (message_count_ == 0) return Status::ok();
  message_list_.bind(run);
  int outcome = SQLITE_ROW;
  while ((outcome = message_list_.step()) == SQLITE_ROW) {
    Message& message = messages.emplace_back();
    message.id = message_list_.integer(0);
    message.to = run;
    message.topic = message_list_.bytes(1);
    message.key = message_list_.bytes(2);
    message.at = message_list_.integer(3);
    message.payload = message_list_.bytes(4);
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read the messages of", outcome);
}

}  // namespace stepwell::detail
