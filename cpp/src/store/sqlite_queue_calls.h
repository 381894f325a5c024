// The calls for queues, documents and budgets; see sqlite_calls.h.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "store/sqlite_calls.h"

namespace stepwell::detail {

class LookCall final : public QueryCall<QueueView> {
 public:
  LookCall(std::string queue, Done done) : QueryCall(false, std::move(done)), queue_(std::move(queue)) {}
  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) { return rows.look(queue_, answer_); }

 private:
  std::string queue_;
};

class DocumentsCall final : public QueryCall<std::vector<Document>> {
 public:
  DocumentsCall(std::string kind, std::string name, Done done)
      : QueryCall(false, std::move(done)), kind_(std::move(kind)), name_(std::move(name)) {}
  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) { return rows.documents(kind_, name_, answer_); }

 private:
  std::string kind_;
  std::string name_;
};

class BudgetsCall final : public QueryCall<std::vector<BudgetRow>> {
 public:
  BudgetsCall(std::string name, Done done) : QueryCall(false, std::move(done)), name_(std::move(name)) {}
  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) { return rows.budgets(name_, answer_); }

 private:
  std::string name_;
};

class LimitsCall final : public SqliteCall {
 public:
  LimitsCall(std::string queue, const QueueLimits& limits, StatusDone done)
      : SqliteCall(true), queue_(std::move(queue)), limits_(limits), done_(std::move(done)) {}
  Status run(SqliteRows& rows) override STEPWELL_ON(store_thread) { return rows.set_limits(queue_, limits_); }
  void complete() override STEPWELL_ON(loop_thread) { done_(refusal_); }

 private:
  std::string queue_;
  QueueLimits limits_;
  StatusDone done_;
};

}  // namespace stepwell::detail
