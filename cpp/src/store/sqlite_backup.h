// SqliteBackup: a copy of a database that is in use, a few pages at a time. What is committed meanwhile is in the copy,
// for it is written through the same connection. The copy has its name only when it is whole and synced.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>

#include "stepwell/store.h"

namespace stepwell::detail {

class SqliteBackup {
 public:
  // `source` must outlive it. kConflict, code::kStoreTarget, when `path` exists.
  static Result<std::unique_ptr<SqliteBackup>> begin(sqlite3* source, const std::string& path);
  ~SqliteBackup();
  SqliteBackup(const SqliteBackup&) = delete;
  SqliteBackup& operator=(const SqliteBackup&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  // Not within a transaction of the source.
  Status step(int64_t page_count_max, BackupProgress& progress);

 private:
  explicit SqliteBackup(std::string path) : path_(std::move(path)), partial_(path_ + ".partial") {}
  [[nodiscard]] Status failed(int outcome) const;

  const std::string path_;
  const std::string partial_;
  sqlite3* copy_ = nullptr;
  sqlite3_backup* backup_ = nullptr;
};

// Refuses a `path` that is taken, and one whose disk has less than `bytes` free.
Status check_target(const std::string& path, int64_t bytes);
// Copies the database, without its free pages, to `path`, which is synced and complete when it has its name.
Status copy_whole(sqlite3* source, const std::string& path);
Status copy_stopped(const std::string& path);
// `from` is synced, and takes the name `to`, for good.
Status put_in_place(const std::string& from, const std::string& to);

}  // namespace stepwell::detail
