// StoreFile on SQLite.
#include <sqlite3.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <utility>

#include "stepwell/store_file.h"
#include "store/sql.h"
#include "store/sql_schema.h"
#include "store/sql_upkeep.h"
#include "store/sqlite_backup.h"
#include "store/sqlite_file.h"
#include "store/sqlite_migrations.h"
#include "store/sqlite_rows.h"

namespace stepwell {

namespace {

using detail::SqliteFile;
using detail::SqliteRows;
using detail::SqliteStatement;
namespace sql = detail::sql;

constexpr size_t kFindingsMax = 100;  // of SQLite's own; more of them say no more

int64_t bytes_of_file(const std::string& path) {
  std::error_code failed;
  const auto bytes = std::filesystem::file_size(path, failed);
  return failed ? 0 : static_cast<int64_t>(bytes);
}

class SqliteStoreFile final : public StoreFile {
 public:
  explicit SqliteStoreFile(std::unique_ptr<SqliteFile> file) : file_(std::move(file)) {
    // Not sqlite3_interrupt: the connection may be closed by then.
    constexpr int kInstructions = 20'000;  // about a millisecond
    sqlite3_progress_handler(
        file_->connection(), kInstructions,
        [](void* self) { return static_cast<SqliteStoreFile*>(self)->is_stopped(); }, this);
  }

  Status begin() {
    const Result<int64_t> schema = file_->read_integer(sql::kSchemaVersionRead);
    if (!schema) return schema.error();
    schema_ = *schema;
    if (schema_ != detail::kSchemaVersion) return Status::ok();  // only whole copies can be made of it
    Result<std::unique_ptr<SqliteRows>> rows = SqliteRows::open(*file_);
    if (!rows) return rows.error();
    rows_ = std::move(rows).value();
    return Status::ok();
  }

  Result<StoreFacts> facts() override {
    StoreFacts facts;
    facts.schema = schema_;
    facts.sqlite = sqlite3_libversion();
    facts.file_bytes = bytes_of_file(file_->path());
    facts.log_bytes = bytes_of_file(file_->path() + "-wal");
    std::error_code ignored;
    facts.is_marked_failed = std::filesystem::exists(file_->path() + ".failed", ignored);
    const std::pair<int64_t*, const char*> counts[] = {{&facts.page_count, sql::kPages},
                                                       {&facts.free_page_count, sql::kFreePages},
                                                       {&facts.message_count, sql::kMessageCountAll}};
    for (const auto& [count, text] : counts) {
      Result<int64_t> answer = file_->read_integer(text);
      if (!answer) return answer.error();
      *count = *answer;
    }
    if (!rows_) return facts;
    Result<SqliteStatement> payloads = file_->prepare(sql::kPayloadFacts);
    if (!payloads) return payloads.error();
    const int outcome = payloads->step();
    if (outcome != SQLITE_ROW) return trouble("measure the payloads of", outcome);
    facts.payload_count = payloads->integer(0);
    facts.payload_bytes = payloads->integer(1);
    facts.packed_bytes = payloads->integer(2);
    return facts;
  }

  Result<RunTallies> tally(RunId after, int64_t run_count_max) override {
    RunTallies answer;
    RunId last = 0;
    STEPWELL_TRY(find_slice(after, run_count_max, last, answer.run_count));
    Result<SqliteStatement> list = file_->prepare(sql::kTally);
    if (!list) return list.error();
    list->bind(after, last);
    int outcome = SQLITE_ROW;
    while ((outcome = list->step()) == SQLITE_ROW) {
      RunTally& each = answer.tallies.emplace_back();
      each.workflow = list->bytes(0);
      each.status = static_cast<RunStatus>(list->integer(1));
      each.run_count = list->integer(2);
      each.event_count = list->integer(3);
      each.payload_bytes = list->integer(4);
      each.history_bytes = list->integer(5);
      each.oldest_at = list->integer(6);
      each.newest_at = list->integer(7);
      each.largest_bytes = list->integer(8);
      each.largest = list->integer(9);
    }
    if (outcome != SQLITE_DONE) return trouble("measure the runs of", outcome);
    answer.after = answer.run_count < run_count_max ? 0 : last;
    return answer;
  }

  Result<std::vector<std::string>> check_pages(bool is_quick) override {
    Result<SqliteStatement> check =
        file_->prepare(is_quick ? "PRAGMA quick_check(100)" : "PRAGMA integrity_check(100)");
    if (!check) return check.error();
    std::vector<std::string> found;
    int outcome = SQLITE_ROW;
    while ((outcome = check->step()) == SQLITE_ROW && found.size() < kFindingsMax) found.push_back(check->bytes(0));
    // Damage can be too great even for the check.
    if ((outcome & 0xFF) == SQLITE_CORRUPT || (outcome & 0xFF) == SQLITE_NOTADB) {
      found.emplace_back(sqlite3_errmsg(file_->connection()));
    } else if (outcome != SQLITE_DONE && outcome != SQLITE_ROW) {
      return trouble("check", outcome);
    }
    if (found.size() == 1 && found.front() == "ok") found.clear();
    return found;
  }

  Result<Findings> check_runs(RunId after, int64_t run_count_max) override {
    Findings answer;
    RunId last = 0;
    STEPWELL_TRY(find_slice(after, run_count_max, last, answer.run_count));
    Result<SqliteStatement> list = file_->prepare(sql::kRunCheck);
    if (!list) return list.error();
    list->bind(after, last);
    std::vector<RunId> with_payloads;
    int outcome = SQLITE_ROW;
    while ((outcome = list->step()) == SQLITE_ROW) {
      check_run(*list, answer);
      with_payloads.push_back(list->integer(0));
    }
    if (outcome != SQLITE_DONE) return trouble("check the runs of", outcome);
    for (const RunId run : with_payloads) STEPWELL_TRY(rows_->check_payloads(run, answer));
    answer.after = answer.run_count < run_count_max ? 0 : last;
    return answer;
  }

  Result<Findings> check_strays() override {
    Findings answer;
    STEPWELL_TRY(need_rows());
    for (const sql::StrayCheck& check : sql::kStrays) {
      Result<SqliteStatement> list = file_->prepare(check.text);
      if (!list) return list.error();
      int outcome = SQLITE_ROW;
      while ((outcome = list->step()) == SQLITE_ROW) answer.findings.push_back({list->integer(0), check.what});
      if (outcome != SQLITE_DONE) return trouble("look for strays in", outcome);
    }
    Result<SqliteStatement> blobs = file_->prepare(sql::kBlobsMiscounted);
    if (!blobs) return blobs.error();
    int outcome = SQLITE_ROW;
    while ((outcome = blobs->step()) == SQLITE_ROW) {
      const std::string name = "payload " + std::to_string(blobs->integer(0));
      answer.findings.push_back({0, blobs->integer(3) == 0
                                        ? name + " is not there"
                                        : name + " is counted " + std::to_string(blobs->integer(1)) +
                                              " times and used " + std::to_string(blobs->integer(2)) + " times"});
    }
    if (outcome != SQLITE_DONE) return trouble("count the payloads of", outcome);
    return answer;
  }

  Result<RunRecords> read(RunId after, int64_t run_count_max, int64_t bytes_max) override {
    RunRecords records;
    STEPWELL_TRY(need_rows());
    STEPWELL_TRY(rows_->list_records(after, run_count_max, bytes_max, records));
    return records;
  }

  Result<ImportCounts> add(const std::vector<RunRecord>& records) override {
    ImportCounts counts;
    const auto add_all = [&](Status& refusal) {
      for (const RunRecord& record : records) {
        STEPWELL_TRY(rows_->add_record(record, counts, refusal));
        if (!refusal.is_ok()) break;
      }
      return Status::ok();
    };
    STEPWELL_TRY(change(add_all));
    return counts;
  }

  Result<StoreSettings> settings() override {
    StoreSettings settings;
    STEPWELL_TRY(need_rows());
    STEPWELL_TRY(rows_->list_settings(settings));
    return settings;
  }

  Status add_settings(const StoreSettings& settings) override {
    return change([&](Status& refusal) { return rows_->add_settings(settings, refusal); });
  }

  Status back_up(const std::string& target) override {
    Result<int64_t> bytes = bytes_in_use();
    if (!bytes) return bytes.error();
    STEPWELL_TRY(detail::check_target(target, *bytes));
    const std::string partial = target + ".partial";
    STEPWELL_TRY(copy_to(partial));
    return detail::put_in_place(partial, target);
  }

  Status compact() override {
    Result<int64_t> bytes = bytes_in_use();
    if (!bytes) return bytes.error();
    const std::string copy = file_->path() + ".compact";
    std::error_code ignored;
    std::filesystem::remove(copy, ignored);  // of one that was interrupted
    STEPWELL_TRY(detail::check_target(copy, *bytes));
    STEPWELL_TRY(copy_to(copy));
    rows_.reset();
    return file_->close_and_take_over(copy);
  }

  void interrupt() override { is_interrupted_ = true; }

  Status close() override {
    rows_.reset();
    return file_->close();
  }

 private:
  static constexpr int64_t kLogBytesMax = 64 << 20;

  // In one transaction, or not at all: when it fails, or refuses.
  Status change(const std::function<Status(Status& refusal)>& work) {
    STEPWELL_TRY(need_rows());
    STEPWELL_TRY(rows_->begin());
    Status refusal;
    Status status = work(refusal);
    if (status.is_ok() && refusal.is_ok()) status = rows_->commit();
    if (status.is_ok() && refusal.is_ok()) {
      return file_->wal_bytes() > kLogBytesMax ? file_->checkpoint() : Status::ok();
    }
    rows_->roll_back();
    // Names and counts that were rolled back are forgotten too.
    if (const Status again = begin(); status.is_ok() && !again.is_ok()) status = again;
    return status.is_ok() ? refusal : status;
  }

  // Whoever interrupts while the disk takes the copy in is heard, too: SQLite has nothing to do by then.
  Status copy_to(const std::string& path) {
    STEPWELL_TRY(detail::copy_whole(file_->connection(), path));
    if (!is_interrupted_) return Status::ok();
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    return detail::copy_stopped(path);
  }

  [[nodiscard]] int is_stopped() const { return is_interrupted_ ? 1 : 0; }

  Status need_rows() const {
    if (rows_) return Status::ok();
    return {StatusKind::kInvalid, code::kStoreSchema,
            file_->path() + " has schema version " + std::to_string(schema_) + ", and this needs version " +
                std::to_string(detail::kSchemaVersion) +
                ": back it up, then run stepwell store compact, which brings it up"};
  }

  [[nodiscard]] Status trouble(const char* doing, int outcome) const {
    if ((outcome & 0xFF) == SQLITE_INTERRUPT) {
      return {StatusKind::kCancelled, code::kRunCancelled, "stopped; " + file_->path() + " is as it was"};
    }
    return file_->fault(doing, outcome);
  }

  // The runs from `after` to `last`, so that a query has a range instead of a limit.
  Status find_slice(RunId after, int64_t run_count_max, RunId& last, int64_t& count) {
    STEPWELL_TRY(need_rows());
    Result<SqliteStatement> find = file_->prepare(sql::kRunsAfter);
    if (!find) return find.error();
    const int outcome = find->bind(after, run_count_max).step();
    if (outcome != SQLITE_ROW) return trouble("list the runs of", outcome);
    last = find->integer_or(0, after);
    count = find->integer(1);
    return Status::ok();
  }

  static void check_run(const SqliteStatement& row, Findings& answer) {
    const RunId run = row.integer(0);
    const auto add = [&](std::string what) { answer.findings.push_back({run, std::move(what)}); };
    const int64_t places = row.integer(1);
    const int64_t known = row.integer_or(2, -1);
    const int64_t seen = row.integer(3);
    const int64_t next = row.integer(4);
    const bool is_trimmed = row.integer(5) != 0;
    if (places == 0) add("it stands nowhere: not queued, waiting, leased or finished");
    if (places > 1) add("it stands in " + std::to_string(places) + " places at once");
    if (seen != next)
      add("its history has a gap: " + std::to_string(seen) + " events, the last is number " + std::to_string(next - 1));
    if (!is_trimmed && known >= 0 && known != seen) {
      add("its row counts " + std::to_string(known) + " events, the history has " + std::to_string(seen));
    }
    if (row.integer(6) != 0 && row.integer(7) != run) add("its key does not lead to it");
    if (row.integer(8) == 0) add("a column holds a value of the wrong kind");
    if (row.integer(9) == 0) add("its workflow or queue has no name");
    if (!is_final(static_cast<RunStatus>(row.integer(10)))) add("it is finished with a status that is not final");
    if (row.integer(11) != 0) add("it has ended and still holds messages");
  }

  Result<int64_t> bytes_in_use() {
    Result<int64_t> pages = file_->read_integer(sql::kPages);
    if (!pages) return pages;
    Result<int64_t> unused = file_->read_integer(sql::kFreePages);
    if (!unused) return unused;
    return (*pages - *unused) * 4096;
  }

  std::unique_ptr<SqliteFile> file_;
  std::unique_ptr<SqliteRows> rows_;  // none for a file of an older schema
  int64_t schema_ = 0;
  std::atomic<bool> is_interrupted_ = false;
};

}  // namespace

Result<std::unique_ptr<StoreFile>> StoreFile::open(const std::string& path, StoreAccess access) {
  std::error_code failed;
  SqliteOptions options;
  options.path = path;
  options.wal_bytes_initial = 0;
  if (access == StoreAccess::kChange && !std::filesystem::exists(path, failed)) {
    return Status(StatusKind::kInvalid, code::kStoreOpen, "cannot open " + path + ": there is no such file");
  }
  Result<std::unique_ptr<SqliteFile>> file =
      access == StoreAccess::kLook ? SqliteFile::open_as_is(path) : SqliteFile::open(options);
  if (!file) return file.error();
  auto store = std::make_unique<SqliteStoreFile>(std::move(file).value());
  STEPWELL_TRY(store->begin());
  return std::unique_ptr<StoreFile>(std::move(store));
}

}  // namespace stepwell
