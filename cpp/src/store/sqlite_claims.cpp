// SqliteRows' part for queues: claims, limits, how a queue stands.
#include <utility>

#include "store/sqlite_rows.h"

namespace stepwell::detail {

Status SqliteRows::claim(const ClaimRequest& request, ClaimAnswer& answer) {
  const auto queue = name_ids_.find(request.queue);
  if (queue == name_ids_.end() || request.count_max <= 0) return Status::ok();
  QueueLine* line = lines_->line(queue->second);
  answer.is_limited = line != nullptr;
  int64_t count_max = request.count_max;
  if (line != nullptr) count_max = line->claimable(count_max, request.now, answer.more_at);
  std::vector<RunHistory>& claimed = answer.runs;
  bool is_any = true;
  while (is_any && static_cast<int64_t>(claimed.size()) < count_max) {
    STEPWELL_TRY(take_ready(queue->second, count_max - static_cast<int64_t>(claimed.size()), claimed, is_any));
    is_any = is_any && line != nullptr;  // taking may have let others in
  }
  STEPWELL_TRY(lines_->count_started(queue->second, request.now, static_cast<int64_t>(claimed.size())));
  for (RunHistory& history : claimed) {
    history.row.queue = request.queue;
    if (history.row.event_count > 0) STEPWELL_TRY(read_events(history));
    STEPWELL_TRY(read_messages(history.row.run, history.messages));
    STEPWELL_TRY(streams_->read_live(history.row.run, history.streams));
  }
  return Status::ok();
}

Status SqliteRows::take_ready(int64_t queue_id, int64_t count_max, std::vector<RunHistory>& claimed, bool& is_any) {
  QueueLine* line = lines_->line(queue_id);
  const size_t before = claimed.size();
  int64_t count = 0;
  int64_t turn = 0;
  ready_list_.bind(queue_id, count_max);
  int outcome = SQLITE_ROW;
  while ((outcome = ready_list_.step()) == SQLITE_ROW) {
    RunRow& row = claimed.emplace_back().row;
    row.run = ready_list_.integer(0);
    row.status = RunStatus::kRunning;
    row.token = ready_list_.integer(1) + 1;
    row.claims = ready_list_.small_integer(2) + 1;
    row.event_count = ready_list_.integer(3);
    row.workflow = name_of(ready_list_.integer(4));
    row.key = ready_list_.bytes(5);
    row.created_at = ready_list_.integer(6);
    STEPWELL_TRY(blobs_->read(ready_list_, 7, row.input, row.damage));
    row.priority = ready_list_.small_integer(8);
    row.deadline_at = ready_list_.integer_or(9, -1);
    row.parent = ready_list_.integer(10);
    row.parent_step = ready_list_.bytes(11);
    row.version = name_of(ready_list_.integer(12));
    turn = ready_list_.integer(13);
    row.group = ready_list_.bytes(14);
    row.sla_at = ready_list_.integer_or(15, -1);
    row.sla_ms = ready_list_.integer_or(16, -1);
    row.breach_flow = name_of(ready_list_.integer(17));
    row.budgets = name_of(ready_list_.integer(18));
    ++count;
  }
  if (outcome != SQLITE_DONE) return file_.fault("read the queue of", outcome);
  is_any = count > 0;
  if (!is_any) return Status::ok();
  ready_take_.bind(queue_id, claimed.back().row.priority, turn, claimed.back().row.run);
  STEPWELL_TRY(finish(ready_take_, "take runs from the queue of"));
  if (file_.changed_row_count() != count) {
    return file_.fault("claim from the queue, which names runs that are missing, of", SQLITE_CORRUPT);
  }
  std::vector<std::string> groups;
  size_t kept = before;
  for (size_t i = before; i < claimed.size(); ++i) {
    const RunRow& row = claimed[i].row;
    Standing standing;
    standing.fence = {RunStatus::kRunning, row.token, row.event_count};
    standing.claims = row.claims;
    standing.priority = row.priority;
    standing.queue_id = queue_id;
    standing.group = row.group;
    if (line != nullptr) {
      lines_->forget_turn(row.run);
      line->count_ready(row.group, -1);
      groups.push_back(row.group);
      if (!line->may_lease(row.group)) {  // the limit has shrunk
        --standing.fence.token;
        --standing.claims;
        STEPWELL_TRY(lines_->hold(row.run, standing));
        continue;
      }
    }
    STEPWELL_TRY(lease(row.run, standing));
    if (kept != i) claimed[kept] = std::move(claimed[i]);
    ++kept;
  }
  claimed.resize(kept);
  for (const std::string& group : groups) STEPWELL_TRY(lines_->let_in(queue_id, group));
  return Status::ok();
}

Status SqliteRows::look(const std::string& queue, QueueView& view) {
  const auto known = name_ids_.find(queue);
  if (known == name_ids_.end()) return Status::ok();
  for (const auto& [run, standing] : leases_) view.running_count += standing.queue_id == known->second ? 1 : 0;
  return lines_->look(known->second, view);
}

Status SqliteRows::set_limits(const std::string& queue, const QueueLimits& limits) {
  int64_t queue_id = 0;
  STEPWELL_TRY(name_id(queue, queue_id));
  std::vector<std::string> leased;
  for (const auto& [run, standing] : leases_) {
    if (standing.queue_id == queue_id) leased.push_back(standing.group);
  }
  return lines_->set_limits(queue_id, limits, leased);
}

}  // namespace stepwell::detail
