// The tables of the SQLite store, and the settings that they are used with.
//
// What never changes (runs, events) is kept apart from where a run stands: a run is in exactly one of ready, held,
// waiting, leased and finished. So a claim or a step rewrites some thirty bytes, however large the payloads are, all
// tables are appended to, and one commit touches few pages, which is what its latency is made of.
#pragma once

namespace stepwell::detail::sql {

inline constexpr int kApplicationId = 0x53574C31;  // "SWL1"
inline constexpr int kSchemaVersion = 4;

// Before anything is read. Exclusive locking keeps the WAL's index in our memory: no second connection can exist, which
// SQLite's WAL-reset bug (up to 3.51.2) needs, and a commit makes no locking calls.
inline constexpr const char* kBeforeFirstRead =
    "PRAGMA locking_mode=EXCLUSIVE; PRAGMA mmap_size=0; PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY;"
    "PRAGMA page_size=4096; PRAGMA auto_vacuum=NONE;";

inline constexpr const char* kApplicationIdRead = "PRAGMA application_id";
inline constexpr const char* kSchemaVersionRead = "PRAGMA user_version";
inline constexpr const char* kTableCount = "SELECT count(*) FROM sqlite_schema";
inline constexpr const char* kJournalMode = "PRAGMA journal_mode=WAL";
inline constexpr const char* kSynchronousFull =
    "PRAGMA synchronous=FULL; PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON";
inline constexpr const char* kSynchronousNormal = "PRAGMA synchronous=NORMAL";
// Checkpoints are run by us, off the commit path, so that their errors are seen.
inline constexpr const char* kSettings =
    "PRAGMA wal_autocheckpoint=0; PRAGMA secure_delete=FAST; PRAGMA journal_size_limit=33554432;";

inline constexpr const char* kSchema = R"sql(
-- Workflow and queue names, once each.
CREATE TABLE names(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- Written once, when a run is accepted. What most runs do not have is NULL and takes a byte.
CREATE TABLE runs(
  run INTEGER PRIMARY KEY, workflow_id INTEGER NOT NULL, queue_id INTEGER NOT NULL, key TEXT,
  created_at INTEGER NOT NULL, priority INTEGER, deadline_at INTEGER, parent INTEGER, parent_step TEXT,
  version_id INTEGER, grp TEXT, sla_at INTEGER, sla_ms INTEGER, breach_flow_id INTEGER, input BLOB NOT NULL);
CREATE INDEX runs_by_workflow ON runs(workflow_id);
CREATE TABLE events(
  run INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL, attempt INTEGER NOT NULL, step TEXT NOT NULL,
  at INTEGER NOT NULL, took_ms INTEGER, waited_ms INTEGER, payload BLOB NOT NULL, PRIMARY KEY(run, seq)) WITHOUT ROWID;
-- Agreed times that were not kept: few, and looked for often.
CREATE INDEX events_breached ON events(run) WHERE kind = 7;
CREATE TABLE keys(
  workflow_id INTEGER NOT NULL, key TEXT NOT NULL, run INTEGER NOT NULL, fingerprint INTEGER NOT NULL,
  PRIMARY KEY(workflow_id, key)) WITHOUT ROWID;

-- Sent to a run and not yet taken by it; and the keys of all that were sent with one.
CREATE TABLE messages(
  run INTEGER NOT NULL, id INTEGER NOT NULL, topic TEXT NOT NULL, key TEXT, at INTEGER NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY(run, id)) WITHOUT ROWID;
CREATE TABLE message_keys(
  run INTEGER NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY(run, topic, key)) WITHOUT ROWID;

-- Where a run stands: in one of these five. `turn` is the run's own id, unless a fair queue puts it further back.
CREATE TABLE ready(
  queue_id INTEGER NOT NULL, priority INTEGER NOT NULL, turn INTEGER NOT NULL, run INTEGER NOT NULL,
  token INTEGER NOT NULL, claims INTEGER NOT NULL, event_count INTEGER NOT NULL,
  PRIMARY KEY(queue_id, priority, turn, run)) WITHOUT ROWID;
-- Queued, but their group has runs enough in the ready line.
CREATE TABLE held(
  queue_id INTEGER NOT NULL, grp TEXT NOT NULL, priority INTEGER NOT NULL, run INTEGER NOT NULL,
  token INTEGER NOT NULL, claims INTEGER NOT NULL, event_count INTEGER NOT NULL,
  PRIMARY KEY(queue_id, grp, priority, run)) WITHOUT ROWID;
CREATE TABLE waiting(
  run INTEGER PRIMARY KEY, token INTEGER NOT NULL, claims INTEGER NOT NULL, event_count INTEGER NOT NULL,
  wake_at INTEGER, is_paused INTEGER NOT NULL);
CREATE INDEX waiting_due ON waiting(wake_at) WHERE wake_at IS NOT NULL;
-- No count of events: a step would write this row only for that. The one process that leases keeps it in memory.
CREATE TABLE leased(run INTEGER PRIMARY KEY, token INTEGER NOT NULL, claims INTEGER NOT NULL);
CREATE TABLE finished(
  run INTEGER PRIMARY KEY, status INTEGER NOT NULL, token INTEGER NOT NULL, claims INTEGER NOT NULL,
  event_count INTEGER NOT NULL, finished_at INTEGER NOT NULL, result BLOB NOT NULL);
-- The dead letters: few, and looked for often.
CREATE INDEX finished_dead ON finished(run) WHERE status IN (3, 5);

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

-- For people with the sqlite3 shell, when no engine has the file open.
CREATE VIEW run_list AS
  SELECT printf('r_%x', runs.run) AS run, (SELECT name FROM names WHERE id = workflow_id) AS workflow,
    (SELECT name FROM names WHERE id = queue_id) AS queue, key,
    CASE WHEN leased.run IS NOT NULL THEN 'running' ELSE
      CASE finished.status WHEN 2 THEN 'succeeded' WHEN 3 THEN 'failed' WHEN 4 THEN 'cancelled' WHEN 5 THEN 'dead'
        WHEN 8 THEN 'compensated' ELSE
          CASE waiting.is_paused WHEN 0 THEN 'waiting' WHEN 1 THEN 'paused' ELSE 'queued' END END END AS status,
    datetime(created_at / 1000, 'unixepoch') AS created, datetime(finished_at / 1000, 'unixepoch') AS finished
  FROM runs LEFT JOIN leased USING(run) LEFT JOIN finished USING(run) LEFT JOIN waiting USING(run);
)sql";

}  // namespace stepwell::detail::sql
