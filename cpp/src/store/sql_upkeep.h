// The SQL texts of the SQLite store's upkeep: blobs, retention, measuring, checking, export and import.
#pragma once

namespace stepwell::detail::sql {

// Blobs.
inline constexpr const char* kBlobFind = "SELECT id FROM blobs WHERE hash = ?1";
inline constexpr const char* kBlobInsert = "INSERT INTO blobs(hash, reference_count) VALUES(?1, 1)";
inline constexpr const char* kBlobCountUp = "UPDATE blobs SET reference_count = reference_count + 1 WHERE id = ?1";
inline constexpr const char* kBlobCountDown =
    "UPDATE blobs SET reference_count = reference_count - 1 WHERE id = ?1 RETURNING reference_count";
inline constexpr const char* kBlobDelete = "DELETE FROM blobs WHERE id = ?1";
inline constexpr const char* kBlobBytes = "SELECT byte_count, content FROM blob_bytes WHERE id = ?1";
inline constexpr const char* kBlobBytesInsert = "INSERT INTO blob_bytes(id, byte_count, content) VALUES(?1, ?2, ?3)";
inline constexpr const char* kBlobBytesDelete = "DELETE FROM blob_bytes WHERE id = ?1";

// Retention. An input of 0: dropped.
inline constexpr const char* kEndedAfter =
    "SELECT finished.run, status, finished_at, event_count, workflow_id, key, created_at,"
    " typeof(input) = 'integer' AND input = 0 FROM finished CROSS JOIN runs USING(run)"
    " WHERE finished.run > ?1 ORDER BY finished.run LIMIT ?2";
inline constexpr const char* kInputBlob = "SELECT input FROM runs WHERE run = ?1 AND typeof(input) = 'integer'";
inline constexpr const char* kInputDrop = "UPDATE runs SET input = 0 WHERE run = ?1";
inline constexpr const char* kResultBlob = "SELECT result FROM finished WHERE run = ?1 AND typeof(result) = 'integer'";
inline constexpr const char* kEventBlobs =
    "SELECT payload FROM events WHERE run = ?1 AND seq >= ?2 AND typeof(payload) = 'integer'";
inline constexpr const char* kEventsLeft = "SELECT coalesce(max(seq) + 1, 0) FROM events WHERE run = ?1";
inline constexpr const char* kEventsDelete = "DELETE FROM events WHERE run = ?1 AND seq >= ?2";
inline constexpr const char* kMessageKeysDelete = "DELETE FROM message_keys WHERE run = ?1";
inline constexpr const char* kStreamsDelete = "DELETE FROM stream_parts WHERE run = ?1";
inline constexpr const char* kKeyDeleteOf = "DELETE FROM keys WHERE workflow_id = ?1 AND key = ?2 AND run = ?3";
inline constexpr const char* kFinishedDelete = "DELETE FROM finished WHERE run = ?1";
// Starts to join in, whose runs may be gone.
inline constexpr const char* kCollapsedAfter =
    "SELECT workflow_id, kind, key, EXISTS(SELECT 1 FROM runs WHERE runs.run = collapsed.run) FROM collapsed"
    " WHERE (workflow_id, kind, key) > (?1, ?2, ?3) ORDER BY workflow_id, kind, key LIMIT ?4";
inline constexpr const char* kCollapsedDelete =
    "DELETE FROM collapsed WHERE workflow_id = ?1 AND kind = ?2 AND key = ?3";
inline constexpr const char* kRunDelete = "DELETE FROM runs WHERE run = ?1";

// Measuring. What users see of a payload is longer than what is kept of it.
inline constexpr const char* kFreePages = "PRAGMA freelist_count";
inline constexpr const char* kPages = "PRAGMA page_count";
inline constexpr const char* kPayloadFacts =
    "SELECT count(*), coalesce(sum(byte_count), 0), coalesce(sum(length(content)), 0) FROM blob_bytes";
inline constexpr const char* kRunsAfter =
    "SELECT max(run), count(*) FROM (SELECT run FROM runs WHERE run > ?1 ORDER BY run LIMIT ?2)";
// With max() SQLite takes the bare columns from the row that has it.
inline constexpr const char* kTally = R"sql(
SELECT workflow, status, count(*), sum(event_count), sum(payload_bytes), sum(history_bytes), min(created_at),
  max(created_at), max(payload_bytes + history_bytes), run FROM (
SELECT r.run AS run, created_at, (SELECT name FROM names WHERE id = workflow_id) AS workflow,
  CASE WHEN l.run IS NOT NULL THEN 1 ELSE coalesce(f.status, 6 + w.is_paused, 0) END AS status,
  (SELECT count(*) FROM events e WHERE e.run = r.run) AS event_count,
  CASE typeof(input) WHEN 'integer' THEN coalesce((SELECT byte_count FROM blob_bytes WHERE id = input), 0)
    ELSE length(input) END
  + CASE typeof(result) WHEN 'integer' THEN coalesce((SELECT byte_count FROM blob_bytes WHERE id = result), 0)
    WHEN 'null' THEN 0 ELSE length(result) END AS payload_bytes,
  coalesce((SELECT sum(CASE typeof(payload) WHEN 'integer'
    THEN coalesce((SELECT byte_count FROM blob_bytes WHERE id = payload), 0) ELSE length(payload) END)
    FROM events e WHERE e.run = r.run), 0) AS history_bytes
FROM runs r LEFT JOIN leased l USING(run) LEFT JOIN finished f USING(run) LEFT JOIN waiting w USING(run)
WHERE r.run > ?1 AND r.run <= ?2)
GROUP BY 1, 2)sql";

// Checking.
inline constexpr const char* kRunCheck = R"sql(
SELECT r.run, (l.run IS NOT NULL) + (f.run IS NOT NULL) + (w.run IS NOT NULL) + (y.run IS NOT NULL)
    + (z.run IS NOT NULL) + (h.run IS NOT NULL),
  coalesce(f.event_count, w.event_count, y.event_count, z.event_count, h.event_count),
  (SELECT count(*) FROM events e WHERE e.run = r.run),
  (SELECT coalesce(max(seq) + 1, 0) FROM events e WHERE e.run = r.run),
  typeof(input) = 'integer' AND input = 0,
  r.key IS NOT NULL, (SELECT k.run FROM keys k WHERE k.workflow_id = r.workflow_id AND k.key = r.key),
  typeof(input) IN ('blob', 'integer') AND typeof(created_at) = 'integer'
    AND coalesce(typeof(f.result), 'blob') IN ('blob', 'integer', 'null')
    AND coalesce(typeof(f.finished_at), 'integer') IN ('integer', 'null')
    AND NOT EXISTS(SELECT 1 FROM events e WHERE e.run = r.run
      AND (typeof(payload) NOT IN ('blob', 'integer') OR typeof(at) <> 'integer' OR kind NOT BETWEEN 1 AND 10)),
  (SELECT name FROM names WHERE id = r.workflow_id) IS NOT NULL AND (SELECT name FROM names WHERE id = r.queue_id)
    IS NOT NULL,
  coalesce(f.status, 2), f.run IS NOT NULL AND EXISTS(SELECT 1 FROM messages m WHERE m.run = r.run),
  r.input, f.result
FROM runs r LEFT JOIN leased l ON l.run = r.run LEFT JOIN finished f ON f.run = r.run
LEFT JOIN waiting w ON w.run = r.run
LEFT JOIN ready y ON y.queue_id = r.queue_id AND y.priority = coalesce(r.priority, 0) AND y.turn = r.run
  AND y.run = r.run
LEFT JOIN (SELECT run, event_count FROM ready WHERE turn <> run) z ON z.run = r.run
LEFT JOIN held h ON h.queue_id = r.queue_id AND h.grp = r.grp AND h.priority = coalesce(r.priority, 0)
  AND h.run = r.run
WHERE r.run > ?1 AND r.run <= ?2 ORDER BY r.run)sql";
inline constexpr const char* kEventPayloads =
    "SELECT payload FROM events WHERE run = ?1 AND typeof(payload) = 'integer'";
struct StrayCheck {
  const char* text;  // answers run ids
  const char* what;
};
inline constexpr StrayCheck kStrays[] = {
    {"SELECT DISTINCT run FROM events WHERE run NOT IN (SELECT run FROM runs) LIMIT 100", "events without a run"},
    {"SELECT run FROM keys WHERE run NOT IN (SELECT run FROM runs) LIMIT 100", "a key that names no run"},
    {"SELECT keys.run FROM keys JOIN runs USING(run) WHERE runs.key IS NOT keys.key"
     " OR runs.workflow_id <> keys.workflow_id LIMIT 100",
     "a key that is not its run's"},
    {"SELECT DISTINCT run FROM messages WHERE run NOT IN (SELECT run FROM runs) LIMIT 100", "messages without a run"},
    {"SELECT DISTINCT run FROM message_keys WHERE run NOT IN (SELECT run FROM runs) LIMIT 100",
     "message keys without a run"},
    {"SELECT DISTINCT run FROM stream_parts WHERE run NOT IN (SELECT run FROM runs) LIMIT 100",
     "a stream's text without a run"},
    {"SELECT ready.run FROM ready LEFT JOIN runs USING(run) WHERE runs.run IS NULL OR runs.queue_id <> ready.queue_id"
     " OR coalesce(runs.priority, 0) <> ready.priority LIMIT 100",
     "a place in a queue that is not its run's"},
    {"SELECT held.run FROM held LEFT JOIN runs USING(run) WHERE runs.run IS NULL OR runs.queue_id <> held.queue_id"
     " OR runs.grp IS NOT held.grp LIMIT 100",
     "a place in a group that is not its run's"},
    {"SELECT run FROM (SELECT run FROM waiting UNION ALL SELECT run FROM leased UNION ALL SELECT run FROM finished)"
     " WHERE run NOT IN (SELECT run FROM runs) LIMIT 100",
     "a place without a run"},
};
inline constexpr const char* kBlobsMiscounted = R"sql(
SELECT b.id, reference_count, coalesce(seen, 0), y.id IS NOT NULL FROM blobs b LEFT JOIN (
  SELECT blob, count(*) AS seen FROM (
    SELECT input AS blob FROM runs WHERE typeof(input) = 'integer'
    UNION ALL SELECT result FROM finished WHERE typeof(result) = 'integer'
    UNION ALL SELECT payload FROM events WHERE typeof(payload) = 'integer') GROUP BY blob) ON blob = b.id
LEFT JOIN blob_bytes y ON y.id = b.id
WHERE reference_count <> coalesce(seen, 0) OR y.id IS NULL LIMIT 100)sql";

// Export and import.
inline constexpr const char* kRunList =
    "SELECT run, typeof(input) = 'integer' AND input = 0 FROM runs WHERE run > ?1"
    " ORDER BY run LIMIT ?2";
inline constexpr const char* kKeyFingerprint =
    "SELECT fingerprint FROM keys WHERE run = ?1 AND workflow_id = ?2 AND key = ?3";
inline constexpr const char* kDocumentsAll = "SELECT kind, name, version, at, body FROM documents ORDER BY kind, name";
inline constexpr const char* kQueuesAll = "SELECT queue_id FROM queues";
inline constexpr const char* kMessageKeyList = "SELECT topic, key FROM message_keys WHERE run = ?1 ORDER BY topic, key";

}  // namespace stepwell::detail::sql
