// The run machine's part that judges agreed times: a breach is recorded once, and changes nothing else.
#include <algorithm>
#include <utility>

#include "base/json.h"
#include "stepwell/engine.h"

namespace stepwell {

void RunMachine::judge_run_sla(Decision& decision, WallMs at) {
  if (sla_at_ < 0 || at < sla_at_) return;
  const WallMs began_at = std::exchange(sla_at_, -1) - sla_ms_;
  record_breach(decision, "", sla_ms_, at - began_at, breach_flow_, at);
}

void RunMachine::judge_step_sla(Decision& decision, const StepState& step, const Input& input) {
  const int64_t took_ms = step.spent_ms + spent_ms(input.took_ms, input.waited_ms);
  if (input.sla_ms < 0 || took_ms <= input.sla_ms) return;
  record_breach(decision, input.step, input.sla_ms, took_ms, input.breach_flow, input.at);
}

int64_t RunMachine::spent_ms(int64_t took_ms, int64_t waited_ms) {
  return std::max<int64_t>(took_ms, 0) + std::max<int64_t>(waited_ms, 0);
}

// Who is told of it begins with the commit of the event: exactly once, as the event itself.
void RunMachine::record_breach(Decision& decision, const std::string& step, int64_t sla_ms, int64_t took_ms,
                               const std::string& flow, WallMs at) {
  Event& event = decision.events.emplace_back();
  event.kind = EventKind::kSlaBreached;
  event.step = step;
  event.payload = R"({"run":)" + detail::json_quote(run_name(run_)) + R"(,"workflow":)" +
                  detail::json_quote(workflow_) + R"(,"step":)" + detail::json_quote(step) + R"(,"sla_ms":)" +
                  std::to_string(sla_ms) + R"(,"took_ms":)" + std::to_string(took_ms) + R"(,"at_ms":)" +
                  std::to_string(at) + "}";
  ++next_seq_;
  if (flow.empty()) return;
  NewRun& told = decision.creations.emplace_back().request;
  told.workflow = told.queue = flow;
  told.key = "breach of " + run_name(run_) + "/" + step;
  told.input = event.payload;
}

}  // namespace stepwell
