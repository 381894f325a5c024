#include "runtime/calls.h"

#include "engine/judge.h"

namespace stepwell::detail {

void send_attempt(HttpTransport& transport, std::shared_ptr<RunningCall> call, WallMs wall_ms,
                  MoveFunction<void(Verdict)> done) {
  HttpRequest request = call->spec->request;  // a copy: a retry sends it again
  RunningCall& sending = *call;
  sending.sent = transport.send(std::move(request),
                                [call = std::move(call), wall_ms, done = std::move(done)](HttpOutcome outcome) mutable {
                                  call->sent = 0;
                                  done(judge(*call->spec, std::move(outcome), wall_ms));
                                });
}

}  // namespace stepwell::detail
