// Store speed, beside a bare SQLite loop on the same disk in the same run. Usage: store_bench [folder] [rounds]
//
// Compare the ratios, not the absolutes: disks differ. Each line is the median of the rounds, which are interleaved.
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "contract/test_loop.h"
#include "store/memory_store.h"
#include "store/sqlite_store.h"

namespace {

using namespace stepwell;
using stepwell::testing::TestLoop;

constexpr size_t kPayloadBytes = 200;
constexpr RunId kFirstRun = RunId{1} << 56;  // as wide as real ones

std::map<std::string, std::vector<double>> g_rates;
std::vector<std::string> g_order;

void note(const std::string& name, double rate) {
  if (!g_rates.contains(name)) g_order.push_back(name);
  g_rates[name].push_back(rate);
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "store_bench: %s\n", why.c_str());
  std::exit(1);
}

Transition creation(RunId run) {
  Transition transition;
  transition.run = run;
  transition.at = 1'790'000'000'000;
  transition.create = std::make_unique<NewRun>();
  transition.create->workflow = "triage";
  transition.create->queue = "default";
  transition.create->input = std::string(kPayloadBytes, 'x');
  return transition;
}

void remove_database(const std::string& path) {
  for (const char* suffix : {"", "-wal", "-shm", ".lock"}) std::filesystem::remove(path + suffix);
}

// What plain SQLite does with one insert a transaction, the way most programs use it.
class BareLoop {
 public:
  BareLoop(const std::string& path, const char* pragmas) {
    remove_database(path);
    if (sqlite3_open(path.c_str(), &connection_) != SQLITE_OK) fail("cannot open the bare database");
    execute(pragmas);
    execute("CREATE TABLE runs(run INTEGER PRIMARY KEY, status, token, input BLOB)");
    begin_ = prepare("BEGIN IMMEDIATE");
    commit_ = prepare("COMMIT");
    insert_ = prepare("INSERT INTO runs VALUES(?1, 0, 0, ?2)");
  }
  ~BareLoop() {
    for (sqlite3_stmt* statement : {begin_, commit_, insert_}) sqlite3_finalize(statement);
    sqlite3_close(connection_);
  }
  BareLoop(const BareLoop&) = delete;
  BareLoop& operator=(const BareLoop&) = delete;

  double rate(int count) {
    const std::string input(kPayloadBytes, 'x');
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i) {
      step(begin_);
      sqlite3_bind_int64(insert_, 1, kFirstRun + next_++);
      sqlite3_bind_blob(insert_, 2, input.data(), static_cast<int>(input.size()), SQLITE_STATIC);
      step(insert_);
      step(commit_);
    }
    return count / seconds_since(begin);
  }

 private:
  void execute(const char* sql) {
    if (sqlite3_exec(connection_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail(sqlite3_errmsg(connection_));
  }
  sqlite3_stmt* prepare(const char* sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(connection_, sql, -1, &statement, nullptr) != SQLITE_OK) fail(sqlite3_errmsg(connection_));
    return statement;
  }
  void step(sqlite3_stmt* statement) {
    if (sqlite3_step(statement) != SQLITE_DONE) fail(sqlite3_errmsg(connection_));
    sqlite3_reset(statement);
  }

  sqlite3* connection_ = nullptr;
  sqlite3_stmt* begin_ = nullptr;
  sqlite3_stmt* commit_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  RunId next_ = 0;
};

void expect_ok(const std::vector<CommitAnswer>& answers) {
  for (const CommitAnswer& answer : answers) {
    if (!answer.status.is_ok()) fail(answer.status.to_string());
  }
}

class StoreLoop {
 public:
  explicit StoreLoop(const std::string& path) {
    if (path.empty()) {
      store_ = open_memory_store(loop_);
      return;
    }
    remove_database(path);
    SqliteOptions options;
    options.path = path;
    auto opened = open_sqlite_store(loop_, options);
    if (!opened) fail(opened.error().to_string());
    store_ = std::move(opened).value();
  }
  ~StoreLoop() {
    bool is_closed = false;
    store_->close([&](const Status& status) {
      if (!status.is_ok()) fail(status.to_string());
      is_closed = true;
    });
    loop_.run_until([&] { return is_closed; });
  }
  StoreLoop(const StoreLoop&) = delete;
  StoreLoop& operator=(const StoreLoop&) = delete;

  // `callers` callers, each awaiting its commit of one creation before the next.
  double singles(int callers, int count) {
    int sent = 0;
    int answered = 0;
    const auto begin = std::chrono::steady_clock::now();
    const auto next = [&](auto& self) -> void {
      if (sent == count) return;
      ++sent;
      std::vector<Transition> one;
      one.push_back(creation(kFirstRun + next_++));
      store_->commit(std::move(one), [&](const std::vector<CommitAnswer>& answers) {
        expect_ok(answers);
        ++answered;
        self(self);
      });
    };
    for (int i = 0; i < callers; ++i) next(next);
    loop_.run_until([&] { return answered == count; }, 120'000);
    return count / seconds_since(begin);
  }

  double creations(int group, int count) {
    int answered = 0;
    const auto begin = std::chrono::steady_clock::now();
    while (answered < count) {
      std::vector<Transition> many;
      many.reserve(static_cast<size_t>(group));
      for (int i = 0; i < group; ++i) many.push_back(creation(kFirstRun + next_++));
      const int target = answered + group;
      store_->commit(std::move(many), [&](const std::vector<CommitAnswer>& answers) {
        expect_ok(answers);
        answered += static_cast<int>(answers.size());
      });
      loop_.run_until([&] { return answered == target; });
    }
    return answered / seconds_since(begin);
  }

  // Ends of the last group and the claim of the next in one SQL transaction, until the queue is empty.
  double drain(int group) {
    int ended = 0;
    std::vector<RunHistory> held;
    const auto begin = std::chrono::steady_clock::now();
    while (true) {
      std::vector<Transition> ends;
      for (const RunHistory& history : held) {
        Transition transition;
        transition.run = history.row.run;
        transition.token = history.row.token;
        transition.at = 1'790'000'000'500;
        transition.end = RunEnd{RunStatus::kSucceeded, "null"};
        ends.push_back(std::move(transition));
      }
      ended += static_cast<int>(ends.size());
      bool is_claimed = false;
      store_->commit(std::move(ends), [](const std::vector<CommitAnswer>& answers) { expect_ok(answers); });
      store_->claim(ClaimRequest{"default", group, 7, 1'790'000'000'000, 1'790'000'030'000},
                    [&](Result<ClaimAnswer> claimed) {
                      if (!claimed) fail(claimed.error().to_string());
                      held = std::move(claimed->runs);
                      is_claimed = true;
                    });
      loop_.run_until([&] { return is_claimed; });
      if (held.empty()) return ended / seconds_since(begin);
    }
  }

  [[nodiscard]] int64_t created() const { return next_; }

 private:
  TestLoop loop_;
  std::unique_ptr<Store> store_;
  RunId next_ = 0;
};

double resident_mb() {
  std::ifstream statm("/proc/self/statm");
  double total = 0;
  double resident = 0;
  statm >> total >> resident;
  return resident * 4096 / 1e6;
}

void run_round(const std::string& folder, bool is_first) {
  constexpr const char* kPlain = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL";
  constexpr const char* kTuned =
      "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0";
  const std::string path = folder + "/store_bench.db";
  const std::string bare_path = folder + "/store_bench_bare.db";
  {
    BareLoop plain(bare_path, kPlain);
    note("bare sqlite, one at a time", plain.rate(2000));
  }
  {
    BareLoop tuned(bare_path, kTuned);
    note("bare sqlite, exclusive, own checkpoints", tuned.rate(2000));
  }
  remove_database(bare_path);
  {
    StoreLoop store(path);
    note("store, one at a time", store.singles(1, 2000));
    note("store, 16 callers", store.singles(16, 10'000));
    note("store, 64 callers", store.singles(64, 40'000));
    store.drain(256);
    note("store, create in groups of 256", store.creations(256, 100'000));
    note("store, end + claim in groups of 256", store.drain(256));
    if (is_first) {
      std::printf("resident: %.1f MB\n", resident_mb());
    }
  }
  if (is_first) {
    StoreLoop fresh(path);
    fresh.creations(256, 100'000);
    fresh.drain(256);
  }
  if (is_first) {
    struct stat file{};
    if (stat(path.c_str(), &file) == 0)
      std::printf("database: %.0f bytes a finished run\n", static_cast<double>(file.st_size) / 100'096);
  }
  remove_database(path);
  StoreLoop memory("");
  note("memory, create in groups of 256", memory.creations(256, 50'000));
  note("memory, end + claim in groups of 256", memory.drain(256));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : ".";
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
  std::printf("SQLite %s, durability full, inputs of %zu bytes, %d rounds\n", sqlite_version().c_str(), kPayloadBytes,
              rounds);
  for (int round = 0; round < rounds; ++round) run_round(folder, round == 0);
  for (const std::string& name : g_order) {
    std::vector<double>& rates = g_rates[name];
    std::sort(rates.begin(), rates.end());
    const double median = rates[rates.size() / 2];
    std::printf("%-42s %9.0f/s  %7.2f us  (%.0f..%.0f)\n", name.c_str(), median, 1e6 / median, rates.front(),
                rates.back());
  }
  return 0;
}
