// Every SQL text of the SQLite store.
//
// What never changes (runs, events) is kept apart from where a run stands: a run is in exactly one of ready, waiting,
// leased and finished. So a claim or a step rewrites some thirty bytes, however large the payloads are, all tables are
// appended to, and one commit touches few pages, which is what its latency is made of.
#pragma once

namespace stepwell::detail::sql {

inline constexpr int kApplicationId = 0x53574C31;  // "SWL1"

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

// Version 3; what came later is in sqlite_migrations.cpp.
inline constexpr const char* kSchema = R"sql(
-- Workflow and queue names, once each.
CREATE TABLE names(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- Written once, when a run is accepted. What most runs do not have is NULL and takes a byte.
CREATE TABLE runs(
  run INTEGER PRIMARY KEY, workflow_id INTEGER NOT NULL, queue_id INTEGER NOT NULL, key TEXT,
  created_at INTEGER NOT NULL, priority INTEGER, deadline_at INTEGER, parent INTEGER, parent_step TEXT,
  version_id INTEGER, input BLOB NOT NULL);
CREATE INDEX runs_by_workflow ON runs(workflow_id);
CREATE TABLE events(
  run INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL, attempt INTEGER NOT NULL, step TEXT NOT NULL,
  at INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY(run, seq)) WITHOUT ROWID;
CREATE TABLE keys(
  workflow_id INTEGER NOT NULL, key TEXT NOT NULL, run INTEGER NOT NULL, fingerprint INTEGER NOT NULL,
  PRIMARY KEY(workflow_id, key)) WITHOUT ROWID;

-- Sent to a run and not yet taken by it; and the keys of all that were sent with one.
CREATE TABLE messages(
  run INTEGER NOT NULL, id INTEGER NOT NULL, topic TEXT NOT NULL, key TEXT, at INTEGER NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY(run, id)) WITHOUT ROWID;
CREATE TABLE message_keys(
  run INTEGER NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY(run, topic, key)) WITHOUT ROWID;

-- Where a run stands: in one of these four.
CREATE TABLE ready(
  queue_id INTEGER NOT NULL, priority INTEGER NOT NULL, run INTEGER NOT NULL, token INTEGER NOT NULL,
  claims INTEGER NOT NULL, event_count INTEGER NOT NULL, PRIMARY KEY(queue_id, priority, run)) WITHOUT ROWID;
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

inline constexpr const char* kBegin = "BEGIN IMMEDIATE";
inline constexpr const char* kCommit = "COMMIT";
inline constexpr const char* kRollback = "ROLLBACK";

// At open: whoever held these runs is dead, since we hold the file. Token and claims stay; the next claim adds one.
inline constexpr const char* kRequeueLeased =
    "BEGIN IMMEDIATE;"
    "INSERT INTO ready(queue_id, priority, run, token, claims, event_count)"
    " SELECT queue_id, coalesce(priority, 0), run, token, claims, (SELECT count(*) FROM events WHERE events.run = "
    "leased.run)"
    " FROM leased JOIN runs USING(run);"
    "DELETE FROM leased; COMMIT";

inline constexpr const char* kNameList = "SELECT id, name FROM names";
inline constexpr const char* kNameInsert = "INSERT INTO names(id, name) VALUES(?1, ?2)";

inline constexpr const char* kRunInsert =
    "INSERT INTO runs(run, workflow_id, queue_id, key, created_at, input, priority, deadline_at, parent, parent_step,"
    " version_id) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";
inline constexpr const char* kKeyInsert =
    "INSERT INTO keys(workflow_id, key, run, fingerprint) VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
inline constexpr const char* kKeyFind = "SELECT run, fingerprint FROM keys WHERE workflow_id = ?1 AND key = ?2";
inline constexpr const char* kKeyDelete = "DELETE FROM keys WHERE workflow_id = ?1 AND key = ?2";

inline constexpr const char* kReadyInsert =
    "INSERT INTO ready(queue_id, priority, run, token, claims, event_count)"
    " SELECT queue_id, coalesce(priority, 0), run, ?2, ?3, ?4 FROM runs WHERE run = ?1";
inline constexpr const char* kReadyFirst =
    "INSERT INTO ready(queue_id, priority, run, token, claims, event_count) VALUES(?1, ?2, ?3, 0, 0, ?4)";
inline constexpr const char* kReadyUpdate =
    "UPDATE ready SET event_count = ?4 WHERE queue_id = ?1 AND priority = ?2 AND run = ?3";
inline constexpr const char* kReadyDelete = "DELETE FROM ready WHERE queue_id = ?1 AND priority = ?2 AND run = ?3";
inline constexpr const char* kReadyCount = "SELECT count(*) FROM ready WHERE queue_id = ?1";
inline constexpr const char* kReadyList =
    "SELECT run, token, claims, event_count, workflow_id, key, created_at, input, ready.priority, deadline_at, parent,"
    " parent_step, version_id FROM ready CROSS JOIN runs USING(run)"
    " WHERE ready.queue_id = ?1 ORDER BY ready.priority, ready.run LIMIT ?2";
// What kReadyList has just answered: all up to its last.
inline constexpr const char* kReadyTake = "DELETE FROM ready WHERE queue_id = ?1 AND (priority, run) <= (?2, ?3)";

inline constexpr const char* kWaitingInsert =
    "INSERT INTO waiting(run, token, claims, event_count, wake_at, is_paused) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
inline constexpr const char* kWaitingUpdate = "UPDATE waiting SET event_count = ?2 WHERE run = ?1";
inline constexpr const char* kWaitingDelete = "DELETE FROM waiting WHERE run = ?1";
inline constexpr const char* kWaitingWake =
    "INSERT INTO ready(queue_id, priority, run, token, claims, event_count)"
    " SELECT queue_id, coalesce(priority, 0), run, token, claims, event_count FROM waiting JOIN runs USING(run)"
    " WHERE waiting.run = ?1";
inline constexpr const char* kWaitingDue =
    "SELECT run FROM waiting INDEXED BY waiting_due WHERE wake_at <= ?1 ORDER BY wake_at LIMIT ?2";
inline constexpr const char* kWaitingNext =
    "SELECT wake_at FROM waiting INDEXED BY waiting_due WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1";

inline constexpr const char* kMessageInsert =
    "INSERT INTO messages(run, id, topic, key, at, payload) VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
inline constexpr const char* kMessageKeyInsert =
    "INSERT INTO message_keys(run, topic, key) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING";
inline constexpr const char* kMessageList =
    "SELECT id, topic, key, at, payload FROM messages WHERE run = ?1 ORDER BY id";
inline constexpr const char* kMessageCount = "SELECT count(*) FROM messages WHERE run = ?1";
inline constexpr const char* kMessageCountAll = "SELECT count(*) FROM messages";
inline constexpr const char* kMessageDelete = "DELETE FROM messages WHERE run = ?1 AND id = ?2";
inline constexpr const char* kMessagesDelete = "DELETE FROM messages WHERE run = ?1";

inline constexpr const char* kLeaseInsert = "INSERT INTO leased(run, token, claims) VALUES(?1, ?2, ?3)";
inline constexpr const char* kLeaseDelete = "DELETE FROM leased WHERE run = ?1";

inline constexpr const char* kFinishedInsert =
    "INSERT INTO finished(run, status, token, claims, event_count, finished_at, result) VALUES(?1, ?2, ?3, ?4, ?5, ?6, "
    "?7)";

inline constexpr const char* kEventInsert =
    "INSERT INTO events(run, seq, kind, attempt, step, at, payload) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
inline constexpr const char* kEventList =
    "SELECT kind, attempt, step, at, payload FROM events WHERE run = ?1 ORDER BY seq";

// ?2 and ?3: whether the input and the result are wanted.
inline constexpr const char* kRowByRun =
    "SELECT runs.queue_id, CASE WHEN leased.run IS NOT NULL THEN 1 ELSE coalesce(finished.status, 6 + is_paused, 0) "
    "END,"
    " coalesce(leased.token, finished.token, ready.token, waiting.token),"
    " coalesce(leased.claims, finished.claims, ready.claims, waiting.claims),"
    " coalesce(finished.event_count, ready.event_count, waiting.event_count,"
    " (SELECT count(*) FROM events WHERE events.run = runs.run)),"
    " workflow_id, key, created_at, finished_at, CASE WHEN ?2 THEN input END, CASE WHEN ?3 THEN result END,"
    " coalesce(runs.priority, 0), deadline_at, parent, parent_step, version_id, wake_at"
    " FROM runs LEFT JOIN leased ON leased.run = runs.run LEFT JOIN finished ON finished.run = runs.run"
    " LEFT JOIN waiting ON waiting.run = runs.run"
    " LEFT JOIN ready ON ready.queue_id = runs.queue_id AND ready.priority = coalesce(runs.priority, 0)"
    " AND ready.run = runs.run WHERE runs.run = ?1";
inline constexpr const char* kRunsByWorkflow =
    "SELECT run FROM runs INDEXED BY runs_by_workflow WHERE workflow_id = ?1 ORDER BY run DESC LIMIT ?2";
// ?1: a workflow, or 0 for all.
inline constexpr const char* kRunsDead =
    "SELECT finished.run FROM finished INDEXED BY finished_dead CROSS JOIN runs USING(run)"
    " WHERE status IN (3, 5) AND finished.run < ?2 AND (?1 = 0 OR workflow_id = ?1)"
    " ORDER BY finished.run DESC LIMIT ?3";
inline constexpr const char* kRunsNewest = "SELECT run FROM runs ORDER BY run DESC LIMIT ?1";

}  // namespace stepwell::detail::sql
