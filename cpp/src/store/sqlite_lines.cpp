#include "store/sqlite_lines.h"

#include <algorithm>

#include "store/sql.h"

namespace stepwell::detail {

namespace {
using Text = SqliteStatement::Text;
}  // namespace

Result<std::unique_ptr<SqliteLines>> SqliteLines::open(SqliteFile& file) {
  std::unique_ptr<SqliteLines> lines(new SqliteLines(file));
  STEPWELL_TRY(lines->prepare_all());
  STEPWELL_TRY(lines->load());
  return lines;
}

Status SqliteLines::prepare_all() {
  const std::pair<SqliteStatement*, const char*> statements[] = {
      {&ready_insert_, sql::kReadyInsert}, {&ready_update_, sql::kReadyUpdate}, {&ready_delete_, sql::kReadyDelete},
      {&ready_count_, sql::kReadyCount},   {&held_insert_, sql::kHeldInsert},   {&held_update_, sql::kHeldUpdate},
      {&held_delete_, sql::kHeldDelete},   {&held_first_, sql::kHeldFirst},     {&queue_replace_, sql::kQueueReplace},
      {&queue_delete_, sql::kQueueDelete}, {&starts_add_, sql::kStartsAdd},     {&starts_forget_, sql::kStartsForget},
  };
  for (const auto& [statement, text] : statements) {
    Result<SqliteStatement> prepared = file_.prepare(text);
    if (!prepared) return prepared.error();
    *statement = std::move(prepared).value();
  }
  return Status::ok();
}

Status SqliteLines::finish(SqliteStatement& statement, const char* doing) {
  const int outcome = statement.step();
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault(doing, outcome);
}

// For statements that run rarely: when the file is opened, and when limits change.
Status SqliteLines::read_all(const char* text, int64_t queue_id, const char* doing,
                             const std::function<void(const SqliteStatement&)>& on_row) {
  Result<SqliteStatement> list = file_.prepare(text);
  if (!list) return list.error();
  if (queue_id != 0) list->bind(queue_id);
  int outcome = SQLITE_ROW;
  while ((outcome = list->step()) == SQLITE_ROW) on_row(*list);
  return outcome == SQLITE_DONE ? Status::ok() : file_.fault(doing, outcome);
}

Status SqliteLines::load() {
  const auto on_queue = [this](const SqliteStatement& row) {
    QueueLimits limits;
    limits.in_flight_max = row.integer(1);
    limits.group_in_flight_max = row.integer(2);
    limits.rate_count = row.integer(3);
    limits.rate_period_ms = row.integer(4);
    limits.is_fair = row.integer(5) != 0;
    limits.is_paused = row.integer(6) != 0;
    lines_.emplace(row.integer(0), std::make_unique<QueueLine>(limits));
  };
  STEPWELL_TRY(read_all(sql::kQueueList, 0, "read the queues of", on_queue));
  for (const auto& [queue_id, line] : lines_) STEPWELL_TRY(load_line(queue_id, *line));
  return Status::ok();
}

// Nobody is leased when a file is opened.
Status SqliteLines::load_line(int64_t queue_id, QueueLine& line) {
  STEPWELL_TRY(read_all(sql::kReadyGroups, queue_id, "read the queue of", [&line](const SqliteStatement& row) {
    line.count_ready(row.bytes(0), row.integer(1), row.integer(2));
  }));
  STEPWELL_TRY(read_all(sql::kReadyTurns, queue_id, "read the queue of",
                        [this](const SqliteStatement& row) { turns_[row.integer(0)] = row.integer(1); }));
  STEPWELL_TRY(read_all(sql::kStartsList, queue_id, "read the starts of",
                        [&line](const SqliteStatement& row) { line.count_started(row.integer(0), row.integer(1)); }));
  return read_all(sql::kHeldGroups, queue_id, "read the queue of",
                  [&line](const SqliteStatement& row) { line.count_held(row.bytes(0), row.integer(1)); });
}

QueueLine* SqliteLines::line(int64_t queue_id) const {
  if (lines_.empty()) return nullptr;
  const auto found = lines_.find(queue_id);
  return found == lines_.end() ? nullptr : found->second.get();
}

int64_t SqliteLines::turn(RunId run) const {
  if (turns_.empty()) return run;
  const auto found = turns_.find(run);
  return found == turns_.end() ? run : found->second;
}

Status SqliteLines::enqueue(RunId run, const Standing& standing) {
  QueueLine* line = this->line(standing.queue_id);
  if (line != nullptr && !line->has_room(standing.group)) return hold(run, standing);
  return stand_ready(run, standing, line);
}

Status SqliteLines::stand_ready(RunId run, const Standing& standing, QueueLine* line) {
  int64_t turn = run;
  if (line != nullptr) {
    turn = line->turn_of(run);
    line->count_ready(standing.group, 1, turn);
    if (turn != run) turns_[run] = turn;
  }
  ready_insert_.bind(standing.queue_id, standing.priority, turn, run, standing.fence.token, standing.claims,
                     standing.fence.event_count);
  return finish(ready_insert_, "queue a run in");
}

Status SqliteLines::hold(RunId run, const Standing& standing) {
  line(standing.queue_id)->count_held(standing.group, 1);
  held_insert_.bind(standing.queue_id, Text{standing.group}, standing.priority, run, standing.fence.token,
                    standing.claims, standing.fence.event_count);
  return finish(held_insert_, "queue a run in");
}

Status SqliteLines::let_in(int64_t queue_id, const std::string& group) {
  QueueLine* line = this->line(queue_id);
  while (line != nullptr && line->is_held(group) && line->has_room(group)) {
    const int outcome = held_first_.bind(queue_id, Text{group}).step();
    if (outcome != SQLITE_ROW) return file_.fault("read the queue of", outcome);
    Standing standing;
    standing.queue_id = queue_id;
    standing.group = group;
    standing.priority = held_first_.small_integer(0);
    const RunId run = held_first_.integer(1);
    standing.fence.token = held_first_.integer(2);
    standing.claims = held_first_.small_integer(3);
    standing.fence.event_count = held_first_.integer(4);
    held_first_.reset();
    line->count_held(group, -1);
    held_delete_.bind(queue_id, Text{group}, standing.priority, run);
    STEPWELL_TRY(finish(held_delete_, "take a run from the queue of"));
    STEPWELL_TRY(stand_ready(run, standing, line));
  }
  return Status::ok();
}

Status SqliteLines::dequeue(RunId run, const Standing& standing) {
  QueueLine* line = this->line(standing.queue_id);
  if (standing.is_held) {
    line->count_held(standing.group, -1);
    held_delete_.bind(standing.queue_id, Text{standing.group}, standing.priority, run);
    return finish(held_delete_, "take a run from the queue of");
  }
  ready_delete_.bind(standing.queue_id, standing.priority, turn(run), run);
  STEPWELL_TRY(finish(ready_delete_, "take a run from the queue of"));
  if (line == nullptr) return Status::ok();
  turns_.erase(run);
  line->count_ready(standing.group, -1);
  return let_in(standing.queue_id, standing.group);
}

Status SqliteLines::update(RunId run, const Standing& standing) {
  const int64_t event_count = standing.fence.event_count;
  if (standing.is_held) {
    held_update_.bind(standing.queue_id, Text{standing.group}, standing.priority, run, event_count);
    return finish(held_update_, "record a step in");
  }
  ready_update_.bind(standing.queue_id, standing.priority, turn(run), run, event_count);
  return finish(ready_update_, "record a step in");
}

void SqliteLines::take_place(const Standing& standing) {
  if (QueueLine* line = this->line(standing.queue_id)) line->count_leased(standing.group, 1);
}

Status SqliteLines::free_place(const Standing& standing) {
  QueueLine* line = this->line(standing.queue_id);
  if (line == nullptr) return Status::ok();
  line->count_leased(standing.group, -1);
  return let_in(standing.queue_id, standing.group);
}

Status SqliteLines::count_started(int64_t queue_id, WallMs now, int64_t count) {
  QueueLine* line = this->line(queue_id);
  if (line == nullptr || line->limits().rate_count <= 0 || count <= 0) return Status::ok();
  line->count_started(now, count);
  STEPWELL_TRY(finish(starts_forget_.bind(queue_id, now - line->limits().rate_period_ms), "forget starts in"));
  return finish(starts_add_.bind(queue_id, now, count), "count starts in");
}

Status SqliteLines::read_queued(int64_t queue_id, const char* text, std::vector<std::pair<RunId, Standing>>& queued) {
  return read_all(text, queue_id, "read the queue of", [&queued, queue_id](const SqliteStatement& row) {
    auto& [run, standing] = queued.emplace_back();
    run = row.integer(0);
    standing.fence.token = row.integer(1);
    standing.claims = row.small_integer(2);
    standing.fence.event_count = row.integer(3);
    standing.priority = row.small_integer(4);
    standing.group = row.bytes(5);
    standing.queue_id = queue_id;
  });
}

// Moving every queued run costs some microseconds each; only a change of what groups may do needs it.
Status SqliteLines::set_limits(int64_t queue_id, const QueueLimits& limits, const std::vector<std::string>& leased) {
  QueueLine* before = line(queue_id);
  const QueueLimits old = before == nullptr ? QueueLimits() : before->limits();
  std::unique_ptr<QueueLine> fresh;
  const bool is_same_line = old.group_in_flight_max == limits.group_in_flight_max && old.is_fair == limits.is_fair;
  if (limits.is_any()) {
    fresh = std::make_unique<QueueLine>(limits);
    if (before != nullptr && !is_same_line) fresh->keep_starts_of(*before);
    queue_replace_.bind(queue_id, limits.in_flight_max, limits.group_in_flight_max, limits.rate_count,
                        limits.rate_period_ms, limits.is_fair, limits.is_paused);
    STEPWELL_TRY(finish(queue_replace_, "set the limits of a queue in"));
    for (const std::string& group : leased) fresh->count_leased(group, 1);
  } else {
    STEPWELL_TRY(finish(queue_delete_.bind(queue_id), "lift the limits of a queue in"));
  }
  std::vector<std::pair<RunId, Standing>> queued;
  if (!is_same_line) {
    STEPWELL_TRY(read_queued(queue_id, sql::kReadyAll, queued));
    STEPWELL_TRY(read_queued(queue_id, sql::kHeldAll, queued));
    std::sort(queued.begin(), queued.end(), [](const auto& one, const auto& other) { return one.first < other.first; });
    for (const char* text : {sql::kReadyClear, sql::kHeldClear}) {
      STEPWELL_TRY(read_all(text, queue_id, "line up anew in", [](const SqliteStatement&) {}));
    }
    for (const auto& [run, standing] : queued) turns_.erase(run);
  }
  lines_.erase(queue_id);
  if (!fresh) {
    for (const auto& [run, standing] : queued) STEPWELL_TRY(stand_ready(run, standing, nullptr));
    return Status::ok();
  }
  QueueLine& line = *lines_.emplace(queue_id, std::move(fresh)).first->second;
  if (is_same_line) return load_line(queue_id, line);
  for (const auto& [run, standing] : queued) STEPWELL_TRY(enqueue(run, standing));
  return Status::ok();
}

Status SqliteLines::look(int64_t queue_id, QueueView& view) {
  const int outcome = ready_count_.bind(queue_id).step();
  if (outcome != SQLITE_ROW) return file_.fault("count a queue of", outcome);
  view.queued_count = ready_count_.integer(0);
  ready_count_.reset();
  if (const QueueLine* line = this->line(queue_id)) {
    view.limits = line->limits();
    view.held_count = line->held_count();
    view.queued_count += view.held_count;
  }
  return Status::ok();
}

}  // namespace stepwell::detail
