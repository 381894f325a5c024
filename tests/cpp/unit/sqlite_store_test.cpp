// What only the SQLite store promises: who may open a file, what survives, and what happens when the disk fails.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "contract/store_asks.h"
#include "contract/store_subjects.h"
#include "contract/test_loop.h"
#include "faults/fault_vfs.h"
#include "faults/one_life.h"
#include "store/sql_schema.h"
#include "store/sqlite_store.h"

namespace stepwell::testing {
namespace {

class SqliteStoreTest : public ::testing::Test {
 protected:
  SqliteStoreTest() {
    std::string name = (std::filesystem::temp_directory_path() / "stepwell_sqlite_XXXXXX").string();
    folder_ = mkdtemp(name.data()) == nullptr ? std::string() : name;
    options_.path = folder_ + "/runs.db";
  }
  ~SqliteStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

  Status open() {
    store_.reset();
    auto opened = open_sqlite_store(loop_, options_);
    if (!opened) return opened.error();
    store_ = std::move(opened).value();
    return Status::ok();
  }
  StoreAsks asks() { return {loop_, *store_}; }
  Status open_elsewhere(const std::string& path) {
    SqliteOptions options = options_;
    options.path = path;
    TestLoop loop;
    const auto opened = open_sqlite_store(loop, options);
    return opened ? Status::ok() : opened.error();
  }
  void run_sql(const std::string& path, const char* sql) {
    sqlite3* connection = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &connection), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(connection, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(connection);
    sqlite3_close(connection);
  }
  std::string text_of(const char* sql) {
    sqlite3* connection = nullptr;
    sqlite3_open(options_.path.c_str(), &connection);
    std::string text;
    sqlite3_exec(
        connection, sql,
        [](void* out, int, char** values, char**) {
          static_cast<std::string*>(out)->append(values[0] == nullptr ? "NULL" : values[0]);
          return 0;
        },
        &text, nullptr);
    sqlite3_close(connection);
    return text;
  }

  std::string folder_;
  TestLoop loop_;
  SqliteOptions options_;
  std::unique_ptr<Store> store_;
};

bool holds(const Status& status, const std::string& part) { return status.message().find(part) != std::string::npos; }

TEST_F(SqliteStoreTest, SecondEngineOfTheProcessIsRefused) {
  ASSERT_TRUE(open().is_ok());
  const std::string link = folder_ + "/link.db";
  std::filesystem::create_symlink(options_.path, link);
  for (const std::string& path : {options_.path, folder_ + "/./runs.db", link}) {
    const Status status = open_elsewhere(path);
    EXPECT_EQ(status.kind(), StatusKind::kConflict);
    EXPECT_EQ(status.code(), code::kStoreLocked);
    EXPECT_TRUE(holds(status, "runs.db")) << status.to_string();
    EXPECT_TRUE(holds(status, "process " + std::to_string(getpid()))) << status.to_string();
  }
  EXPECT_TRUE(asks().commit_one(creation(1)).status.is_ok()) << "the owner must not notice";
  ASSERT_TRUE(asks().close().is_ok());
  EXPECT_TRUE(open_elsewhere(options_.path).is_ok());
}

// Forks a child that opens the store, runs `body`, tells us with one byte and waits to be killed.
template <typename Body>
pid_t fork_owner(const SqliteOptions& options, int& ready, Body body) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    TestLoop loop;
    auto opened = open_sqlite_store(loop, options);
    if (!opened) _exit(1);
    body(loop, **opened, ends[1]);
    pause();
    _exit(0);
  }
  close(ends[1]);
  ready = ends[0];
  return child;
}

void kill_owner(pid_t child) {
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST_F(SqliteStoreTest, AnotherProcessIsNamedAndItsDeathFreesTheFile) {
  int ready = -1;
  const pid_t child = fork_owner(options_, ready, [](TestLoop& loop, Store& store, int tell) {
    StoreAsks asks(loop, store);
    asks.commit(batch(creation(1), creation(2)));
    asks.claim(1);
    (void)!write(tell, "x", 1);
  });
  char byte = 0;
  ASSERT_EQ(read(ready, &byte, 1), 1);
  const Status refused = open();
  EXPECT_EQ(refused.code(), code::kStoreLocked);
  EXPECT_TRUE(holds(refused, "process " + std::to_string(child))) << refused.to_string();
  kill_owner(child);
  close(ready);
  ASSERT_TRUE(open().is_ok());
  // What the dead engine held is queued again, with its mark.
  EXPECT_EQ(asks().depth().value(), 2);
  const RunRow row = asks().load(1).value().row;
  EXPECT_EQ(row.status, RunStatus::kQueued);
  EXPECT_EQ(row.token, 1);
  EXPECT_EQ(row.claims, 1);
  EXPECT_EQ(asks().claim(1).at(0).row.token, 2);
}

TEST_F(SqliteStoreTest, KilledProcessLosesNothingItAnswered) {
  for (int round = 0; round < 12; ++round) {
    int ready = -1;
    const pid_t child = fork_owner(options_, ready, [round](TestLoop& loop, Store& store, int tell) {
      for (RunId i = 1;; ++i) {
        const RunId run = RunId{round} * 1'000'000 + i;
        store.commit(batch(creation(run, "in", "key " + std::to_string(run))), [&, run](auto answers) {
          if (answers[0].status.is_ok()) (void)!write(tell, &run, sizeof run);
        });
        if (i % 8 == 0) (void)StoreAsks(loop, store).depth();  // let the answers in
      }
    });
    std::vector<RunId> answered;
    RunId run = 0;
    const size_t count = 20 + static_cast<size_t>(round) * 37;
    while (answered.size() < count && read(ready, &run, sizeof run) == sizeof run) answered.push_back(run);
    kill_owner(child);
    while (read(ready, &run, sizeof run) == sizeof run) answered.push_back(run);
    close(ready);
    ASSERT_GE(answered.size(), count);
    ASSERT_TRUE(open().is_ok());
    for (const RunId kept : answered) ASSERT_TRUE(asks().load(kept)) << run_name(kept);
    store_.reset();
  }
  EXPECT_EQ(text_of("PRAGMA integrity_check"), "ok");
}

TEST_F(SqliteStoreTest, EverythingSurvivesReopening) {
  ASSERT_TRUE(open().is_ok());
  asks().commit(batch(creation(1, "in", "k", 5), creation(2), creation(3)));
  asks().claim(2);
  asks().commit(batch(recording(1, 1, 0, {step_event("a", "1")}), ending(2, 1, 0, "done")));
  ASSERT_TRUE(asks().close().is_ok());
  EXPECT_FALSE(std::filesystem::exists(options_.path + "-wal"));
  ASSERT_TRUE(open().is_ok());
  EXPECT_EQ(asks().load(2).value().row.result, "done");
  EXPECT_EQ(asks().load(2).value().row.status, RunStatus::kSucceeded);
  EXPECT_EQ(asks().load(1).value().events.at(0).payload, "1");
  EXPECT_EQ(asks().commit_one(creation(9, "in", "k", 5)).attached->run, 1);
  EXPECT_EQ(asks().claim(9).size(), 2U);
  EXPECT_EQ(asks().commit_one(ending(1, 1, 1)).status.kind(), StatusKind::kFenced);
}

// Looking at a run without a version made the next name skip an id; after reopening a new name then took a used one,
// which stopped the store.
TEST_F(SqliteStoreTest, NewNamesDoNotMeetOldOnes) {
  ASSERT_TRUE(open().is_ok());
  asks().commit(batch(creation(1)));
  ASSERT_TRUE(asks().load(1));
  Transition other = creation(2);
  other.create->workflow = "second";
  ASSERT_TRUE(asks().commit_one(std::move(other)).status.is_ok());
  ASSERT_TRUE(open().is_ok());
  Transition third = creation(3);
  third.create->workflow = "third";
  EXPECT_EQ(asks().commit_one(std::move(third)).status.to_string(), "ok");
}

TEST_F(SqliteStoreTest, DestroyedWithoutCloseKeepsWhatWasAccepted) {
  ASSERT_TRUE(open().is_ok());
  for (RunId run = 1; run <= 300; ++run) store_->commit(batch(creation(run)), [](const auto&) {});
  ASSERT_TRUE(open().is_ok());
  EXPECT_EQ(asks().depth().value(), 300);
}

TEST_F(SqliteStoreTest, FileIsPrivateOursAndReadableByPeople) {
  ASSERT_TRUE(open().is_ok());
  asks().commit(batch(creation(0x2A)));
  for (const char* suffix : {"", "-wal", ".lock"}) {
    struct stat file{};
    ASSERT_EQ(stat((options_.path + suffix).c_str(), &file), 0) << suffix;
    EXPECT_EQ(file.st_mode & 0777, 0600U) << suffix;
  }
  ASSERT_TRUE(asks().close().is_ok());
  EXPECT_EQ(text_of("PRAGMA application_id"), std::to_string(0x53574C31));
  EXPECT_EQ(text_of("PRAGMA user_version"), "5");
  EXPECT_EQ(text_of("PRAGMA journal_mode"), "wal");
  EXPECT_EQ(text_of("SELECT run || ' ' || workflow || ' ' || queue || ' ' || status FROM run_list"),
            "r_2a triage default queued");
  EXPECT_FALSE(sqlite_version().empty());
}

TEST_F(SqliteStoreTest, FilesThatAreNotOursAreRefusedAndLeftAlone) {
  const std::string text_path = folder_ + "/notes.txt";
  std::ofstream(text_path) << std::string(5000, 'n');
  Status status = open_elsewhere(text_path);
  EXPECT_EQ(status.kind(), StatusKind::kInvalid);
  EXPECT_EQ(status.code(), code::kStoreOpen);
  EXPECT_TRUE(holds(status, "not an SQLite database")) << status.to_string();
  EXPECT_EQ(std::filesystem::file_size(text_path), 5000U);

  run_sql(options_.path, "CREATE TABLE theirs(x); INSERT INTO theirs VALUES(1)");
  status = open();
  EXPECT_EQ(status.code(), code::kStoreOpen);
  EXPECT_TRUE(holds(status, "another program")) << status.to_string();
  EXPECT_EQ(text_of("PRAGMA journal_mode"), "delete") << "their file was changed";
}

TEST_F(SqliteStoreTest, AnotherProgramInTheFileIsRefused) {
  ASSERT_TRUE(open().is_ok());
  ASSERT_TRUE(asks().close().is_ok());
  sqlite3* shell = nullptr;
  sqlite3_open(options_.path.c_str(), &shell);
  sqlite3_exec(shell, "SELECT count(*) FROM runs", nullptr, nullptr, nullptr);
  const Status status = open();
  EXPECT_EQ(status.code(), code::kStoreLocked) << status.to_string();
  EXPECT_TRUE(holds(status, "another program")) << status.to_string();
  sqlite3_close(shell);
  EXPECT_TRUE(open().is_ok());
}

TEST_F(SqliteStoreTest, OtherSchemaVersionsAreRefused) {
  ASSERT_TRUE(open().is_ok());
  ASSERT_TRUE(asks().close().is_ok());
  run_sql(options_.path, "PRAGMA user_version=7");
  const Status status = open();
  EXPECT_EQ(status.kind(), StatusKind::kInvalid);
  EXPECT_EQ(status.code(), code::kStoreSchema);
  EXPECT_TRUE(holds(status, "schema version 7")) << status.to_string();
}

// A file of the oldest schema, as the program of that day left it.
void make_oldest(const std::string& path) {
  sqlite3* connection = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &connection), SQLITE_OK);
  const std::string text =
      std::string(detail::sql::kSchema) + "PRAGMA application_id=" + std::to_string(detail::sql::kApplicationId) +
      "; PRAGMA user_version=3;" +
      "INSERT INTO names VALUES(1, 'triage'), (2, 'default');"
      "INSERT INTO runs(run, workflow_id, queue_id, created_at, input) VALUES(7, 1, 2, 5, x'616263');"
      "INSERT INTO ready VALUES(2, 0, 7, 0, 0, 0)";
  ASSERT_EQ(sqlite3_exec(connection, text.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(connection);
  sqlite3_close(connection);
}

// Bad inputs 161 and 167: the disk is full, or the power goes, at each operation of a migration.
TEST_F(SqliteStoreTest, MigrationThatDiesAtAnyOperationIsDoneByTheNextOpen) {
  options_.wal_bytes_initial = 0;
  for (const DiskFault::Kind kind : {DiskFault::Kind::kPowerOff, DiskFault::Kind::kFull, DiskFault::Kind::kSyncError}) {
    int64_t at = 0;
    int failures = 0;
    for (bool is_done = false; !is_done; ++at) {
      ASSERT_LT(at, 200) << "the migration never comes through";
      const std::string folder = new_folder();
      options_.path = folder + "/runs.db";
      FaultDisk disk(folder, 1);
      make_oldest(options_.path);
      disk.set_fault({kind, at, false});
      const Status first = open();
      is_done = !disk.has_failed();
      if (!first.is_ok()) {
        ++failures;
        EXPECT_TRUE(first.kind() == StatusKind::kIo || first.code() == code::kStoreOpen) << first.to_string();
      }
      store_.reset();
      disk.heal();
      uint64_t random = 5 + static_cast<uint64_t>(at);
      if (kind == DiskFault::Kind::kPowerOff) disk.cut_power(random);
      ASSERT_TRUE(open().is_ok()) << "after operation " << at;
      EXPECT_EQ(asks().load(7).value().row.input, "abc");
      EXPECT_TRUE(asks().commit_one(creation(9, std::string(9'000, 'x'))).status.is_ok());
      EXPECT_EQ(asks().load(9).value().row.input, std::string(9'000, 'x'));
      ASSERT_TRUE(asks().close().is_ok());
      store_.reset();
      EXPECT_EQ(integrity_of(options_.path), "ok");
      std::filesystem::remove_all(folder);
    }
    EXPECT_GT(failures, 3);
  }
}

TEST_F(SqliteStoreTest, PlacesThatCannotBeWrittenAreRefused) {
  EXPECT_EQ(open_elsewhere("").code(), code::kStoreOpen);
  EXPECT_EQ(open_elsewhere(folder_).code(), code::kStoreOpen);
  EXPECT_EQ(open_elsewhere(folder_ + "/missing/runs.db").code(), code::kStoreOpen);
  std::ofstream(folder_ + "/file") << "x";
  EXPECT_EQ(open_elsewhere(folder_ + "/file/runs.db").code(), code::kStoreOpen);

  const std::string locked = folder_ + "/locked";
  std::filesystem::create_directory(locked);
  chmod(locked.c_str(), 0555);
  chmod(folder_.c_str(), 0755);
  const bool was_root = geteuid() == 0;
  ASSERT_EQ(seteuid(was_root ? 65534 : geteuid()), 0);  // root may write anywhere
  const Status status = open_elsewhere(locked + "/runs.db");
  ASSERT_EQ(seteuid(was_root ? 0 : geteuid()), 0);
  EXPECT_EQ(status.code(), code::kStoreOpen);
  EXPECT_TRUE(holds(status, "ermission denied")) << status.to_string();
}

TEST_F(SqliteStoreTest, DamagedFileIsRefusedOrAnswersWithErrors) {
  options_.wal_bytes_initial = 0;
  ASSERT_TRUE(open().is_ok());
  for (RunId run = 1; run <= 2000; ++run)
    store_->commit(batch(creation(run, std::string(400, 'x'))), [](const auto&) {});
  ASSERT_TRUE(asks().close().is_ok());
  {
    std::fstream file(options_.path, std::ios::in | std::ios::out | std::ios::binary);
    const auto bytes = static_cast<int64_t>(std::filesystem::file_size(options_.path));
    for (int64_t page = 4; page * 4096 < bytes; ++page) {
      file.seekp(page * 4096);
      file << std::string(4096, '\x5A');
    }
  }
  const Status opened = open();
  if (!opened.is_ok()) {
    EXPECT_EQ(opened.code(), code::kStoreCorrupt) << opened.to_string();
    return;
  }
  const Status status = asks().claim(ClaimRequest{"default", 500, 1, 0, 9}).error();
  EXPECT_EQ(status.kind(), StatusKind::kIo) << status.to_string();
  EXPECT_EQ(asks().commit_one(creation(9'000)).status.code(), code::kStoreCorrupt)
      << "a damaged file must take nothing more";
}

// Files may not grow beyond `bytes`: a full disk that needs no root and no mount.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    previous_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, previous_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*previous_)(int) = nullptr;
};

TEST_F(SqliteStoreTest, FailedWritePoisonsAndTheNextOpenRescues) {
  options_.wal_bytes_initial = 0;
  ASSERT_TRUE(open().is_ok());
  ASSERT_TRUE(asks().commit_one(creation(1, "kept")).status.is_ok());
  Status failure;
  {
    const FileSizeLimit full_disk(1 << 20);
    std::vector<Status> answers;
    store_->commit(batch(creation(2, noise(3 << 20)), creation(3)), [&](const auto& given) {
      for (const CommitAnswer& answer : given) answers.push_back(answer.status);
    });
    loop_.run_until([&] { return !answers.empty(); });
    ASSERT_EQ(answers.size(), 2U);
    failure = answers[0];
    EXPECT_EQ(failure.kind(), StatusKind::kIo);
    EXPECT_EQ(failure.code(), code::kStoreIo) << failure.to_string();
    EXPECT_EQ(answers[1].message(), failure.message()) << "the whole transaction failed";
  }
  // Space is back, but nothing is acknowledged any more; reading goes on.
  EXPECT_EQ(asks().commit_one(creation(4)).status.message(), failure.message());
  EXPECT_EQ(asks().claim(ClaimRequest{"default", 1, 1, 0, 9}).error().message(), failure.message());
  EXPECT_EQ(asks().renew(1, 9).message(), failure.message());
  EXPECT_EQ(asks().load(1).value().row.input, "kept");
  EXPECT_EQ(asks().depth().value(), 1);
  EXPECT_TRUE(std::filesystem::exists(options_.path + ".failed"));
  (void)asks().close();

  ASSERT_TRUE(open().is_ok());
  EXPECT_FALSE(std::filesystem::exists(options_.path + ".failed"));
  EXPECT_TRUE(std::filesystem::exists(options_.path + ".broken"));
  EXPECT_EQ(asks().load(1).value().row.input, "kept");
  EXPECT_FALSE(asks().load(2));
  EXPECT_EQ(asks().depth().value(), 1);
  EXPECT_TRUE(asks().commit_one(creation(5)).status.is_ok());
  ASSERT_TRUE(asks().close().is_ok());
  EXPECT_EQ(text_of("PRAGMA integrity_check"), "ok");
}

TEST_F(SqliteStoreTest, InterruptedRescueGoesOn) {
  ASSERT_TRUE(open().is_ok());
  asks().commit(batch(creation(1, "kept")));
  ASSERT_TRUE(asks().close().is_ok());
  // As if the engine had died after the copy was complete and the old file was moved away.
  std::filesystem::copy_file(options_.path, options_.path + ".rescued");
  std::filesystem::rename(options_.path, options_.path + ".broken");
  std::ofstream(options_.path + ".failed") << "";
  ASSERT_TRUE(open().is_ok());
  EXPECT_EQ(asks().load(1).value().row.input, "kept");
  EXPECT_FALSE(std::filesystem::exists(options_.path + ".failed"));
  EXPECT_FALSE(std::filesystem::exists(options_.path + ".rescued"));
}

TEST_F(SqliteStoreTest, FullMailboxAnswersBusyInTurn) {
  options_.waiting_count_max = 4;
  options_.commit_batch_max = 1;
  ASSERT_TRUE(open().is_ok());
  std::vector<RunId> order;
  int busy = 0;
  for (RunId run = 1; run <= 200; ++run) {
    store_->commit(batch(creation(run, std::string(100'000, 'x'))), [&, run](const auto& answers) {
      order.push_back(run);
      if (answers[0].status.kind() == StatusKind::kBusy) {
        ++busy;
        EXPECT_EQ(answers[0].status.code(), code::kBusy);
      }
    });
  }
  loop_.run_until([&] { return order.size() == 200; });
  for (size_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], static_cast<RunId>(i + 1));
  EXPECT_GT(busy, 0);
  EXPECT_EQ(asks().depth().value(), 200 - busy);
}

// A leased run whose step was answered Busy was dropped by its engine, and its lease stayed until the file was opened
// anew.
TEST_F(SqliteStoreTest, WorkInHandIsNeverRefusedForWantOfRoom) {
  options_.waiting_count_max = 4;
  options_.commit_batch_max = 1;
  ASSERT_TRUE(open().is_ok());
  Transition leased = creation(1);
  leased.create->claimed_by = 7;
  ASSERT_TRUE(asks().commit_one(std::move(leased)).status.is_ok());
  int answered = 0;
  int busy = 0;
  for (int64_t seq = 0; seq < 100; ++seq) {
    store_->commit(batch(recording(1, 1, seq, {step_event("s" + std::to_string(seq), "v")})), [&](const auto& answers) {
      ++answered;
      busy += answers[0].status.is_ok() ? 0 : 1;
    });
  }
  loop_.run_until([&] { return answered == 100; });
  EXPECT_EQ(busy, 0);
  EXPECT_EQ(asks().load(1).value().row.event_count, 100);
}

TEST_F(SqliteStoreTest, WalStaysBoundedUnderLoad) {
  options_.wal_bytes_max = 1 << 20;
  options_.wal_bytes_initial = 0;
  options_.durability = Durability::kRelaxed;
  ASSERT_TRUE(open().is_ok());
  for (RunId run = 1; run <= 3000; ++run) {
    asks().commit(batch(creation(run, std::string(2000, 'x'))));
  }
  EXPECT_LT(std::filesystem::file_size(options_.path + "-wal"), 3U << 20);
  EXPECT_GT(std::filesystem::file_size(options_.path), 3U << 20);
}

TEST_F(SqliteStoreTest, ForkedChildLeavesTheFileToItsParent) {
  ASSERT_TRUE(open().is_ok());
  ASSERT_TRUE(asks().commit_one(creation(1)).status.is_ok());
  const pid_t child = fork();
  if (child == 0) {
    store_.reset();
    _exit(0);
  }
  int outcome = -1;
  waitpid(child, &outcome, 0);
  EXPECT_EQ(outcome, 0);
  EXPECT_EQ(open_elsewhere(options_.path).code(), code::kStoreLocked);
  EXPECT_TRUE(asks().commit_one(creation(2)).status.is_ok());
  EXPECT_EQ(asks().depth().value(), 2);
}

}  // namespace
}  // namespace stepwell::testing
