// One accepted call on its way: made on the loop thread, run on the store thread, completed on the loop thread.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/thread_role.h"
#include "stepwell/store.h"
#include "store/sqlite_rows.h"

namespace stepwell::detail {

class SqliteCall {
 public:
  // A poisoned store still reads.
  explicit SqliteCall(bool is_write) : is_write_(is_write) {}
  virtual ~SqliteCall() = default;
  SqliteCall(const SqliteCall&) = delete;
  SqliteCall& operator=(const SqliteCall&) = delete;

  [[nodiscard]] bool is_write() const { return is_write_; }
  [[nodiscard]] bool is_refused() const { return !refusal_.is_ok(); }
  // The answer becomes `why`, whatever it was, and the call's load is dropped.
  void refuse(const Status& why) {
    refusal_ = why;
    drop();
  }

  // Work in hand: what was leased must be written however long the line is, and its amount is bounded by the leases.
  [[nodiscard]] virtual bool is_in_hand() const { return false; }
  // One transition: what somebody who waits for each of his writes brings.
  [[nodiscard]] virtual bool is_single() const { return false; }
  virtual Status run(SqliteRows& rows) STEPWELL_ON(store_thread) = 0;
  // After the group's transaction, if it did not fail. A failure is this call's alone.
  virtual Status run_after(SqliteFile& file) STEPWELL_ON(store_thread) {
    (void)file;
    return Status::ok();
  }
  virtual void complete() STEPWELL_ON(loop_thread) = 0;

 protected:
  virtual void drop() {}
  Status refusal_;

 private:
  const bool is_write_;
};

class CommitCall final : public SqliteCall {
 public:
  CommitCall(std::vector<Transition> transitions, CommitDone done)
      : SqliteCall(true), count_(transitions.size()), transitions_(std::move(transitions)), done_(std::move(done)) {}

  [[nodiscard]] bool is_single() const override { return count_ == 1; }
  [[nodiscard]] bool is_in_hand() const override {
    return std::any_of(transitions_.begin(), transitions_.end(), [](const Transition& each) {
      return !each.create && !each.message && !each.document && !each.budget;
    });
  }

  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) {
    answers_.resize(count_);
    for (size_t i = 0; i < count_; ++i) STEPWELL_TRY(rows.apply(transitions_[i], answers_[i]));
    transitions_.clear();  // frees the payloads here and not on the loop
    return Status::ok();
  }
  void complete() override STEPWELL_ON(loop_thread) {
    if (is_refused()) {
      for (size_t i = 0; i < count_; ++i) answers_.emplace_back().status = refusal_;
    }
    done_(std::move(answers_));
  }

 protected:
  void drop() override {
    transitions_ = std::vector<Transition>();
    answers_ = std::vector<CommitAnswer>();
  }

 private:
  const size_t count_;
  std::vector<Transition> transitions_;
  std::vector<CommitAnswer> answers_;
  CommitDone done_;
};

// An answer of one value.
template <typename Answer>
class QueryCall : public SqliteCall {
 public:
  using Done = MoveFunction<void(Result<Answer>)>;
  QueryCall(bool is_write, Done done) : SqliteCall(is_write), done_(std::move(done)) {}
  void complete() final STEPWELL_ON(loop_thread) {
    if (is_refused()) {
      done_(refusal_);
    } else {
      done_(std::move(answer_));
    }
  }

 protected:
  Answer answer_{};

 private:
  Done done_;
};

class ClaimCall final : public QueryCall<ClaimAnswer> {
 public:
  ClaimCall(ClaimRequest request, ClaimDone done) : QueryCall(true, std::move(done)), request_(std::move(request)) {}
  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) { return rows.claim(request_, answer_); }

 private:
  ClaimRequest request_;
};

class FindCall final : public QueryCall<std::vector<RunHistory>> {
 public:
  FindCall(FindRequest request, FindDone done) : QueryCall(false, std::move(done)), request_(std::move(request)) {}
  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) { return rows.find(request_, answer_); }

 private:
  FindRequest request_;
};

class DueCall final : public QueryCall<DueAnswer> {
 public:
  DueCall(WallMs now, int64_t count_max, DueDone done)
      : QueryCall(true, std::move(done)), now_(now), count_max_(count_max) {}
  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) { return rows.due(now_, count_max_, answer_); }

 private:
  WallMs now_;
  int64_t count_max_;
};

// Whoever holds the file leases every run and has been told everything as it was committed: the answer is empty.
class MessagesCall final : public QueryCall<std::vector<Message>> {
 public:
  explicit MessagesCall(MessagesDone done) : QueryCall(false, std::move(done)) {}
  Status run(SqliteRows&) override STEPWELL_ON(store_thread) { return Status::ok(); }
};

class PruneCall final : public QueryCall<PruneAnswer> {
 public:
  PruneCall(PruneRequest request, PruneDone done) : QueryCall(true, std::move(done)), request_(std::move(request)) {}
  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) { return rows.prune(request_, answer_); }

 private:
  PruneRequest request_;
};

class BackupCall final : public QueryCall<BackupProgress> {
 public:
  BackupCall(BackupSlice slice, BackupDone done) : QueryCall(false, std::move(done)), slice_(std::move(slice)) {}
  Status run(SqliteRows&) override STEPWELL_ON(store_thread) { return Status::ok(); }
  Status run_after(SqliteFile& file) override STEPWELL_ON(store_thread) { return file.back_up(slice_, answer_); }

 private:
  BackupSlice slice_;
};

// Whoever holds the file holds every lease, so a renewal only takes its place in line.
class RenewCall final : public SqliteCall {
 public:
  explicit RenewCall(StatusDone done) : SqliteCall(true), done_(std::move(done)) {}
  Status run(SqliteRows&) override STEPWELL_ON(store_thread) { return Status::ok(); }
  void complete() override STEPWELL_ON(loop_thread) { done_(refusal_); }

 private:
  StatusDone done_;
};

}  // namespace stepwell::detail
