// SqliteRows: what stands beside the runs, out of the file and into it.
#include <algorithm>
#include <utility>

#include "store/sql.h"
#include "store/sql_upkeep.h"
#include "store/sqlite_rows.h"

namespace stepwell::detail {

namespace {
using Text = SqliteStatement::Text;

Status setting_conflict(const std::string& what) {
  return {StatusKind::kConflict, code::kStoreRecord,
          what + " cannot be imported: the store has one of this name that is not the same"};
}
}  // namespace

Status SqliteRows::list_settings(StoreSettings& settings) {
  SqliteStatement* list = nullptr;
  STEPWELL_TRY(upkeep_statement(sql::kDocumentsAll, list));
  int outcome = SQLITE_ROW;
  while ((outcome = list->step()) == SQLITE_ROW) {
    settings.documents.push_back({list->bytes(0), list->bytes(1), list->integer(2), list->integer(3), list->bytes(4)});
  }
  if (outcome != SQLITE_DONE) return file_.fault("read the documents of", outcome);
  STEPWELL_TRY(upkeep_statement(sql::kQueuesAll, list));
  while ((outcome = list->step()) == SQLITE_ROW) {
    const int64_t queue_id = list->integer(0);
    if (const QueueLine* line = lines_->line(queue_id)) settings.queues.emplace_back(name_of(queue_id), line->limits());
  }
  std::sort(settings.queues.begin(), settings.queues.end(),
            [](const auto& one, const auto& other) { return one.first < other.first; });
  if (outcome != SQLITE_DONE) return file_.fault("read the queues of", outcome);
  return budgets_->list_changed(settings.accounts);
}

Status SqliteRows::add_settings(const StoreSettings& settings, Status& refusal) {
  for (const Document& document : settings.documents) {
    std::vector<Document> known;
    STEPWELL_TRY(documents(document.kind, document.name, known));
    if (!known.empty() && known.front().body != document.body) {
      refusal = setting_conflict(document.kind + " \"" + document.name + "\"");
      return Status::ok();
    }
    if (!known.empty()) continue;
    document_replace_.bind(Text{document.kind}, Text{document.name}, document.version, document.at, document.body);
    STEPWELL_TRY(finish(document_replace_, "import a document into"));
  }
  for (const auto& [queue, limits] : settings.queues) {
    int64_t queue_id = 0;
    STEPWELL_TRY(name_id(queue, queue_id));
    const QueueLine* known = lines_->line(queue_id);
    if (known != nullptr && known->limits() != limits) {
      refusal = setting_conflict("queue \"" + queue + "\"");
      return Status::ok();
    }
    if (known == nullptr) STEPWELL_TRY(set_limits(queue, limits));
  }
  for (const BudgetRow& account : settings.accounts) STEPWELL_TRY(budgets_->take_in_changed(account));
  return Status::ok();
}

}  // namespace stepwell::detail
