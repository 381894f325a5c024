// Drives the store, and judges the order and the kind of its answers.
#include "faults/one_life.h"

#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "contract/test_loop.h"

namespace stepwell::testing {

namespace {

// The store posts once for each group of calls that it has answered: from then on a power cut may not undo them.
class AnswerLoop final : public TestLoop {
 public:
  explicit AnswerLoop(FaultDisk& disk) : disk_(disk) {}
  void post(MoveFunction<void()> task) override {
    disk_.note(DiskOp::Kind::kAnswered);
    TestLoop::post(std::move(task));
  }

 private:
  FaultDisk& disk_;
};

struct Answer {
  bool is_given = false;
  Status refusal;    // of the whole call
  std::string text;  // what describe says
};

class Driver {
 public:
  Driver(FaultDisk& disk, TestLoop& loop, Store& store, const SeededWork& work)
      : disk_(disk), loop_(loop), store_(store), work_(work), answers_(work.calls().size()) {}

  void drive(OneLife& life) {
    disk_.hold();
    send(0);
    if (!disk_.wait_until_blocked()) life.violation = "the first call never reached the disk";
    for (size_t i = 1; i < answers_.size(); ++i) send(i);
    look();
    bool is_closed = false;
    store_.close([&](Status status) {
      life.closed = std::move(status);
      is_closed = true;
    });
    disk_.release();
    if (!loop_.run_until([&] { return is_closed; })) life.violation = "the store did not close";
    if (life.violation.empty()) judge(life);
  }

 private:
  void send(size_t index) {
    const WorkCall& call = work_.calls()[index];
    Answer& answer = answers_[index];
    const auto keep = [&answer](const auto& result) {
      answer.is_given = true;
      if (result) {
        answer.text = describe(*result);
      } else {
        answer.refusal = result.error();
      }
    };
    switch (call.kind) {
      case WorkCall::Kind::kCommit:
        store_.commit(copy_of(call.transitions), [&answer](const std::vector<CommitAnswer>& given) {
          answer.is_given = true;
          answer.text = describe(given);
          const bool is_refused = std::all_of(given.begin(), given.end(), [](const CommitAnswer& each) {
            return each.status.kind() == StatusKind::kIo;
          });
          if (is_refused) answer.refusal = given.front().status;
        });
        return;
      case WorkCall::Kind::kClaim:
        store_.claim(call.claim, [keep](Result<ClaimAnswer> given) mutable {
          keep(given ? Result<std::vector<RunHistory>>(std::move(given->runs))
                     : Result<std::vector<RunHistory>>(given.error()));
        });
        return;
      case WorkCall::Kind::kDue:
        store_.due(call.now, 3, keep);
        return;
    }
  }

  void look() {
    FindRequest all;
    all.count_max = 1'000'000;
    all.with_events = true;
    store_.find(all, [this](Result<std::vector<RunHistory>> found) { found_ = std::move(found); });
    for (const std::string& key : work_.keys()) {
      FindRequest one;
      one.workflow = "triage";
      one.key = key;
      store_.find(one, [this, key](const Result<std::vector<RunHistory>>& found) {
        if (found) keyed_.emplace_back(key, !found->empty());
      });
    }
  }

  void judge(OneLife& life) {
    bool is_failed = false;
    for (size_t i = 0; i < answers_.size(); ++i) {
      const Answer& answer = answers_[i];
      const std::string name = "call " + std::to_string(i);
      if (!answer.is_given) {
        life.violation = name + " was not answered";
      } else if (!answer.refusal.is_ok()) {
        if (!is_failed) life.refusal = answer.refusal;
        is_failed = true;
        if (answer.refusal.kind() != StatusKind::kIo) life.violation = name + ": " + answer.refusal.to_string();
      } else if (is_failed) {
        life.violation = name + " was acknowledged though one before it had failed";
      } else if (answer.text != work_.calls()[i].answer) {
        life.violation = name + ": expected \"" + work_.calls()[i].answer + "\", got \"" + answer.text + "\"";
      } else {
        ++life.acked_count;
      }
    }
    if (!found_) return;
    life.seen = digest_of(*found_);
    for (const auto& [key, is_found] : keyed_) {
      const bool has_run = std::any_of(found_->begin(), found_->end(),
                                       [&wanted = key](const RunHistory& each) { return each.row.key == wanted; });
      if (has_run != is_found) life.violation = "key \"" + key + "\" and its run were not kept together";
    }
  }

  FaultDisk& disk_;
  TestLoop& loop_;
  Store& store_;
  const SeededWork& work_;
  std::vector<Answer> answers_;
  Result<std::vector<RunHistory>> found_ = Status(StatusKind::kIo, code::kStoreIo, "not answered");
  std::vector<std::pair<std::string, bool>> keyed_;
};

}  // namespace

OneLife live(FaultDisk& disk, const SqliteOptions& options, const SeededWork& work) {
  OneLife life;
  AnswerLoop loop(disk);
  auto opened = open_sqlite_store(loop, options);
  life.log_count_at_open = disk.log().size();
  life.op_count_at_open = disk.op_count();
  life.is_marked = std::filesystem::exists(options.path + ".failed");
  if (!opened) {
    life.opened = opened.error();
    return life;
  }
  Driver(disk, loop, **opened, work).drive(life);
  return life;
}

size_t calls_in(size_t group_count, const SqliteOptions& options, const SeededWork& work) {
  if (group_count == 0) return 0;
  return std::min(work.calls().size(), 1 + (group_count - 1) * static_cast<size_t>(options.commit_batch_max));
}

size_t transactions_in(const SqliteOptions& options, const SeededWork& work) {
  const auto batch = static_cast<size_t>(options.commit_batch_max);
  return 1 + (work.calls().size() - 1 + batch - 1) / batch;
}

std::string integrity_of(const std::string& path) {
  sqlite3* connection = nullptr;
  std::string text;
  const auto append = [](void* out, int, char** values, char**) {
    static_cast<std::string*>(out)->append(values[0] == nullptr ? "NULL" : values[0]);
    return 0;
  };
  int outcome = sqlite3_open_v2(path.c_str(), &connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (outcome == SQLITE_OK) {
    sqlite3_exec(connection, "PRAGMA locking_mode=EXCLUSIVE", nullptr, nullptr, nullptr);
    outcome = sqlite3_exec(connection, "PRAGMA integrity_check", append, &text, nullptr);
  }
  if (outcome != SQLITE_OK) text += sqlite3_errmsg(connection);
  sqlite3_close(connection);
  return text;
}

}  // namespace stepwell::testing
