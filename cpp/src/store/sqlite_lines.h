// SqliteLines: the queues in SQL: who stands in the ready line, who is held back by their group's limit, what the
// limits are. Store thread only. A Status that is not ok is a failure of the file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "stepwell/queue.h"
#include "store/queue_line.h"
#include "store/refusals.h"
#include "store/sqlite_file.h"
#include "store/sqlite_statement.h"

namespace stepwell::detail {

// Where a run stands, what the fence needs, and where it queues.
struct Standing {
  FenceView fence;
  int32_t claims = 0;
  int32_t priority = 0;
  int64_t queue_id = 0;
  std::string group;
  bool is_held = false;  // queued, but not in the ready line
};

class SqliteLines {
 public:
  static Result<std::unique_ptr<SqliteLines>> open(SqliteFile& file);

  // Null for a queue without limits.
  [[nodiscard]] QueueLine* line(int64_t queue_id) const;
  [[nodiscard]] bool has_limits() const { return !lines_.empty(); }
  // Where in the ready line the run stands, if it does.
  [[nodiscard]] int64_t turn(RunId run) const;

  Status enqueue(RunId run, const Standing& standing);
  // Out of the queue, from wherever in it.
  Status dequeue(RunId run, const Standing& standing);
  Status update(RunId run, const Standing& standing);
  Status hold(RunId run, const Standing& standing);
  // Runs of a group left the ready line or ended: others may come in.
  Status let_in(int64_t queue_id, const std::string& group);
  // It was taken out of the ready line by a claim.
  void forget_turn(RunId run) { turns_.erase(run); }
  // Leases come and go.
  void take_place(const Standing& standing);
  Status free_place(const Standing& standing);
  Status count_started(int64_t queue_id, WallMs now, int64_t count);
  // Everything that is queued lines up anew; `leased`: the groups of the runs that are leased.
  Status set_limits(int64_t queue_id, const QueueLimits& limits, const std::vector<std::string>& leased);
  Status look(int64_t queue_id, QueueView& view);

 private:
  explicit SqliteLines(SqliteFile& file) : file_(file) {}
  Status prepare_all();
  Status load();
  Status load_line(int64_t queue_id, QueueLine& line);
  Status stand_ready(RunId run, const Standing& standing, QueueLine* line);
  Status read_queued(int64_t queue_id, const char* text, std::vector<std::pair<RunId, Standing>>& queued);
  Status finish(SqliteStatement& statement, const char* doing);
  Status read_all(const char* text, int64_t queue_id, const char* doing,
                  const std::function<void(const SqliteStatement&)>& on_row);

  SqliteFile& file_;
  std::unordered_map<int64_t, std::unique_ptr<QueueLine>> lines_;
  // Of runs whose turn is not their id.
  std::unordered_map<RunId, int64_t> turns_;
  SqliteStatement ready_insert_, ready_update_, ready_delete_, ready_count_;
  SqliteStatement held_insert_, held_update_, held_delete_, held_first_;
  SqliteStatement queue_replace_, queue_delete_, starts_add_, starts_forget_;
};

}  // namespace stepwell::detail
