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
inline constexpr const char* kKeyDeleteOf = "DELETE FROM keys WHERE workflow_id = ?1 AND key = ?2 AND run = ?3";
inline constexpr const char* kFinishedDelete = "DELETE FROM finished WHERE run = ?1";
inline constexpr const char* kRunDelete = "DELETE FROM runs WHERE run = ?1";

}  // namespace stepwell::detail::sql
