#include "store/sqlite_streams.h"

#include <utility>

#include "store/sql.h"

namespace stepwell::detail {

namespace {
using Text = SqliteStatement::Text;
}  // namespace

Result<std::unique_ptr<SqliteStreams>> SqliteStreams::open(SqliteFile& file) {
  std::unique_ptr<SqliteStreams> streams(new SqliteStreams(file));
  const std::pair<SqliteStatement*, const char*> statements[] = {
      {&streams->insert_, sql::kStreamInsert},
      {&streams->delete_, sql::kStreamDelete},
      {&streams->list_, sql::kStreamList},
  };
  for (const auto& [statement, text] : statements) {
    Result<SqliteStatement> prepared = file.prepare(text);
    if (!prepared) return prepared.error();
    *statement = std::move(prepared).value();
  }
  Result<SqliteStatement> live = file.prepare(sql::kStreamsLive);
  if (!live) return live.error();
  int outcome = SQLITE_ROW;
  while ((outcome = live->step()) == SQLITE_ROW) streams->live_.insert(live->integer(0));
  if (outcome != SQLITE_DONE) return file.fault("read the streams of", outcome);
  return streams;
}

Status SqliteStreams::apply(const Transition& transition) {
  const RunId run = transition.run;
  for (const StreamPart& part : transition.parts) {
    live_.insert(run);
    if (part.offset == 0) STEPWELL_TRY(finish(delete_.bind(run, Text{part.step}), "begin a stream anew in"));
    insert_.bind(run, Text{part.step}, part.generation, part.offset, Text{part.text});
    STEPWELL_TRY(finish(insert_, "keep a stream's text in"));
  }
  if (live_.empty() || !live_.contains(run)) return Status::ok();
  for (const Event& event : transition.events) {
    if (event.kind != EventKind::kStepSucceeded) continue;
    STEPWELL_TRY(finish(delete_.bind(run, Text{event.step}), "let go of a stream in"));
  }
  if (transition.end) live_.erase(run);
  return Status::ok();
}

Status SqliteStreams::read_live(RunId run, std::vector<KeptStream>& streams) {
  return live_.contains(run) ? read(run, streams) : Status::ok();
}

Status SqliteStreams::read(RunId run, std::vector<KeptStream>& streams) {
  list_.bind(run);
  int outcome = SQLITE_ROW;
  while ((outcome = list_.step()) == SQLITE_ROW) {
    std::string step = list_.bytes(0);
    if (streams.empty() || streams.back().step != step) streams.push_back({std::move(step), list_.integer(1), {}});
    streams.back().text += list_.bytes(2);
  }
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault("read a stream of", outcome);
}

Status SqliteStreams::take_in(RunId run, bool is_live, const std::vector<KeptStream>& streams) {
  if (is_live && !streams.empty()) live_.insert(run);
  for (const KeptStream& each : streams) {
    insert_.bind(run, Text{each.step}, each.generation, int64_t{0}, Text{each.text});
    STEPWELL_TRY(finish(insert_, "import a stream into"));
  }
  return Status::ok();
}

Status SqliteStreams::finish(SqliteStatement& statement, const char* doing) {
  const int outcome = statement.step();
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault(doing, outcome);
}

}  // namespace stepwell::detail
