// Files with flipped bytes: a store that opens one names the damage or answers; it never takes its process along.
#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "contract/store_asks.h"
#include "contract/test_loop.h"
#include "stepwell/engine.h"
#include "store/sqlite_store.h"

namespace stepwell::testing {
namespace {

constexpr uint64_t kSeeds = 200;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

class SqliteDamageTest : public ::testing::Test {
 protected:
  SqliteDamageTest() {
    std::string name = (std::filesystem::temp_directory_path() / "stepwell_damage_XXXXXX").string();
    folder_ = mkdtemp(name.data()) == nullptr ? std::string() : name;
    options_.path = folder_ + "/runs.db";
    options_.wal_bytes_initial = 0;
    options_.durability = Durability::kRelaxed;  // nothing here is worth a sync
  }
  ~SqliteDamageTest() override { std::filesystem::remove_all(folder_); }

  // Runs in every state, with events of every kind. Answers the file's bytes, and its WAL's when it is not closed.
  std::map<std::string, std::string> make_file(bool is_closed) {
    TestLoop loop;
    auto store = open_sqlite_store(loop, options_);
    StoreAsks asks(loop, **store);
    for (RunId run = 1; run <= 40; ++run) {
      Transition made = creation(run, std::string(20, 'i'), run % 2 == 0 ? "key " + std::to_string(run) : "");
      if (run % 3 == 0) made.create->version = "v1";
      asks.commit(batch(std::move(made)));
    }
    for (const RunHistory& claimed : asks.claim(30)) {
      const RunId run = claimed.row.run;
      asks.commit(batch(recording(run, 1, 0,
                                  {step_event("sleep", "1750000000000", EventKind::kTimerSet),
                                   step_event("child", std::to_string(run + 900), EventKind::kChildStarted),
                                   step_event("failed", "{}", EventKind::kStepAttemptFailed),
                                   step_event("step", std::string(static_cast<size_t>(run) * 9, 's'))}),
                        telling(message_to(run, run * 10, "signal:go", "now", "once"))));
      if (run % 4 == 0) asks.commit(batch(ending(run, 1, 4)));
      Transition parked = parking(run, 1, run % 3 == 0 ? 12'345 : -1, 1, run % 5 == 0);
      parked.first_seq = 4;
      if (run % 4 == 1) asks.commit(batch(std::move(parked)));
    }
    std::map<std::string, std::string> files;
    if (is_closed) (void)asks.close();
    for (const char* suffix : {"", "-wal"}) {
      if (std::filesystem::exists(options_.path + suffix)) files[suffix] = read_file(options_.path + suffix);
    }
    return files;
  }

  void check_refusal(const Status& status) {
    if (status.is_ok()) return;
    const bool is_named = status.code() == code::kStoreIo || status.code() == code::kStoreCorrupt ||
                          status.code() == code::kStoreOpen || status.code() == code::kStoreSchema;
    EXPECT_TRUE(is_named) << status.to_string();
    EXPECT_NE(status.message().find("runs.db"), std::string::npos) << status.to_string();
    ++refused_;
  }

  // Everything that an engine asks, and what it makes of the answers.
  void use() {
    TestLoop loop;
    auto store = open_sqlite_store(loop, options_);
    if (!store) return check_refusal(store.error());
    StoreAsks asks(loop, **store);
    FindRequest all;
    all.with_events = true;
    all.count_max = 100;
    const auto found = asks.find(all);
    check_refusal(found.error());
    (void)(*store)->due(20'000, 100, [](const Result<DueAnswer>&) {});
    const auto claimed = asks.claim(ClaimRequest{"default", 100, 1, 10'000, 20'000});
    check_refusal(claimed.error());
    if (found && claimed) ++answered_;
    for (const auto& histories : {found, claimed}) {
      if (!histories) continue;
      for (const RunHistory& history : *histories) {
        RunMachine machine(history, 1);
        Input taken_up;
        taken_up.kind = InputKind::kTakenUp;
        (void)machine.decide(std::move(taken_up), 0);
      }
    }
    check_refusal(asks.commit_one(creation(9'000, "in", "new")).status);
    check_refusal(asks.depth().error());
    check_refusal(asks.close());
  }

  void flip_and_use(const std::map<std::string, std::string>& files, uint64_t seed) {
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) std::filesystem::remove(entry.path());
    uint64_t random = seed * 0x9E3779B97F4A7C15ULL;
    for (auto [suffix, bytes] : files) {
      // Half of them where the headers are: of the file, or of a page.
      for (int64_t left = 1 + detail::random_up_to(random, 7); left > 0; --left) {
        auto at = static_cast<size_t>(detail::random_up_to(random, static_cast<int64_t>(bytes.size()) - 1));
        if (detail::random_up_to(random, 1) == 0) at = at / 4096 * 4096 + at % 128;
        if (at >= bytes.size()) continue;
        bytes[at] = static_cast<char>(bytes[at] ^ (1 + detail::random_up_to(random, 254)));
      }
      write_file(options_.path + suffix, bytes);
    }
    SCOPED_TRACE("seed " + std::to_string(seed));
    use();
  }

  std::string folder_;
  SqliteOptions options_;
  int refused_ = 0;
  int answered_ = 0;
};

TEST_F(SqliteDamageTest, FlippedBytesAreNamedOrHarmless) {
  const auto files = make_file(/*is_closed=*/true);
  for (uint64_t seed = 0; seed < kSeeds && !HasFailure(); ++seed) flip_and_use(files, seed);
  EXPECT_GT(refused_, 0);
  EXPECT_GT(answered_, 0);
  std::printf("flipped bytes: %d files, %d refusals named the damage\n", static_cast<int>(kSeeds), refused_);
}

TEST_F(SqliteDamageTest, FlippedBytesOfTheLogAreNamedOrHarmless) {
  const auto files = make_file(/*is_closed=*/false);
  ASSERT_TRUE(files.contains("-wal"));
  for (uint64_t seed = 0; seed < kSeeds / 4 && !HasFailure(); ++seed) flip_and_use(files, seed);
  EXPECT_GT(refused_ + answered_, 0);
}

}  // namespace
}  // namespace stepwell::testing
