#include "store/sqlite_file.h"

#include <fcntl.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/vfs.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "store/sql.h"
#include "store/sql_schema.h"
#include "store/sqlite_migrations.h"
#include "store/sqlite_rescue.h"

namespace stepwell::detail {

namespace {

Status refuse_open(const std::string& path, const std::string& reason) {
  return {StatusKind::kInvalid, code::kStoreOpen, "cannot open " + path + ": " + reason};
}

// Locks and shared memory do not work there as SQLite needs them; files were corrupted at once.
Status refuse_network(const std::string& path) {
#if defined(__linux__)
  constexpr uint32_t kNfs = 0x6969, kSmb = 0x517B, kCifs = 0xFF534D42, kSmb2 = 0xFE534D42;
  struct statfs where{};
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (statfs(folder.c_str(), &where) != 0) return Status::ok();  // the lock file will say what is wrong with it
  const auto magic = static_cast<uint32_t>(where.f_type);
  if (magic == kNfs || magic == kSmb || magic == kCifs || magic == kSmb2) {
    return refuse_open(path, "it is on a network file system, where SQLite files break; use a local disk");
  }
#endif
  return Status::ok();
}

// SQLite would create it readable by everybody; the WAL takes over the mode.
Status create_private(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) {
    ::close(fd);
  } else if (errno != EEXIST) {
    return refuse_open(path, std::strerror(errno));  // NOLINT(concurrency-mt-unsafe)
  }
  return Status::ok();
}

}  // namespace

Result<std::unique_ptr<SqliteFile>> SqliteFile::lock(const SqliteOptions& options) {
  if (options.path.empty()) return refuse_open("\"\"", "the path is empty");
  std::error_code failed;
  const std::string path =
      std::filesystem::weakly_canonical(std::filesystem::absolute(options.path, failed), failed).string();
  if (failed) return refuse_open(options.path, failed.message());
  if (std::filesystem::is_directory(path, failed)) return refuse_open(path, "it is a directory");
  // A rescue renames what is there: a device or a pipe must never come that far.
  if (std::filesystem::exists(path, failed) && !std::filesystem::is_regular_file(path, failed))
    return refuse_open(path, "it is not a regular file");
  STEPWELL_TRY(refuse_network(path));
  std::unique_ptr<SqliteFile> file(new SqliteFile(options, path));
  Result<FileLock> lock = FileLock::take(path);
  if (!lock) return lock.error();
  file->lock_ = std::move(lock).value();
  return file;
}

Result<std::unique_ptr<SqliteFile>> SqliteFile::open(const SqliteOptions& options) {
  Result<std::unique_ptr<SqliteFile>> file = lock(options);
  if (!file) return file;
  SqliteFile& opened = **file;
  STEPWELL_TRY(rescue_if_marked(opened.path_));
  STEPWELL_TRY(create_private(opened.path_));
  Status status = opened.connect(SQLITE_OPEN_CREATE);
  if (status.is_ok()) status = opened.configure();
  if (status.is_ok()) return file;
  // What failed may have been a sync of what was just written. A damaged file is no better for a copy.
  const bool is_damaged = (sqlite3_errcode(opened.connection_) & 0xFF) == SQLITE_CORRUPT;
  if (status.kind() == StatusKind::kIo && !is_damaged) opened.mark_failed();
  return status;
}

Result<std::unique_ptr<SqliteFile>> SqliteFile::open_as_is(const std::string& path) {
  SqliteOptions options;
  options.path = path;
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed)) return refuse_open(path, "there is no such file");
  Result<std::unique_ptr<SqliteFile>> file = lock(options);
  if (!file) return file;
  SqliteFile& opened = **file;
  opened.is_as_is_ = true;
  STEPWELL_TRY(opened.connect(0));
  int64_t version = 0;
  STEPWELL_TRY(opened.check_identity(version));
  if (version == 0) return refuse_open(path, "it is empty, not a store");
  return file;
}

SqliteFile::~SqliteFile() {
  backup_.reset();
  sqlite3_close(connection_);
}

Status SqliteFile::connect(int flags) {
  flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
  const int outcome = sqlite3_open_v2(path_.c_str(), &connection_, flags, nullptr);
  if (outcome != SQLITE_OK) return refusal(outcome);
  if (sqlite3_db_readonly(connection_, "main") == 1) return refuse_open(path_, "the file is read-only");
  // Until close has seen a checkpoint succeed, closing must not try one whose errors nobody sees.
  sqlite3_db_config(connection_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  STEPWELL_TRY(execute(sql::kBeforeFirstRead));
  const std::string cache = "PRAGMA cache_size=-" + std::to_string(std::max<int64_t>(options_.cache_bytes / 1024, 64));
  return execute(cache.c_str());
}

Status SqliteFile::configure() {
  int64_t version = 0;
  STEPWELL_TRY(check_identity(version));  // before anything is changed: it may be somebody else's file
  Result<SqliteStatement> journal = prepare(sql::kJournalMode);
  if (!journal) return journal.error();
  int outcome = journal->step();
  if (outcome != SQLITE_ROW) return refusal(outcome);
  if (journal->bytes(0) != "wal") return refuse_open(path_, "SQLite refuses write-ahead logging there");
  // Only what follows the row commits the change; an error there would leave a rollback journal.
  outcome = journal->step();
  if (outcome != SQLITE_DONE) return refusal(outcome);
  STEPWELL_TRY(execute(options_.durability == Durability::kFull ? sql::kSynchronousFull : sql::kSynchronousNormal));
  STEPWELL_TRY(execute(sql::kSettings));
  sqlite3_wal_hook(
      connection_,
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<SqliteFile*>(self)->wal_pages_ = pages;
        return SQLITE_OK;
      },
      this);
  if (version == 0) {
    STEPWELL_TRY(create_schema(*this));
  } else {
    STEPWELL_TRY(migrate(*this, version));
    STEPWELL_TRY(execute(sql::kRequeueLeased));
  }
  STEPWELL_TRY(checkpoint());
  return extend_wal();
}

Status SqliteFile::check_identity(int64_t& version) {
  Result<int64_t> tables = read_integer(sql::kTableCount);
  if (!tables) return tables.error();
  Result<int64_t> application = read_integer(sql::kApplicationIdRead);
  if (!application) return application.error();
  Result<int64_t> written = read_integer(sql::kSchemaVersionRead);
  if (!written) return written.error();
  version = *written;
  if (*tables == 0 && *application == 0 && version == 0) return Status::ok();
  if (*application != sql::kApplicationId) {
    return refuse_open(path_, "it is an SQLite database of another program; choose a new file");
  }
  return check_version(*this, version);
}

// A sync of a file that grows waits for the file system's journal too: a third more for each commit. So the WAL gets
// its bytes at once, zeros, which can never pass for frames: their checksums do not fit.
Status SqliteFile::extend_wal() {
  sqlite3_file* wal = nullptr;
  if (sqlite3_file_control(connection_, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) != SQLITE_OK || wal == nullptr ||
      wal->pMethods == nullptr) {
    return Status::ok();
  }
  sqlite3_int64 begin = 0;
  int outcome = wal->pMethods->xFileSize(wal, &begin);
  const std::vector<char> zeros(size_t{64} * 1024);
  while (outcome == SQLITE_OK && begin < options_.wal_bytes_initial) {
    outcome = wal->pMethods->xWrite(wal, zeros.data(), static_cast<int>(zeros.size()), begin);
    begin += static_cast<sqlite3_int64>(zeros.size());
  }
  if (outcome == SQLITE_OK && options_.durability == Durability::kFull) {
    outcome = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL);
  }
  return outcome == SQLITE_OK ? Status::ok() : fault("extend the write-ahead log of", outcome);
}

Status SqliteFile::execute(const char* text) {
  const int outcome = sqlite3_exec(connection_, text, nullptr, nullptr, nullptr);
  return outcome == SQLITE_OK ? Status::ok() : refusal(outcome);
}

Result<SqliteStatement> SqliteFile::prepare(const char* text) {
  sqlite3_stmt* statement = nullptr;
  const int outcome = sqlite3_prepare_v3(connection_, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (outcome != SQLITE_OK) return refusal(outcome);
  return SqliteStatement(statement);
}

Result<int64_t> SqliteFile::read_integer(const char* text) {
  Result<SqliteStatement> statement = prepare(text);
  if (!statement) return statement.error();
  const int outcome = statement->step();
  if (outcome != SQLITE_ROW) return refusal(outcome);
  const int64_t value = statement->integer(0);
  statement->reset();
  return value;
}

// What the outcome means while the file is being opened.
Status SqliteFile::refusal(int outcome) const {
  switch (outcome & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {StatusKind::kConflict, code::kStoreLocked,
              "cannot open " + path_ + ": another program has the file open"};
    case SQLITE_NOTADB:
      return refuse_open(path_, "it is not an SQLite database");
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return refuse_open(path_, sqlite3_errmsg(connection_));
    default:
      return fault("open", outcome);
  }
}

Status SqliteFile::fault(const char* doing, int outcome) const {
  const std::string what = std::string("cannot ") + doing + " " + path_ + ": " +
                           (connection_ == nullptr ? sqlite3_errstr(outcome) : sqlite3_errmsg(connection_)) +
                           " (SQLite code " + std::to_string(outcome) + "); nothing more is written until ";
  switch (outcome & 0xFF) {
    case SQLITE_FULL:
      return {StatusKind::kIo, code::kStoreFull,
              what +
                  "the disk has room again and the store is opened anew; it then copies the file, so free at least "
                  "the file's length"};
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return {StatusKind::kIo, code::kStoreCorrupt,
              what + "it is mended: see what is wrong with stepwell store verify, or restore a backup"};
    default:
      return {StatusKind::kIo, code::kStoreIo, what + "it is opened again"};
  }
}

// A kilobyte below SQLite's limit for a row leaves room for the other columns.
size_t SqliteFile::payload_bytes_max() const {
  return static_cast<size_t>(sqlite3_limit(connection_, SQLITE_LIMIT_LENGTH, -1)) - 1024;
}

Status SqliteFile::checkpoint() {
  if (is_failed_ || is_as_is_) return Status::ok();
  const int outcome = sqlite3_wal_checkpoint_v2(connection_, "main", SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  if (outcome != SQLITE_OK) return fault("checkpoint", outcome);
  wal_pages_ = 0;
  return Status::ok();
}

Status SqliteFile::back_up(const BackupSlice& slice, BackupProgress& progress) {
  if (slice.is_given_up || (backup_ && backup_->path() != slice.path)) backup_.reset();
  if (slice.is_given_up) return Status::ok();
  if (!backup_) {
    Result<std::unique_ptr<SqliteBackup>> begun = SqliteBackup::begin(connection_, slice.path);
    if (!begun) return begun.error();
    backup_ = std::move(begun).value();
  }
  Status status = backup_->step(slice.page_count_max, progress);
  if (!status.is_ok() || progress.is_finished) backup_.reset();
  return status;
}

Status SqliteFile::disconnect() {
  backup_.reset();
  if (connection_ == nullptr) return Status::ok();
  Status status = checkpoint();
  if (!status.is_ok()) mark_failed();
  // Now that the file has everything, SQLite may delete the WAL.
  if (!is_failed_ && !is_as_is_) sqlite3_db_config(connection_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, nullptr);
  sqlite3_close(std::exchange(connection_, nullptr));
  // Looking alone has made an empty log if there was none.
  std::error_code failed;
  if (is_as_is_ && std::filesystem::file_size(path_ + "-wal", failed) == 0) {
    std::filesystem::remove(path_ + "-wal", failed);
  }
  return status;
}

Status SqliteFile::close() {
  Status status = disconnect();
  lock_.free();
  return status;
}

Status SqliteFile::close_and_take_over(const std::string& copy) {
  Status status = disconnect();
  std::error_code failed;
  // A log of the old pages must never meet the new ones.
  if (status.is_ok() && std::filesystem::exists(path_ + "-wal", failed)) {
    status = Status(StatusKind::kIo, code::kStoreIo, path_ + " still has a write-ahead log; it stays as it is");
  }
  if (status.is_ok()) status = put_in_place(copy, path_);
  lock_.free();
  return status;
}

void SqliteFile::mark_failed() {
  if (is_failed_) return;
  is_failed_ = true;
  mark_for_rescue(path_);
}

}  // namespace stepwell::detail
