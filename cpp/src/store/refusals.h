// Why a store refuses: the answers and the rules of the fence and of collapsed starts, the same in every store. Pure
// functions; any thread.
#pragma once

#include <string>

#include "stepwell/store.h"

namespace stepwell::detail {

// How a transition of an existing run stands to the run's row.
struct FenceView {
  RunStatus status = RunStatus::kQueued;
  LeaseToken token = 0;
  int64_t event_count = 0;
};

// Ok, or why the row does not take `transition`. When ok, `events_known` of its events are in the history already.
Status check_fence(const Transition& transition, const FenceView& row, size_t& events_known);

Status run_missing(RunId run);
Status run_id_taken(RunId run);
Status key_conflict(const NewRun& asked, RunId existing);
Status payload_too_large(RunId run, size_t bytes, size_t bytes_max);
Status run_ended(const Message& message);
Status inbox_full(const Message& message);
Status document_changed(const Document& document, int64_t version);

// Whether a page of runs that failed, or that did not keep an agreed time, holds this one.
bool is_looked_for(const FindRequest& request, const RunHistory& run);

// Whether `row`, which holds `count` starts, takes in one more.
bool takes_in(const Collapse& collapse, const RunRow& row, int64_t count);
// What becomes of `row`, a run that has not begun, when it takes in `asked` as its `count`th start.
struct TakenIn {
  Payload input;
  WallMs wake_at = -1;
  bool is_due = false;
};
TakenIn take_in(const NewRun& asked, const RunRow& row, int64_t count);

// What wakes a paused run.
bool ends_a_pause(const std::string& topic);
// Whether a message of `topic` queues a run that is laid aside. One that is to begin later begins then, not now.
bool wakes(RunStatus status, LeaseToken token, const std::string& topic);
Status store_closed();
Status store_has_no_file();
Status store_busy(size_t waiting_max);

}  // namespace stepwell::detail
