#include "store/sqlite_rescue.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "store/sqlite_statement.h"
#include "store/sync_path.h"

namespace stepwell::detail {

namespace {

Status rescue_failed(const std::string& path, const std::string& reason) {
  return {StatusKind::kIo, code::kStoreIo,
          "cannot open " + path + ": a disk error stopped its last engine, and the rescue copy failed: " + reason +
              "; it needs as much free space as the file has, then open again"};
}

Status sync_rescue(const std::string& path) {
  const std::string reason = sync_path(path);
  return reason.empty() ? Status::ok() : rescue_failed(path, reason);
}

Status rename_path(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0 || errno == ENOENT) return Status::ok();
  return rescue_failed(from, std::strerror(errno));  // NOLINT(concurrency-mt-unsafe)
}

// Reads through SQLite, the WAL included, without ever checkpointing it.
Status copy_readable(const std::string& path, const std::string& copy) {
  sqlite3* connection = nullptr;
  int outcome = sqlite3_open_v2(path.c_str(), &connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (outcome == SQLITE_OK) {
    sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    outcome = sqlite3_exec(connection, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA wal_autocheckpoint=0", nullptr, nullptr,
                           nullptr);
  }
  if (outcome == SQLITE_OK) {
    sqlite3_stmt* prepared = nullptr;
    outcome = sqlite3_prepare_v2(connection, "VACUUM INTO ?1", -1, &prepared, nullptr);
    SqliteStatement statement(prepared);
    if (outcome == SQLITE_OK) {
      outcome = statement.bind(SqliteStatement::Text{copy}).step();
      if (outcome == SQLITE_DONE) outcome = SQLITE_OK;
    }
  }
  Status status = outcome == SQLITE_OK ? Status::ok() : rescue_failed(path, sqlite3_errmsg(connection));
  sqlite3_close(connection);
  return status;
}

}  // namespace

void mark_for_rescue(const std::string& path) {
  const int fd = open((path + ".failed").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
  (void)sync_path(std::filesystem::path(path).parent_path().string());
}

Status rescue_if_marked(const std::string& path) {
  const std::string mark = path + ".failed";
  const std::string partial = path + ".rescue";
  const std::string complete = path + ".rescued";
  const std::string folder = std::filesystem::path(path).parent_path().string();
  std::error_code ignored;
  if (!std::filesystem::exists(mark, ignored)) return Status::ok();
  if (!std::filesystem::exists(complete, ignored)) {
    if (!std::filesystem::exists(path, ignored)) {
      std::filesystem::remove(mark, ignored);
      return Status::ok();
    }
    std::filesystem::remove(partial, ignored);
    if (Status copied = copy_readable(path, partial); !copied.is_ok()) {
      std::filesystem::remove(partial, ignored);  // on a full disk its part of a copy would be in the way of all else
      return copied;
    }
    std::filesystem::permissions(partial, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write,
                                 ignored);
    STEPWELL_TRY(sync_rescue(partial));
    STEPWELL_TRY(rename_path(partial, complete));
    STEPWELL_TRY(sync_rescue(folder));
  }
  // The old WAL must be gone before the copy takes the file's name: it belongs to the old pages.
  STEPWELL_TRY(rename_path(path + "-wal", path + ".broken-wal"));
  STEPWELL_TRY(sync_rescue(folder));
  STEPWELL_TRY(rename_path(path, path + ".broken"));
  STEPWELL_TRY(rename_path(complete, path));
  STEPWELL_TRY(sync_rescue(folder));
  std::filesystem::remove(mark, ignored);
  return sync_rescue(folder);
}

}  // namespace stepwell::detail
