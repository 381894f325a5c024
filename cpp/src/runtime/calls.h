// One call of a run: sends its attempts and judges them. The run machine decides about retries.
#pragma once

#include <memory>

#include "stepwell/call.h"
#include "stepwell/http.h"

namespace stepwell::detail {

struct LiveStream;

// Kept while the call may still need another attempt. Loop thread only.
struct RunningCall {
  std::unique_ptr<CallSpec> spec;
  CallId sent = 0;                     // 0: none in flight
  CallId hedge = 0;                    // the same, sent a second time beside it
  uint64_t place = 0;                  // in a line of the admission stage; 0: in none
  std::shared_ptr<LiveStream> stream;  // of a call whose answer is one
};

// What is heard of a request, on the loop thread and never inside the call that sent it.
struct CallEars {
  // A stream has brought its first event. Not told when it brings none.
  MoveFunction<void(const HttpHeaders& head)> begun;
  MoveFunction<void(Verdict)> done;  // also after a cancel
};

// Sends a call's request; its id is kept in `slot` as long as it is in flight. The call is kept alive until it is done.
void send_request(HttpTransport& transport, std::shared_ptr<RunningCall> call, WallMs wall_ms, CallEars ears,
                  CallId RunningCall::* slot = &RunningCall::sent);
// Ends what is in flight of it; `done` is told.
void cancel_requests(HttpTransport& transport, const RunningCall& call);

}  // namespace stepwell::detail
