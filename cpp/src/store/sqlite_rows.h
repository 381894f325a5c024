// SqliteRows: what each store function means in SQL. Store thread only.
//
// A Status that is not ok is a failure of the file and ends the transaction that is open; refusals of single
// transitions travel in their CommitAnswer and have written nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "stepwell/retention.h"
#include "stepwell/store.h"
#include "stepwell/store_file.h"
#include "store/refusals.h"
#include "store/sqlite_blobs.h"
#include "store/sqlite_budgets.h"
#include "store/sqlite_file.h"
#include "store/sqlite_lines.h"
#include "store/sqlite_statement.h"
#include "store/sqlite_streams.h"

namespace stepwell::detail {

class SqliteRows {
 public:
  static Result<std::unique_ptr<SqliteRows>> open(SqliteFile& file);

  Status begin() { return finish(begin_, "begin a transaction in"); }
  Status commit();
  void roll_back();

  Status apply(const Transition& transition, CommitAnswer& answer);
  Status claim(const ClaimRequest& request, ClaimAnswer& answer);
  Status due(WallMs now, int64_t count_max, DueAnswer& answer);
  Status look(const std::string& queue, QueueView& view);
  Status set_limits(const std::string& queue, const QueueLimits& limits);
  Status documents(const std::string& kind, const std::string& name, std::vector<Document>& found);
  Status budgets(const std::string& name, std::vector<BudgetRow>& found) { return budgets_->list(name, found); }
  Status find(const FindRequest& request, std::vector<RunHistory>& found);
  Status prune(const PruneRequest& request, PruneAnswer& answer);
  // Export and import; sqlite_records.cpp and sqlite_settings.cpp.
  Status list_records(RunId after, int64_t run_count_max, int64_t bytes_max, RunRecords& records);
  Status add_record(const RunRecord& record, ImportCounts& counts, Status& refusal);
  Status list_settings(StoreSettings& settings);
  Status add_settings(const StoreSettings& settings, Status& refusal);
  // Names the payloads of a run that cannot be read.
  Status check_payloads(RunId run, Findings& findings);

 private:
  explicit SqliteRows(SqliteFile& file) : file_(file) {}
  Status prepare_all();
  Status load_names();

  Status create(const Transition& transition, CommitAnswer& answer);
  Status meet_key(const Transition& transition, int64_t workflow_id, bool& is_settled, CommitAnswer& answer);
  static void refuse_damaged(CommitAnswer& answer);
  Status meet_run(const Transition& transition, CommitAnswer& answer);
  Status read_standing(RunId run, Standing& standing, bool& is_there);
  Status append_events(RunId run, int64_t first_seq, const std::vector<Event>& events, size_t events_known,
                       bool is_refused = false);
  Status carry_out(const Transition& transition);
  Status deliver(const Message& message, CommitAnswer& answer);
  Status move_on(const Transition& transition, const Standing& standing);
  Status leave(RunId run, const Standing& standing);
  Status park(const Transition& transition, const Standing& standing);
  Status wake(RunId run, const Standing& standing);
  Status lease(RunId run, const Standing& standing);
  Status take_ready(int64_t queue_id, int64_t count_max, std::vector<RunHistory>& claimed, bool& is_any);
  Status collapse(const Transition& transition, int64_t workflow_id, bool& is_settled, CommitAnswer& answer);
  Status keep(const Document& document, WallMs at, CommitAnswer& answer);
  Status read_row(RunId run, bool with_input, bool with_result, RunRow& row, bool& is_there);
  Status read_events(RunHistory& history);
  Status read_messages(RunId run, std::vector<Message>& messages);
  Status count_messages(RunId run, int64_t& count);
  Status add_found(RunId run, const FindRequest& request, std::vector<RunHistory>& found);
  // Runs a statement that answers no rows.
  Status finish(SqliteStatement& statement, const char* doing);
  Status name_id(const std::string& name, int64_t& id);
  [[nodiscard]] std::string name_of(int64_t id) const;

  // Upkeep; see sqlite_retention.cpp and sqlite_records.cpp.
  Status read_record(RunId run, bool is_trimmed, RunRecord& record);
  Status write_record(const RunRecord& record);
  Status place_record(const RunRecord& record);
  Status drop_content(RunId run, bool is_dropped, int64_t& rows_left, bool& is_empty);
  Status forget_collapsed(int64_t rows_max);
  Status delete_run(RunId run, int64_t workflow_id, const std::string& key);
  Status upkeep_statement(const char* text, SqliteStatement*& statement);
  Status list_numbers(const char* text, RunId run, int64_t from, std::vector<int64_t>& numbers);
  template <typename... Values>
  Status finish_upkeep(const char* text, const Values&... values) {
    SqliteStatement* statement = nullptr;
    STEPWELL_TRY(upkeep_statement(text, statement));
    return finish(statement->bind(values...), "clear up");
  }
  bool is_refused_for_bytes(const Transition& transition, CommitAnswer& answer) const;

  SqliteFile& file_;
  // The names table; few, so all of them are kept.
  std::unordered_map<std::string, int64_t> name_ids_;
  std::unordered_map<int64_t, std::string> names_;
  int64_t name_id_last_ = 0;
  // The leased table, with what each run's history has grown to. Complete: opening frees all leases, and only this
  // process leases. A failed commit may leave it ahead of the file, but then nothing is written any more.
  std::unordered_map<RunId, Standing> leases_;
  std::unique_ptr<SqliteLines> lines_;

  bool is_row_held_ = false;  // of the row that read_row read last

  // Messages in the file; while there are none, nobody looks for any.
  int64_t message_count_ = 0;

  std::unique_ptr<SqliteStreams> streams_;
  std::unique_ptr<SqliteBlobs> blobs_;
  std::unique_ptr<SqliteBudgets> budgets_;
  std::unordered_map<const char*, SqliteStatement> upkeep_;  // by text, when first used
  SqliteStatement begin_, commit_, roll_back_;
  SqliteStatement name_insert_, run_insert_, key_insert_, key_find_, key_delete_, event_insert_, event_list_;
  SqliteStatement ready_list_, ready_take_;
  SqliteStatement waiting_insert_, waiting_update_, waiting_delete_, waiting_wake_, waiting_due_, waiting_next_;
  SqliteStatement message_insert_, message_key_insert_, message_list_, message_one_count_;
  SqliteStatement message_delete_, messages_delete_;
  SqliteStatement lease_insert_, lease_recount_, lease_delete_, finished_insert_;
  SqliteStatement row_by_run_, runs_by_workflow_, runs_newest_, runs_dead_, runs_breached_;
  std::tuple<int64_t, int64_t, std::string> collapsed_after_;  // how far forget_collapsed has looked
  SqliteStatement collapsed_find_, collapsed_replace_, input_update_, waiting_put_off_;
  SqliteStatement document_replace_, document_delete_, document_version_, document_list_;
};

}  // namespace stepwell::detail
