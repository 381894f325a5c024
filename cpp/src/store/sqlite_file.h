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
#include "stepwell/store.h"
#include "store/file_lock.h"
#include "store/sqlite_backup.h"
#include "store/sqlite_statement.h"
#include "store/sqlite_store.h"

namespace stepwell::detail {

class SqliteFile {
 public:
  static Result<std::unique_ptr<SqliteFile>> open(const SqliteOptions& options);
  // For looking at a file: takes the lock and reads, and changes nothing, not even by closing. It must be there, and
  // of any version that this library knows.
  static Result<std::unique_ptr<SqliteFile>> open_as_is(const std::string& path);
  ~SqliteFile();
  SqliteFile(const SqliteFile&) = delete;
  SqliteFile& operator=(const SqliteFile&) = delete;

  Status execute(const char* sql);
  Result<SqliteStatement> prepare(const char* sql);
  // kIo with SQLite's own words; the code is kStoreFull, kStoreCorrupt or kStoreIo.
  [[nodiscard]] Status fault(const char* doing, int outcome) const;
  Result<int64_t> read_integer(const char* sql);
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] sqlite3* connection() const { return connection_; }
  [[nodiscard]] int64_t last_row() const { return sqlite3_last_insert_rowid(connection_); }
  [[nodiscard]] int64_t changed_row_count() const { return sqlite3_changes64(connection_); }
  [[nodiscard]] size_t payload_bytes_max() const;

  // Bytes of the WAL that the database file does not have yet.
  [[nodiscard]] int64_t wal_bytes() const { return wal_pages_ * kPageBytes; }
  // Copies the WAL into the database file; the next write starts the WAL over.
  Status checkpoint();
  // One slice of a copy that is made between transactions; see BackupSlice.
  Status back_up(const BackupSlice& slice, BackupProgress& progress);
  // Checkpoints, closes, frees the lock. Statements must be gone.
  Status close();
  // The same, and `copy`, a file in the same folder, takes this one's name before the lock is freed.
  Status close_and_take_over(const std::string& copy);
  // Called after a disk error: leaves the mark that makes the next open rescue the file, and never checkpoints again.
  // (Writing on after a failed sync lost acknowledged commits in a power cut: WAL recovery trusts pages that never
  // reached the disk.)
  void mark_failed();

 private:
  static constexpr int64_t kPageBytes = 4096;

  SqliteFile(SqliteOptions options, std::string path) : options_(std::move(options)), path_(std::move(path)) {}
  static Result<std::unique_ptr<SqliteFile>> lock(const SqliteOptions& options);
  Status connect(int flags);
  Status disconnect();
  Status configure();
  Status check_identity(int64_t& version);  // 0: a new file
  Status extend_wal();
  Status refusal(int outcome) const;

  const SqliteOptions options_;
  const std::string path_;  // canonical
  FileLock lock_;
  sqlite3* connection_ = nullptr;
  int64_t wal_pages_ = 0;
  bool is_failed_ = false;
  bool is_as_is_ = false;
  std::unique_ptr<SqliteBackup> backup_;  // one that is under way
};

}  // namespace stepwell::detail
