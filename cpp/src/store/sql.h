// Every statement of the SQLite store, for the tables of sql_schema.h.
#pragma once

namespace stepwell::detail::sql {

inline constexpr const char* kBegin = "BEGIN IMMEDIATE";
inline constexpr const char* kCommit = "COMMIT";
inline constexpr const char* kRollback = "ROLLBACK";

// At open: whoever held these runs is dead, since we hold the file. Token and claims stay; the next claim adds one.
inline constexpr const char* kRequeueLeased =
    "BEGIN IMMEDIATE;"
    "INSERT INTO ready(queue_id, priority, turn, run, token, claims, event_count)"
    " SELECT queue_id, coalesce(priority, 0), run, run, token, claims, (SELECT count(*) FROM events WHERE events.run = "
    "leased.run)"
    " FROM leased JOIN runs USING(run);"
    "DELETE FROM leased; COMMIT";

inline constexpr const char* kNameList = "SELECT id, name FROM names";
inline constexpr const char* kNameInsert = "INSERT INTO names(id, name) VALUES(?1, ?2)";

inline constexpr const char* kRunInsert =
    "INSERT INTO runs(run, workflow_id, queue_id, key, created_at, input, priority, deadline_at, parent, parent_step,"
    " version_id, grp, sla_at, sla_ms, breach_flow_id, budgets_id)"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) ON CONFLICT DO NOTHING";
inline constexpr const char* kKeyInsert =
    "INSERT INTO keys(workflow_id, key, run, fingerprint) VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
inline constexpr const char* kKeyFind = "SELECT run, fingerprint FROM keys WHERE workflow_id = ?1 AND key = ?2";
inline constexpr const char* kKeyDelete = "DELETE FROM keys WHERE workflow_id = ?1 AND key = ?2";

inline constexpr const char* kReadyInsert =
    "INSERT INTO ready(queue_id, priority, turn, run, token, claims, event_count) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
inline constexpr const char* kReadyUpdate =
    "UPDATE ready SET event_count = ?5 WHERE queue_id = ?1 AND priority = ?2 AND turn = ?3 AND run = ?4";
inline constexpr const char* kReadyDelete =
    "DELETE FROM ready WHERE queue_id = ?1 AND priority = ?2 AND turn = ?3 AND run = ?4";
inline constexpr const char* kReadyCount = "SELECT count(*) FROM ready WHERE queue_id = ?1";
inline constexpr const char* kReadyList =
    "SELECT run, token, claims, event_count, workflow_id, key, created_at, input, ready.priority, deadline_at, parent,"
    " parent_step, version_id, turn, grp, sla_at, sla_ms, breach_flow_id, budgets_id FROM ready CROSS JOIN runs "
    "USING(run)"
    " WHERE ready.queue_id = ?1 ORDER BY ready.priority, ready.turn, ready.run LIMIT ?2";
// What kReadyList has just answered: all up to its last.
inline constexpr const char* kReadyTake =
    "DELETE FROM ready WHERE queue_id = ?1 AND (priority, turn, run) <= (?2, ?3, ?4)";

// Queues with limits.
inline constexpr const char* kReadyAll =
    "SELECT run, token, claims, event_count, ready.priority, grp FROM ready CROSS JOIN runs USING(run)"
    " WHERE ready.queue_id = ?1";
inline constexpr const char* kReadyClear = "DELETE FROM ready WHERE queue_id = ?1";
inline constexpr const char* kReadyTurns = "SELECT run, turn FROM ready WHERE queue_id = ?1 AND turn <> run";
inline constexpr const char* kReadyGroups =
    "SELECT coalesce(grp, ''), count(*), max(turn) FROM ready JOIN runs USING(run) WHERE ready.queue_id = ?1 GROUP BY "
    "1";
inline constexpr const char* kHeldInsert =
    "INSERT INTO held(queue_id, grp, priority, run, token, claims, event_count) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
inline constexpr const char* kHeldDelete =
    "DELETE FROM held WHERE queue_id = ?1 AND grp = ?2 AND priority = ?3 AND run = ?4";
inline constexpr const char* kHeldUpdate =
    "UPDATE held SET event_count = ?5 WHERE queue_id = ?1 AND grp = ?2 AND priority = ?3 AND run = ?4";
inline constexpr const char* kHeldFirst =
    "SELECT priority, run, token, claims, event_count FROM held WHERE queue_id = ?1 AND grp = ?2"
    " ORDER BY priority, run LIMIT 1";
inline constexpr const char* kHeldGroups = "SELECT grp, count(*) FROM held WHERE queue_id = ?1 GROUP BY grp";
inline constexpr const char* kHeldAll =
    "SELECT run, token, claims, event_count, priority, grp FROM held WHERE queue_id = ?1";
inline constexpr const char* kHeldClear = "DELETE FROM held WHERE queue_id = ?1";

inline constexpr const char* kQueueList =
    "SELECT queue_id, in_flight_max, group_in_flight_max, rate_count, rate_period_ms, is_fair, is_paused FROM queues";
inline constexpr const char* kQueueReplace =
    "REPLACE INTO queues(queue_id, in_flight_max, group_in_flight_max, rate_count, rate_period_ms, is_fair, is_paused)"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
inline constexpr const char* kQueueDelete = "DELETE FROM queues WHERE queue_id = ?1";
inline constexpr const char* kStartsAdd =
    "INSERT INTO starts(queue_id, at, count) VALUES(?1, ?2, ?3)"
    " ON CONFLICT(queue_id, at) DO UPDATE SET count = count + excluded.count";
inline constexpr const char* kStartsForget = "DELETE FROM starts WHERE queue_id = ?1 AND at <= ?2";
inline constexpr const char* kStartsList = "SELECT at, count FROM starts WHERE queue_id = ?1 ORDER BY at";

inline constexpr const char* kCollapsedFind =
    "SELECT run, count FROM collapsed WHERE workflow_id = ?1 AND kind = ?2 AND key = ?3";
inline constexpr const char* kCollapsedReplace =
    "REPLACE INTO collapsed(workflow_id, kind, key, run, count) VALUES(?1, ?2, ?3, ?4, ?5)";
inline constexpr const char* kInputUpdate = "UPDATE runs SET input = ?2 WHERE run = ?1";
inline constexpr const char* kWaitingPutOff = "UPDATE waiting SET wake_at = ?2 WHERE run = ?1";

inline constexpr const char* kDocumentReplace =
    "REPLACE INTO documents(kind, name, version, at, body) VALUES(?1, ?2, ?3, ?4, ?5)";
inline constexpr const char* kDocumentDelete = "DELETE FROM documents WHERE kind = ?1 AND name = ?2";
inline constexpr const char* kDocumentVersion = "SELECT version FROM documents WHERE kind = ?1 AND name = ?2";
inline constexpr const char* kDocumentList =
    "SELECT name, version, at, body FROM documents WHERE kind = ?1 AND (?2 = '' OR name = ?2) ORDER BY name";

inline constexpr const char* kWaitingInsert =
    "INSERT INTO waiting(run, token, claims, event_count, wake_at, is_paused) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
inline constexpr const char* kWaitingUpdate = "UPDATE waiting SET event_count = ?2 WHERE run = ?1";
inline constexpr const char* kWaitingDelete = "DELETE FROM waiting WHERE run = ?1";
inline constexpr const char* kWaitingWake =
    "INSERT INTO ready(queue_id, priority, turn, run, token, claims, event_count)"
    " SELECT queue_id, coalesce(priority, 0), run, run, token, claims, event_count FROM waiting JOIN runs USING(run)"
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
inline constexpr const char* kLeaseRecount = "UPDATE leased SET claims = ?2 WHERE run = ?1";
inline constexpr const char* kLeaseDelete = "DELETE FROM leased WHERE run = ?1";

inline constexpr const char* kFinishedInsert =
    "INSERT INTO finished(run, status, token, claims, event_count, finished_at, result) VALUES(?1, ?2, ?3, ?4, ?5, ?6, "
    "?7)";

inline constexpr const char* kEventInsert =
    "INSERT INTO events(run, seq, kind, attempt, step, at, payload, took_ms, waited_ms)"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
inline constexpr const char* kEventList =
    "SELECT kind, attempt, step, at, payload, took_ms, waited_ms FROM events WHERE run = ?1 ORDER BY seq";

// ?2 and ?3: whether the input and the result are wanted; ?4: the run's turn, should it stand in the ready line.
inline constexpr const char* kRowByRun =
    "SELECT runs.queue_id, CASE WHEN leased.run IS NOT NULL THEN 1 ELSE coalesce(finished.status, 6 + is_paused, 0) "
    "END,"
    " coalesce(leased.token, finished.token, ready.token, waiting.token, held.token),"
    " coalesce(leased.claims, finished.claims, ready.claims, waiting.claims, held.claims),"
    " coalesce(finished.event_count, ready.event_count, waiting.event_count, held.event_count,"
    " (SELECT count(*) FROM events WHERE events.run = runs.run)),"
    " workflow_id, key, created_at, finished_at, CASE WHEN ?2 THEN input END, CASE WHEN ?3 THEN result END,"
    " coalesce(runs.priority, 0), deadline_at, parent, parent_step, version_id, wake_at, runs.grp,"
    " held.run IS NOT NULL, sla_at, sla_ms, breach_flow_id, budgets_id"
    " FROM runs LEFT JOIN leased ON leased.run = runs.run LEFT JOIN finished ON finished.run = runs.run"
    " LEFT JOIN waiting ON waiting.run = runs.run"
    " LEFT JOIN ready ON ready.queue_id = runs.queue_id AND ready.priority = coalesce(runs.priority, 0)"
    " AND ready.turn = ?4 AND ready.run = runs.run"
    " LEFT JOIN held ON held.queue_id = runs.queue_id AND held.grp = runs.grp"
    " AND held.priority = coalesce(runs.priority, 0) AND held.run = runs.run WHERE runs.run = ?1";
inline constexpr const char* kRunsByWorkflow =
    "SELECT run FROM runs INDEXED BY runs_by_workflow WHERE workflow_id = ?1 AND run < ?2 ORDER BY run DESC LIMIT ?3";
// ?1: a workflow, or 0 for all.
inline constexpr const char* kRunsDead =
    "SELECT finished.run FROM finished INDEXED BY finished_dead CROSS JOIN runs USING(run)"
    " WHERE status IN (3, 5) AND finished.run < ?2 AND (?1 = 0 OR workflow_id = ?1)"
    " ORDER BY finished.run DESC LIMIT ?3";
inline constexpr const char* kRunsBreached =
    "SELECT DISTINCT events.run FROM events INDEXED BY events_breached CROSS JOIN runs USING(run)"
    " WHERE kind = 7 AND events.run < ?2 AND (?1 = 0 OR workflow_id = ?1)"
    " ORDER BY events.run DESC LIMIT ?3";
inline constexpr const char* kRunsNewest = "SELECT run FROM runs WHERE run < ?1 ORDER BY run DESC LIMIT ?2";

// Streams.
inline constexpr const char* kStreamInsert =
    "INSERT OR REPLACE INTO stream_parts(run, step, generation, at, text) VALUES(?1, ?2, ?3, ?4, ?5)";
inline constexpr const char* kStreamDelete = "DELETE FROM stream_parts WHERE run = ?1 AND step = ?2";
inline constexpr const char* kStreamList =
    "SELECT step, generation, text FROM stream_parts WHERE run = ?1 ORDER BY step, generation, at";
inline constexpr const char* kStreamsLive =
    "SELECT DISTINCT run FROM stream_parts WHERE run NOT IN (SELECT run FROM finished)";

}  // namespace stepwell::detail::sql
