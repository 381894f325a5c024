// SqliteStore: one file, one engine, group commit. Nothing but SQLite is needed.
//
// A store thread owns the connection. It takes all calls that wait and runs them as one SQL transaction, so that many
// callers share one disk sync; no timer is involved. Durable as store.h says; the file must be on a local disk.
// What it leaves beside the file: `-wal` (while open or after a crash, part of the database), `.lock`, and, after a
// disk error, `.failed`: the next open then copies what is readable into a new file and keeps the old one as `.broken`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "stepwell/loop.h"
#include "stepwell/store.h"

namespace stepwell {

struct SqliteOptions {
  std::string path;  // created, readable by its owner only, when missing
  Durability durability = Durability::kFull;
  int64_t commit_batch_max = 1024;      // calls that share one transaction
  int64_t waiting_count_max = 1 << 16;  // calls that wait for the store thread; more are answered kBusy
  int64_t cache_bytes = 8 << 20;        // SQLite's page cache
  int64_t wal_bytes_max = 16 << 20;     // a larger WAL is checkpointed even when the store is busy
  int64_t wal_bytes_initial = 4 << 20;  // written ahead at open: a commit into a file that need not grow syncs faster
};

// Waits for the file: recovers its WAL, and queues again the runs that a dead engine held. Any thread; `loop` must
// outlive the store. Failures: kConflict with code::kStoreLocked (another engine or program has it), kInvalid with
// code::kStoreOpen (no such place, not ours, network file system) or code::kStoreSchema (another version's file), kIo.
Result<std::unique_ptr<Store>> open_sqlite_store(Loop& loop, const SqliteOptions& options);

// The linked SQLite, for the log: "3.40.1".
std::string sqlite_version();

}  // namespace stepwell
