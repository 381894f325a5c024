// SqliteRows: whole runs out of the file and into it.
#include <algorithm>
#include <utility>

#include "store/sql.h"
#include "store/sql_upkeep.h"
#include "store/sqlite_rows.h"

namespace stepwell::detail {

namespace {
using Kept = SqliteStatement::BytesOrNumber;
using Text = SqliteStatement::Text;
using TextOrNull = SqliteStatement::TextOrNull;
using IntegerOrNull = SqliteStatement::IntegerOrNull;

int64_t bytes_of(const RunRecord& record) {
  const RunHistory& history = record.history;
  size_t bytes = history.row.input.size() + history.row.result.size();
  for (const Event& event : history.events) bytes += event.step.size() + event.payload.size();
  for (const Message& message : history.messages) bytes += message.topic.size() + message.payload.size();
  for (const KeptStream& stream : history.streams) bytes += stream.step.size() + stream.text.size();
  return static_cast<int64_t>(bytes);
}

bool is_same(const Event& one, const Event& other) {
  return one.kind == other.kind && one.attempt == other.attempt && one.step == other.step && one.at == other.at &&
         one.payload == other.payload && one.took_ms == other.took_ms && one.waited_ms == other.waited_ms;
}

bool is_same(const Message& one, const Message& other) {
  return one.id == other.id && one.topic == other.topic && one.key == other.key && one.at == other.at &&
         one.payload == other.payload;
}

bool is_same(const KeptStream& one, const KeptStream& other) {
  return one.step == other.step && one.generation == other.generation && one.text == other.text;
}

template <typename T>
bool are_same(const std::vector<T>& some, const std::vector<T>& others) {
  return std::equal(some.begin(), some.end(), others.begin(), others.end(),
                    [](const T& one, const T& other) { return is_same(one, other); });
}

bool is_same(const RunRow& one, const RunRow& other) {
  return one.status == other.status && one.token == other.token && one.claims == other.claims &&
         one.event_count == other.event_count && one.workflow == other.workflow && one.queue == other.queue &&
         one.key == other.key && one.input == other.input && one.result == other.result &&
         one.created_at == other.created_at && one.finished_at == other.finished_at && one.priority == other.priority &&
         one.wake_at == other.wake_at && one.deadline_at == other.deadline_at && one.parent == other.parent &&
         one.parent_step == other.parent_step && one.version == other.version && one.group == other.group &&
         one.sla_at == other.sla_at && one.sla_ms == other.sla_ms && one.breach_flow == other.breach_flow &&
         one.budgets == other.budgets;
}

bool is_same(const RunRecord& one, const RunRecord& other) {
  return is_same(one.history.row, other.history.row) && are_same(one.history.events, other.history.events) &&
         are_same(one.history.messages, other.history.messages) &&
         are_same(one.history.streams, other.history.streams) && one.fingerprint == other.fingerprint &&
         one.is_trimmed == other.is_trimmed && one.message_keys == other.message_keys;
}

Status record_conflict(RunId run, const std::string& why) {
  return {StatusKind::kConflict, code::kStoreRecord, "run " + run_name(run) + " cannot be imported: " + why};
}

}  // namespace

Status SqliteRows::list_records(RunId after, int64_t run_count_max, int64_t bytes_max, RunRecords& records) {
  SqliteStatement* list = nullptr;
  STEPWELL_TRY(upkeep_statement(sql::kRunList, list));
  list->bind(after, run_count_max);
  std::vector<std::pair<RunId, bool>> runs;
  int outcome = SQLITE_ROW;
  while ((outcome = list->step()) == SQLITE_ROW) runs.emplace_back(list->integer(0), list->integer(1) != 0);
  if (outcome != SQLITE_DONE) return file_.fault("list the runs of", outcome);
  int64_t bytes = 0;
  for (const auto& [run, is_trimmed] : runs) {
    if (bytes >= bytes_max) return Status::ok();
    STEPWELL_TRY(read_record(run, is_trimmed, records.records.emplace_back()));
    bytes += bytes_of(records.records.back());
    records.after = run;
  }
  if (static_cast<int64_t>(runs.size()) < run_count_max) records.after = 0;
  return Status::ok();
}

Status SqliteRows::read_record(RunId run, bool is_trimmed, RunRecord& record) {
  RunHistory& history = record.history;
  RunRow& row = history.row;
  bool is_there = false;
  STEPWELL_TRY(read_row(run, true, true, row, is_there));
  STEPWELL_TRY(read_events(history));
  STEPWELL_TRY(row.damage);
  STEPWELL_TRY(read_messages(run, history.messages));
  STEPWELL_TRY(streams_->read(run, history.streams));
  if (row.status == RunStatus::kRunning) row.status = RunStatus::kQueued;
  record.is_trimmed = is_trimmed;
  if (!row.key.empty()) {
    SqliteStatement* find = nullptr;
    STEPWELL_TRY(upkeep_statement(sql::kKeyFingerprint, find));
    const int outcome = find->bind(run, name_ids_[row.workflow], Text{row.key}).step();
    if (outcome != SQLITE_ROW && outcome != SQLITE_DONE) return file_.fault("read a key of", outcome);
    if (outcome == SQLITE_ROW) record.fingerprint = static_cast<uint64_t>(find->integer(0));
    find->reset();
  }
  SqliteStatement* keys = nullptr;
  STEPWELL_TRY(upkeep_statement(sql::kMessageKeyList, keys));
  keys->bind(run);
  int outcome = SQLITE_ROW;
  while ((outcome = keys->step()) == SQLITE_ROW) record.message_keys.emplace_back(keys->bytes(0), keys->bytes(1));
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read the message keys of", outcome);
}

Status SqliteRows::add_record(const RunRecord& record, ImportCounts& counts, Status& refusal) {
  const RunRow& row = record.history.row;
  RunRow there;
  bool is_there = false;
  STEPWELL_TRY(read_row(row.run, false, false, there, is_there));
  if (is_there) {
    std::vector<int64_t> input;
    STEPWELL_TRY(list_numbers(sql::kInputBlob, row.run, 0, input));
    RunRecord known;
    STEPWELL_TRY(read_record(row.run, !input.empty() && input.front() == SqliteBlobs::kDropped, known));
    if (is_same(known, record)) {
      ++counts.known_count;
    } else {
      refusal = record_conflict(row.run, "the store has a run of this id that is not the same");
    }
    return Status::ok();
  }
  if (!row.key.empty()) {
    int64_t workflow_id = 0;
    STEPWELL_TRY(name_id(row.workflow, workflow_id));
    const auto fingerprint = static_cast<int64_t>(record.fingerprint);
    STEPWELL_TRY(finish(key_insert_.bind(workflow_id, Text{row.key}, row.run, fingerprint), "record a key in"));
    if (file_.changed_row_count() == 0) {
      refusal = record_conflict(row.run, "its key \"" + row.key + "\" is another run's here");
      return Status::ok();
    }
  }
  ++counts.added_count;
  return write_record(record);
}

Status SqliteRows::write_record(const RunRecord& record) {
  const RunRow& row = record.history.row;
  int64_t workflow_id = 0;
  int64_t queue_id = 0;
  int64_t version_id = 0;
  STEPWELL_TRY(name_id(row.workflow, workflow_id));
  STEPWELL_TRY(name_id(row.queue, queue_id));
  if (!row.version.empty()) STEPWELL_TRY(name_id(row.version, version_id));
  int64_t breach_flow_id = 0;
  if (!row.breach_flow.empty()) STEPWELL_TRY(name_id(row.breach_flow, breach_flow_id));
  int64_t budgets_id = 0;
  if (!row.budgets.empty()) STEPWELL_TRY(name_id(row.budgets, budgets_id));
  Kept input;
  STEPWELL_TRY(blobs_->keep(row.input, input));
  run_insert_.bind(row.run, workflow_id, queue_id, TextOrNull{row.key}, row.created_at, input,
                   IntegerOrNull{row.priority, 0}, IntegerOrNull{row.deadline_at, -1}, IntegerOrNull{row.parent, 0},
                   TextOrNull{row.parent_step}, IntegerOrNull{version_id, 0}, TextOrNull{row.group},
                   IntegerOrNull{row.sla_at, -1}, IntegerOrNull{row.sla_ms, -1}, IntegerOrNull{breach_flow_id, 0},
                   IntegerOrNull{budgets_id, 0});
  STEPWELL_TRY(finish(run_insert_, "import a run into"));
  if (record.is_trimmed) STEPWELL_TRY(finish_upkeep(sql::kInputDrop, row.run));
  STEPWELL_TRY(append_events(row.run, 0, record.history.events, 0));
  STEPWELL_TRY(budgets_->take_in(record.history));
  STEPWELL_TRY(streams_->take_in(row.run, !is_final(row.status), record.history.streams));
  for (const Message& each : record.history.messages) {
    message_insert_.bind(row.run, each.id, Text{each.topic}, TextOrNull{each.key}, each.at, each.payload);
    STEPWELL_TRY(finish(message_insert_, "import a message into"));
    message_count_ += file_.changed_row_count();
  }
  for (const auto& [topic, key] : record.message_keys) {
    STEPWELL_TRY(finish(message_key_insert_.bind(row.run, Text{topic}, Text{key}), "import a message into"));
  }
  return place_record(record);
}

Status SqliteRows::place_record(const RunRecord& record) {
  const RunRow& row = record.history.row;
  if (is_final(row.status)) {
    Kept result;
    STEPWELL_TRY(blobs_->keep(row.result, result));
    finished_insert_.bind(row.run, static_cast<int32_t>(row.status), row.token, row.claims, row.event_count,
                          row.finished_at, result);
    return finish(finished_insert_, "import a run into");
  }
  if (row.status == RunStatus::kQueued) {
    Standing standing;
    standing.fence = {row.status, row.token, row.event_count};
    standing.claims = row.claims;
    standing.priority = row.priority;
    standing.queue_id = name_ids_[row.queue];
    standing.group = row.group;
    return lines_->enqueue(row.run, standing);
  }
  waiting_insert_.bind(row.run, row.token, row.claims, row.event_count, IntegerOrNull{row.wake_at, -1},
                       row.status == RunStatus::kPaused);
  return finish(waiting_insert_, "import a run into");
}

Status SqliteRows::check_payloads(RunId run, Findings& findings) {
  for (const char* text : {sql::kInputBlob, sql::kResultBlob, sql::kEventPayloads}) {
    SqliteStatement* list = nullptr;
    STEPWELL_TRY(upkeep_statement(text, list));
    list->bind(run);
    int outcome = SQLITE_ROW;
    while ((outcome = list->step()) == SQLITE_ROW) {
      std::string ignored;
      Status damage;
      STEPWELL_TRY(blobs_->read(*list, 0, ignored, damage));
      if (!damage.is_ok()) findings.findings.push_back({run, damage.message()});
    }
    if (outcome != SQLITE_DONE) return file_.fault("check the payloads of", outcome);
  }
  return Status::ok();
}

}  // namespace stepwell::detail
