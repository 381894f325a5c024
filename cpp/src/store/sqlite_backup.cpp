#include "store/sqlite_backup.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "store/sqlite_statement.h"
#include "store/sync_path.h"

namespace stepwell::detail {

namespace {

Status copy_failed(const std::string& path, const std::string& reason, bool is_full = false) {
  return {StatusKind::kIo, is_full ? code::kStoreFull : code::kStoreIo,
          "cannot write " + path + ": " + reason + (is_full ? "; free some space and try again" : "") +
              "; the store itself is as it was"};
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

Status sync_copy(const std::string& path) {
  const std::string reason = sync_path(path);
  return reason.empty() ? Status::ok() : copy_failed(path, reason);
}

// SQLite would make it readable by everybody.
Status create_private(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    return {StatusKind::kInvalid, code::kStoreTarget,
            "cannot write " + path + ": " + std::strerror(errno)};  // NOLINT(concurrency-mt-unsafe)
  }
  close(fd);
  return Status::ok();
}

}  // namespace

Status check_target(const std::string& path, int64_t bytes) {
  std::error_code ignored;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, ignored))) {
    return {StatusKind::kConflict, code::kStoreTarget, path + " is there already; name a file that is not"};
  }
  struct statvfs where{};
  if (statvfs(folder_of(path).c_str(), &where) != 0) {
    return {StatusKind::kInvalid, code::kStoreTarget,
            "cannot write " + path + ": " + std::strerror(errno)};  // NOLINT(concurrency-mt-unsafe)
  }
  const auto free_bytes = static_cast<int64_t>(where.f_bavail) * static_cast<int64_t>(where.f_frsize);
  if (free_bytes >= bytes) return Status::ok();
  return {StatusKind::kIo, code::kStoreFull,
          "cannot write " + path + ": it needs " + std::to_string(bytes) + " bytes, and its disk has " +
              std::to_string(free_bytes) + " free; free some space or name another place"};
}

Status put_in_place(const std::string& from, const std::string& to) {
  STEPWELL_TRY(sync_copy(from));
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    return copy_failed(to, std::strerror(errno));  // NOLINT(concurrency-mt-unsafe)
  }
  return sync_copy(folder_of(to));
}

Status copy_stopped(const std::string& path) {
  return {StatusKind::kCancelled, code::kRunCancelled, "the copy to " + path + " was stopped; the store is as it was"};
}

Status copy_whole(sqlite3* source, const std::string& path) {
  STEPWELL_TRY(create_private(path));
  sqlite3_stmt* prepared = nullptr;
  int outcome = sqlite3_prepare_v2(source, "VACUUM INTO ?1", -1, &prepared, nullptr);
  SqliteStatement statement(prepared);
  if (outcome == SQLITE_OK) outcome = statement.bind(SqliteStatement::Text{path}).step();
  if (outcome == SQLITE_DONE) return sync_copy(path);
  const std::string reason = sqlite3_errmsg(source);
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  if ((outcome & 0xFF) == SQLITE_INTERRUPT) return copy_stopped(path);
  if ((outcome & 0xFF) == SQLITE_CORRUPT) {
    return {StatusKind::kIo, code::kStoreCorrupt, "cannot copy the store: " + reason + "; see stepwell store verify"};
  }
  return copy_failed(path, reason, (outcome & 0xFF) == SQLITE_FULL);
}

Result<std::unique_ptr<SqliteBackup>> SqliteBackup::begin(sqlite3* source, const std::string& path) {
  std::unique_ptr<SqliteBackup> backup(new SqliteBackup(path));
  STEPWELL_TRY(check_target(path, 0));
  STEPWELL_TRY(create_private(backup->partial_));
  int outcome = sqlite3_open_v2(backup->partial_.c_str(), &backup->copy_,
                                SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  // Until it has its name, a broken copy is worth nothing; so nothing is spent on keeping it from harm.
  if (outcome == SQLITE_OK) {
    outcome = sqlite3_exec(backup->copy_, "PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF", nullptr, nullptr, nullptr);
  }
  if (outcome != SQLITE_OK) return backup->failed(outcome);
  backup->backup_ = sqlite3_backup_init(backup->copy_, "main", source, "main");
  if (backup->backup_ == nullptr) return backup->failed(sqlite3_errcode(backup->copy_));
  return backup;
}

SqliteBackup::~SqliteBackup() {
  sqlite3_backup_finish(backup_);
  sqlite3_close(copy_);
  std::error_code ignored;
  std::filesystem::remove(partial_, ignored);
  std::filesystem::remove(partial_ + "-journal", ignored);
}

Status SqliteBackup::failed(int outcome) const {
  return copy_failed(path_, sqlite3_errstr(outcome), (outcome & 0xFF) == SQLITE_FULL);
}

Status SqliteBackup::step(int64_t page_count_max, BackupProgress& progress) {
  const int outcome = sqlite3_backup_step(backup_, static_cast<int>(page_count_max));
  progress.page_count = sqlite3_backup_pagecount(backup_);
  progress.done_count = progress.page_count - sqlite3_backup_remaining(backup_);
  if (outcome == SQLITE_OK || outcome == SQLITE_BUSY || outcome == SQLITE_LOCKED) return Status::ok();
  if (outcome != SQLITE_DONE) return failed(outcome);
  const int finished = sqlite3_backup_finish(std::exchange(backup_, nullptr));
  const int closed = sqlite3_close(std::exchange(copy_, nullptr));
  if (finished != SQLITE_OK || closed != SQLITE_OK) return failed(finished != SQLITE_OK ? finished : closed);
  STEPWELL_TRY(check_target(path_, 0));  // somebody else may have taken the name meanwhile
  STEPWELL_TRY(put_in_place(partial_, path_));
  progress.is_finished = true;
  return Status::ok();
}

}  // namespace stepwell::detail
