#include "store/sqlite_migrations.h"

#include "store/sql.h"
#include "store/sql_schema.h"

#ifndef STEPWELL_VERSION
#define STEPWELL_VERSION "0.0.0"
#endif

namespace stepwell::detail {

namespace {

// From kSchemaVersionFirst on, one a version. Never change one that was released.
constexpr const char* kSteps[] = {
    // 3 to 4: queues with limits (sqlite_lines.h), starts that join others, documents; times of attempts, agreed times
    // and
    // their breaches; long payloads, once each (sqlite_blobs.h); and who wrote the file.
    R"sql(
ALTER TABLE runs ADD COLUMN grp TEXT;
ALTER TABLE runs ADD COLUMN sla_at INTEGER;
ALTER TABLE runs ADD COLUMN sla_ms INTEGER;
ALTER TABLE runs ADD COLUMN breach_flow_id INTEGER;
ALTER TABLE events ADD COLUMN took_ms INTEGER;
ALTER TABLE events ADD COLUMN waited_ms INTEGER;
-- Agreed times that were not kept: few, and looked for often.
CREATE INDEX events_breached ON events(run) WHERE kind = 7;

-- A run stands in one of ready, held, waiting, leased and finished. `turn` is the run's own id, unless a fair queue
-- puts it further back.
ALTER TABLE ready RENAME TO ready_3;
CREATE TABLE ready(
  queue_id INTEGER NOT NULL, priority INTEGER NOT NULL, turn INTEGER NOT NULL, run INTEGER NOT NULL,
  token INTEGER NOT NULL, claims INTEGER NOT NULL, event_count INTEGER NOT NULL,
  PRIMARY KEY(queue_id, priority, turn, run)) WITHOUT ROWID;
INSERT INTO ready SELECT queue_id, priority, run, run, token, claims, event_count FROM ready_3;
DROP TABLE ready_3;
-- Queued, but their group has runs enough in the ready line.
CREATE TABLE held(
  queue_id INTEGER NOT NULL, grp TEXT NOT NULL, priority INTEGER NOT NULL, run INTEGER NOT NULL,
  token INTEGER NOT NULL, claims INTEGER NOT NULL, event_count INTEGER NOT NULL,
  PRIMARY KEY(queue_id, grp, priority, run)) WITHOUT ROWID;

-- Queues with limits, and when their rate let runs through. A limit of -1 is none.
CREATE TABLE queues(
  queue_id INTEGER PRIMARY KEY, in_flight_max INTEGER NOT NULL, group_in_flight_max INTEGER NOT NULL,
  rate_count INTEGER NOT NULL, rate_period_ms INTEGER NOT NULL, is_fair INTEGER NOT NULL, is_paused INTEGER NOT NULL);
CREATE TABLE starts(
  queue_id INTEGER NOT NULL, at INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY(queue_id, at)) WITHOUT ROWID;

-- Which run takes in further starts: kind 1 debounce, 2 singleton, 3 batch.
CREATE TABLE collapsed(
  workflow_id INTEGER NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL, run INTEGER NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY(workflow_id, kind, key)) WITHOUT ROWID;

-- The application's own small values.
CREATE TABLE documents(
  kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY(kind, name)) WITHOUT ROWID;

CREATE TABLE blobs(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, reference_count INTEGER NOT NULL);
-- Apart from the counts, which change with each run that has the payload.
CREATE TABLE blob_bytes(id INTEGER PRIMARY KEY, byte_count INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE about(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
)sql",
    // 4 to 5: budgets (sqlite_budgets.h), in picodollars and tokens; a cap of -1 is none. And the text of streams whose
    // steps are not recorded yet, its offsets (at) in bytes (sqlite_streams.h).
    R"sql(
ALTER TABLE runs ADD COLUMN budgets_id INTEGER;
CREATE TABLE budgets(
  name TEXT PRIMARY KEY, cap_usd INTEGER NOT NULL, cap_tokens INTEGER NOT NULL,
  spent_usd INTEGER NOT NULL, spent_tokens INTEGER NOT NULL, reserved_usd INTEGER NOT NULL,
  reserved_tokens INTEGER NOT NULL, doubt_usd INTEGER NOT NULL, doubt_tokens INTEGER NOT NULL,
  call_count INTEGER NOT NULL, odd_count INTEGER NOT NULL, waiting_count INTEGER NOT NULL,
  is_closed INTEGER NOT NULL, run INTEGER, at INTEGER NOT NULL) WITHOUT ROWID;
-- Those of one run, which go with it.
CREATE INDEX budgets_own ON budgets(run) WHERE run IS NOT NULL;
-- Who changed an account, when and why.
CREATE TABLE budget_notes(
  id INTEGER PRIMARY KEY, budget TEXT NOT NULL, at INTEGER NOT NULL, note TEXT NOT NULL);
CREATE INDEX budget_notes_of ON budget_notes(budget);
-- Calls that wait for room, each in its account's line.
CREATE TABLE budget_waits(
  run INTEGER NOT NULL, step TEXT NOT NULL, budget TEXT NOT NULL, turn INTEGER NOT NULL,
  wanted_usd INTEGER NOT NULL, wanted_tokens INTEGER NOT NULL, is_woken INTEGER NOT NULL,
  PRIMARY KEY(run, step)) WITHOUT ROWID;
CREATE INDEX budget_waits_line ON budget_waits(budget, is_woken, turn);
CREATE TABLE stream_parts(
  run INTEGER NOT NULL, step TEXT NOT NULL, generation INTEGER NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY(run, step, generation, at)) WITHOUT ROWID;
)sql",
};
static_assert(sizeof kSteps / sizeof kSteps[0] == kSchemaVersion - kSchemaVersionFirst, "one step a version");

// What an older Stepwell tells its user when it meets this file.
std::string signature() {
  return "INSERT OR REPLACE INTO about(name, value) VALUES('stepwell_needed', '" STEPWELL_VERSION "');";
}

std::string version_mark(int64_t version) { return "PRAGMA user_version=" + std::to_string(version) + ";"; }

// As a whole or not at all.
Status execute_all(SqliteFile& file, const std::string& text) {
  Status status = file.execute(("BEGIN IMMEDIATE;" + text + "COMMIT").c_str());
  // Often SQLite has rolled back by itself; then this is an error of no interest.
  if (!status.is_ok()) (void)file.execute(sql::kRollback);
  return status;
}

}  // namespace

Status create_schema(SqliteFile& file) {
  std::string text = sql::kSchema;
  for (const char* step : kSteps) text += step;
  text += signature() + "PRAGMA application_id=" + std::to_string(sql::kApplicationId) + ";";
  return execute_all(file, text + version_mark(kSchemaVersion));
}

Status migrate(SqliteFile& file, int64_t version) {
  for (int64_t from = version; from < kSchemaVersion; ++from) {
    const char* step = kSteps[from - kSchemaVersionFirst];
    STEPWELL_TRY(execute_all(file, step + signature() + version_mark(from + 1)));
  }
  return Status::ok();
}

Status check_version(SqliteFile& file, int64_t version) {
  if (version >= kSchemaVersionFirst && version <= kSchemaVersion) return Status::ok();
  std::string needed = version < kSchemaVersionFirst ? "a version of stepwell before 0.1" : "a newer stepwell";
  if (version > kSchemaVersion) {
    Result<SqliteStatement> about = file.prepare("SELECT value FROM about WHERE name = 'stepwell_needed'");
    if (about && about->step() == SQLITE_ROW) needed = "stepwell " + about->bytes(0).substr(0, 40) + " or newer";
  }
  return {StatusKind::kInvalid, code::kStoreSchema,
          "cannot open " + file.path() + ": it has schema version " + std::to_string(version) +
              ", and this is stepwell " + STEPWELL_VERSION + ", which knows versions " +
              std::to_string(kSchemaVersionFirst) + " to " + std::to_string(kSchemaVersion) + "; needed: " + needed};
}

}  // namespace stepwell::detail
