// What the world holds of agreed times.
#include <set>

#include "sim/sim_world.h"

namespace stepwell::sim {

// A breach is recorded once, a run's exactly if it ended too late, and each is told to one run.
void SimWorld::check_agreed_times(const std::vector<RunHistory>& runs) {
  int64_t breach_count = 0;
  int64_t told_count = 0;
  for (const RunHistory& history : runs) {
    const RunRow& row = history.row;
    told_count += row.workflow == kTold ? 1 : 0;
    std::set<std::string> breached;
    for (const Event& event : history.events) {
      if (event.kind != EventKind::kSlaBreached) continue;
      ++breach_count;
      if (!breached.insert(event.step).second) return fail("run " + run_name(row.run) + " was breached twice");
      FindRequest told;
      told.workflow = kTold;
      told.key = "breach of " + run_name(row.run) + "/" + event.step;
      if (table_->find(told).empty()) return fail("nobody was told of a breach of run " + run_name(row.run));
    }
    const bool is_late = row.sla_at >= 0 && row.finished_at >= row.sla_at;
    if (is_final(row.status) && row.status != RunStatus::kCancelled && breached.contains("") != is_late)
      return fail("run " + run_name(row.run) + (is_late ? " was late unseen" : " was not late and is said to be"));
  }
  if (told_count != breach_count) fail("a breach was told twice, or one that was not recorded");
}

}  // namespace stepwell::sim
