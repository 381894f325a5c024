#include "store/sqlite_store.h"

#include <pthread.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/mailbox.h"
#include "base/thread_role.h"
#include "store/refusals.h"
#include "store/sqlite_calls.h"
#include "store/sqlite_file.h"
#include "store/sqlite_queue_calls.h"
#include "store/sqlite_rows.h"

namespace stepwell {

namespace {

using detail::SqliteCall;
using Calls = std::vector<std::unique_ptr<SqliteCall>>;
using Inbox = detail::Mailbox<std::unique_ptr<SqliteCall>>;

// Quiet for this long, the store checkpoints what it has.
constexpr int64_t kIdleMs = 100;

// How long the two threads look for each other before they sleep when a caller waits for one commit after the other: a
// little more than a commit takes, and much more than the 5 to 10 microseconds that sleeping and waking take.
constexpr std::chrono::microseconds kPatience{100};

// What the store thread owns: the file, and whether it can still be trusted.
class GroupWriter {
 public:
  GroupWriter(const SqliteOptions& options, std::unique_ptr<detail::SqliteFile> file,
              std::unique_ptr<detail::SqliteRows> rows)
      : wal_bytes_max_(options.wal_bytes_max), file_(std::move(file)), rows_(std::move(rows)) {}

  // Runs the calls of a group, in order, as one transaction. Afterwards each has its answer.
  void run_group(Calls& calls) {
    detail::store_thread.assume();
    const bool has_writes = std::any_of(calls.begin(), calls.end(), [](const auto& call) { return call->is_write(); });
    if (!poison_.is_ok() || !has_writes) {
      read_only(calls);
      return;
    }
    Status status = rows_->begin();
    for (auto call = calls.begin(); call != calls.end() && status.is_ok(); ++call) {
      if (!(*call)->is_refused()) status = (*call)->run(*rows_);
    }
    if (status.is_ok()) status = rows_->commit();
    if (status.is_ok()) {
      run_after(calls);
      return;
    }
    poison(status);
    rows_->roll_back();
    // The reads among them may have seen what was rolled back.
    for (auto& call : calls) call->refuse(poison_);
  }

  [[nodiscard]] bool has_wal() const { return poison_.is_ok() && file_->wal_bytes() > 0; }
  [[nodiscard]] bool is_wal_large() const { return has_wal() && file_->wal_bytes() > wal_bytes_max_; }

  void checkpoint() {
    if (const Status status = file_->checkpoint(); !status.is_ok()) poison(status);
  }

  Status close() {
    rows_.reset();  // its statements would keep the connection open
    return file_->close();
  }

 private:
  void read_only(Calls& calls) STEPWELL_ON(detail::store_thread) {
    for (auto& call : calls) {
      if (call->is_refused()) continue;
      if (call->is_write()) {
        call->refuse(poison_);
      } else if (const Status status = call->run(*rows_); !status.is_ok()) {
        call->refuse(status);
        poison(status);  // a file that cannot be read is not written either
      }
    }
    run_after(calls);
  }

  void run_after(Calls& calls) STEPWELL_ON(detail::store_thread) {
    for (auto& call : calls) {
      if (call->is_refused()) continue;
      if (const Status status = call->run_after(*file_); !status.is_ok()) call->refuse(status);
    }
  }

  void poison(const Status& status) {
    if (!poison_.is_ok()) return;
    poison_ = status;
    file_->mark_failed();
  }

  const int64_t wal_bytes_max_;
  std::unique_ptr<detail::SqliteFile> file_;
  std::unique_ptr<detail::SqliteRows> rows_;
  Status poison_;
};

class SqliteStore final : public Store {
 public:
  SqliteStore(Loop& loop, const SqliteOptions& options, std::unique_ptr<GroupWriter> writer)
      : loop_(loop),
        options_(options),
        writer_(std::move(writer)),
        mailbox_(std::make_unique<Inbox>(static_cast<size_t>(options.waiting_count_max))) {}

  // Without close: what was accepted is still committed, but nobody is told.
  ~SqliteStore() override {
    *is_alive_ = false;
    if (getpid() != pid_) {
      // A forked child has neither the thread nor the right to touch the file. SQLite's handles must not even be
      // closed, and a condition variable with a waiter in it waits for ever to be destroyed.
      (void)thread_.release();
      (void)writer_.release();
      (void)mailbox_.release();
      return;
    }
    mailbox_->close();
    if (thread_ && thread_->joinable()) thread_->join();
  }
  SqliteStore(const SqliteStore&) = delete;
  SqliteStore& operator=(const SqliteStore&) = delete;

  Status start() {
    // Signals are for the host's threads: Python's handlers belong to its main thread.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    Status status;
    try {
      thread_ = std::make_unique<std::thread>([this] { serve(); });
    } catch (const std::system_error& error) {
      status = Status(StatusKind::kIo, code::kStoreOpen, std::string("cannot start the store thread: ") + error.what());
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return status;
  }

  void commit(std::vector<Transition> transitions, CommitDone done) override {
    auto call = std::make_unique<detail::CommitCall>(std::move(transitions), std::move(done));
    if (call->is_single()) loop_.expect_post(kPatience.count());
    send(std::move(call));
  }

  void claim(ClaimRequest request, ClaimDone done) override {
    send(std::make_unique<detail::ClaimCall>(std::move(request), std::move(done)));
  }

  void load(RunId run, MoveFunction<void(Result<RunHistory>)> done) override {
    FindRequest request;
    request.run = run;
    request.with_events = true;
    find(std::move(request), [run, done = std::move(done)](Result<std::vector<RunHistory>> found) mutable {
      if (!found) {
        done(found.error());
      } else if (found->empty()) {
        done(detail::run_missing(run));
      } else {
        done(std::move(found->front()));
      }
    });
  }

  void renew(OwnerId, WallMs, StatusDone done) override { send(std::make_unique<detail::RenewCall>(std::move(done))); }

  void due(WallMs now, int64_t count_max, DueDone done) override {
    send(std::make_unique<detail::DueCall>(now, count_max, std::move(done)));
  }

  void messages(OwnerId, MessagesDone done) override { send(std::make_unique<detail::MessagesCall>(std::move(done))); }

  void look(const std::string& queue, MoveFunction<void(Result<QueueView>)> done) override {
    send(std::make_unique<detail::LookCall>(queue, std::move(done)));
  }

  void set_limits(const std::string& queue, QueueLimits limits, StatusDone done) override {
    send(std::make_unique<detail::LimitsCall>(queue, limits, std::move(done)));
  }

  void documents(const std::string& kind, const std::string& name, DocumentsDone done) override {
    send(std::make_unique<detail::DocumentsCall>(kind, name, std::move(done)));
  }

  void budgets(const std::string& name, BudgetsDone done) override {
    send(std::make_unique<detail::BudgetsCall>(name, std::move(done)));
  }

  void find(FindRequest request, FindDone done) override {
    send(std::make_unique<detail::FindCall>(std::move(request), std::move(done)));
  }

  void prune(PruneRequest request, PruneDone done) override {
    send(std::make_unique<detail::PruneCall>(std::move(request), std::move(done)));
  }

  void backup(BackupSlice slice, BackupDone done) override {
    send(std::make_unique<detail::BackupCall>(std::move(slice), std::move(done)));
  }

  void watch(MoveFunction<void()>) override {}  // no other process can queue work in this file

  void close(StatusDone done) override {
    if (is_closing_) {
      send(
          std::make_unique<detail::RenewCall>([done = std::move(done)](const Status&) mutable { done(Status::ok()); }));
      return;
    }
    is_closing_ = true;
    close_done_ = std::move(done);
    mailbox_->close();
  }

 private:
  void send(std::unique_ptr<SqliteCall> call) {
    if (is_closing_) {
      call->refuse(detail::store_closed());
      late_.push_back(std::move(call));
      if (is_closed_) {
        loop_.post([this, is_alive = is_alive_] {
          if (*is_alive) complete_all(std::exchange(late_, Calls()));
        });
      }
      return;
    }
    // A refusal, too, waits its turn, since answers come in the order of the calls; it has dropped its load.
    const auto waiting_max = static_cast<size_t>(options_.waiting_count_max);
    if (mailbox_->count() >= waiting_max && !call->is_in_hand()) call->refuse(detail::store_busy(waiting_max));
    mailbox_->put(std::move(call), true);
  }

  // A completion may destroy the store.
  void complete_all(Calls calls) {
    detail::loop_thread.assume();
    const std::shared_ptr<bool> is_alive = is_alive_;
    for (auto& call : calls) {
      if (!*is_alive) return;
      call->complete();
    }
  }

  void on_closed(Status status) {
    thread_->join();  // it has just posted this, its last word
    is_closed_ = true;
    const std::shared_ptr<bool> is_alive = is_alive_;
    close_done_(std::move(status));
    if (*is_alive) complete_all(std::exchange(late_, Calls()));
  }

  // The store thread.
  void serve() {
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "stepwell-store");
#endif
    const auto batch_max = static_cast<size_t>(std::max<int64_t>(options_.commit_batch_max, 1));
    Calls calls;
    while (mailbox_->take(calls, batch_max, writer_->has_wal() ? kIdleMs : -1)) {
      if (calls.empty()) {
        writer_->checkpoint();
        continue;
      }
      writer_->run_group(calls);
      const bool is_next_near = calls.size() == 1 && calls.front()->is_single();
      loop_.post([this, is_alive = is_alive_, calls = std::move(calls)]() mutable {
        if (*is_alive) complete_all(std::move(calls));
      });
      calls = Calls();
      if (writer_->is_wal_large()) writer_->checkpoint();
      if (is_next_near) mailbox_->look(kPatience);
    }
    loop_.post([this, is_alive = is_alive_, status = writer_->close()]() mutable {
      if (*is_alive) on_closed(std::move(status));
    });
  }

  // Constant.
  Loop& loop_;
  const SqliteOptions options_;
  const int pid_ = getpid();

  // The store thread's.
  std::unique_ptr<GroupWriter> writer_;

  // Any thread's.
  std::unique_ptr<Inbox> mailbox_;

  // The loop thread's; the store thread only passes on is_alive_.
  const std::shared_ptr<bool> is_alive_ = std::make_shared<bool>(true);
  std::unique_ptr<std::thread> thread_;
  StatusDone close_done_;
  Calls late_;  // refused since close was called; answered after it
  bool is_closing_ = false;
  bool is_closed_ = false;
};

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite_store(Loop& loop, const SqliteOptions& options) {
  Result<std::unique_ptr<detail::SqliteFile>> file = detail::SqliteFile::open(options);
  if (!file) return file.error();
  Result<std::unique_ptr<detail::SqliteRows>> rows = detail::SqliteRows::open(**file);
  if (!rows) return rows.error();
  auto writer = std::make_unique<GroupWriter>(options, std::move(file).value(), std::move(rows).value());
  auto store = std::make_unique<SqliteStore>(loop, options, std::move(writer));
  STEPWELL_TRY(store->start());
  return std::unique_ptr<Store>(std::move(store));
}

std::string sqlite_version() { return sqlite3_libversion(); }

}  // namespace stepwell
