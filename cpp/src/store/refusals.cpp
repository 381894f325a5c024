#include "store/refusals.h"

#include <algorithm>

namespace stepwell::detail {

Status check_fence(const Transition& transition, const FenceView& row, size_t& events_known) {
  events_known = 0;
  const std::string name = "run " + run_name(transition.run);
  if (is_final(row.status)) {
    return {StatusKind::kFenced, code::kFenced, name + " has ended; its history takes no more events"};
  }
  if (row.token != transition.token) {
    return {StatusKind::kFenced, code::kFenced,
            name + ": expected lease token " + std::to_string(transition.token) + ", the store has " +
                std::to_string(row.token) + ": the run was claimed again"};
  }
  if (transition.first_seq > row.event_count) {
    return {StatusKind::kInvalid, code::kInternal,
            name + ": events would start at " + std::to_string(transition.first_seq) + ", the history has only " +
                std::to_string(row.event_count)};
  }
  const auto known = static_cast<size_t>(row.event_count - transition.first_seq);
  events_known = known < transition.events.size() ? known : transition.events.size();
  return Status::ok();
}

Status run_missing(RunId run) {
  return {StatusKind::kNotFound, code::kRunNotFound, "run " + run_name(run) + " is not in this store"};
}

Status run_id_taken(RunId run) {
  return {StatusKind::kConflict, code::kInternal, "run " + run_name(run) + " exists already, with another request"};
}

Status key_conflict(const NewRun& asked, RunId existing) {
  return {StatusKind::kConflict, code::kKeyConflict,
          "workflow \"" + asked.workflow + "\", key \"" + asked.key + "\": taken by run " + run_name(existing) +
              ", which was started with another payload"};
}

Status payload_too_large(RunId run, size_t bytes, size_t bytes_max) {
  return {StatusKind::kInvalid, code::kPayloadTooLarge,
          "run " + run_name(run) + ": a payload of " + std::to_string(bytes) + " bytes; the store takes at most " +
              std::to_string(bytes_max)};
}

Status run_ended(const Message& message) {
  return {StatusKind::kConflict, code::kRunEnded,
          "run " + run_name(message.to) + " has ended and takes no more messages (\"" + message.topic + "\")"};
}

Status inbox_full(const Message& message) {
  return {StatusKind::kBusy, code::kInboxFull,
          "run " + run_name(message.to) + " holds " + std::to_string(Limits().messages_per_run_max) +
              " messages that it has not taken; \"" + message.topic + "\" was not kept"};
}

Status document_changed(const Document& document, int64_t version) {
  return {StatusKind::kConflict, code::kDocumentChanged,
          document.kind + " \"" + document.name + "\": expected version " + std::to_string(document.version) +
              ", the store has " + std::to_string(version) + ": somebody changed it meanwhile; read it again"};
}

bool is_looked_for(const FindRequest& request, const RunHistory& run) {
  const RunRow& row = run.row;
  if (!request.workflow.empty() && row.workflow != request.workflow) return false;
  if (request.before > 0 && row.run >= request.before) return false;
  if (!request.is_breached) return row.status == RunStatus::kFailed || row.status == RunStatus::kDead;
  return std::any_of(run.events.begin(), run.events.end(),
                     [](const Event& event) { return event.kind == EventKind::kSlaBreached; });
}

bool takes_in(const Collapse& collapse, const RunRow& row, int64_t count) {
  if (collapse.kind == CollapseKind::kSingleton) return !is_final(row.status);
  const bool has_begun = row.status != RunStatus::kWaiting || row.token != 0;
  return !has_begun && (collapse.kind == CollapseKind::kDebounce || count < collapse.count_max);
}

TakenIn take_in(const NewRun& asked, const RunRow& row, int64_t count) {
  TakenIn out;
  if (asked.collapse.kind == CollapseKind::kDebounce) {
    out.input = asked.input;
    out.wake_at = asked.wake_at;
    if (asked.collapse.wait_ms_max >= 0)
      out.wake_at = std::min(out.wake_at, row.created_at + asked.collapse.wait_ms_max);
    return out;
  }
  // "[a]" and "[b]" make "[a,b]".
  out.input = row.input.substr(0, row.input.size() - 1) + "," + asked.input.substr(1);
  out.wake_at = row.wake_at;
  out.is_due = count >= asked.collapse.count_max;
  return out;
}

bool ends_a_pause(const std::string& topic) { return topic == "resume" || topic == "cancel"; }

bool wakes(RunStatus status, LeaseToken token, const std::string& topic) {
  if (status == RunStatus::kPaused) return ends_a_pause(topic);
  return status == RunStatus::kWaiting && (token != 0 || topic == "cancel");
}

Status store_closed() { return {StatusKind::kClosed, code::kClosed, "the store is closed"}; }

Status store_has_no_file() {
  return {StatusKind::kInvalid, code::kStoreNoFile, "a store in memory cannot be backed up; open the engine on a file"};
}

Status store_busy(size_t waiting_max) {
  return {StatusKind::kBusy, code::kBusy,
          "the store has " + std::to_string(waiting_max) + " calls waiting; try again when some are answered"};
}

}  // namespace stepwell::detail
