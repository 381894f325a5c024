// SqliteFile: the one connection to the one file: opening, refusing, checkpoints, closing.
//
// One thread at a time. A failed call means that the file can no longer be trusted to keep what it is given; see
// mark_failed.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>

#include "stepwell/status.h"
#include "store/file_lock.h"
#include "store/sqlite_statement.h"
#include "store/sqlite_store.h"

namespace stepwell::detail {

class SqliteFile {
 public:
  static Result<std::unique_ptr<SqliteFile>> open(const SqliteOptions& options);
  ~SqliteFile();
  SqliteFile(const SqliteFile&) = delete;
  SqliteFile& operator=(const SqliteFile&) = delete;

  Status execute(const char* sql);
  Result<SqliteStatement> prepare(const char* sql);
  // kIo, code::kStoreIo, with SQLite's own words.
  [[nodiscard]] Status fault(const char* doing, int outcome) const;
  Result<int64_t> read_integer(const char* sql);
  [[nodiscard]] int64_t changed_row_count() const { return sqlite3_changes64(connection_); }
  [[nodiscard]] size_t payload_bytes_max() const;

  // Bytes of the WAL that the database file does not have yet.
  [[nodiscard]] int64_t wal_bytes() const { return wal_pages_ * kPageBytes; }
  // Copies the WAL into the database file; the next write starts the WAL over.
  Status checkpoint();
  // Checkpoints, closes, frees the lock. Statements must be gone.
  Status close();
  // Called after a disk error: leaves the mark that makes the next open rescue the file, and never checkpoints again.
  // (Writing on after a failed sync lost acknowledged commits in a power cut: WAL recovery trusts pages that never
  // reached the disk.)
  void mark_failed();

 private:
  static constexpr int64_t kPageBytes = 4096;

  SqliteFile(SqliteOptions options, std::string path) : options_(std::move(options)), path_(std::move(path)) {}
  Status connect();
  Status configure();
  Status check_identity(bool& is_new);
  Status create_schema();
  Status extend_wal();
  Status refusal(int outcome) const;

  const SqliteOptions options_;
  const std::string path_;  // canonical
  FileLock lock_;
  sqlite3* connection_ = nullptr;
  int64_t wal_pages_ = 0;
  bool is_failed_ = false;
};

}  // namespace stepwell::detail
