#include "runtime/calls.h"

#include <utility>

#include "engine/judge.h"
#include "runtime/streams.h"

namespace stepwell::detail {

namespace {

void send_streamed(HttpTransport& transport, std::shared_ptr<RunningCall> call, WallMs wall_ms, CallEars ears) {
  std::shared_ptr<LiveStream> stream = call->stream;
  if (stream->owner == nullptr) return;  // nobody waits any more
  RunningCall& sending = *call;
  stream->owner->begin_attempt(*stream, std::move(ears.begun), [&transport, weak = std::weak_ptr<RunningCall>(call)] {
    const auto running = weak.lock();
    if (running && running->sent != 0) transport.cancel(running->sent);
  });
  HttpRequest request = call->spec->request;
  sending.sent = transport.stream(
      std::move(request),
      [stream](const HttpResponse& head, std::string_view bytes) { return stream->take(head, bytes); },
      [call = std::move(call), stream, wall_ms, done = std::move(ears.done)](HttpOutcome outcome) mutable {
        call->sent = 0;
        Verdict verdict;
        if (stream->owner != nullptr && stream->reader) {
          verdict = judge_stream(*call->spec, *stream->reader, std::move(outcome), stream->is_silent, wall_ms);
          Payload payload = stream->owner->end_attempt(stream, verdict.ok);
          if (verdict.ok) verdict.payload = std::move(payload);
        }
        done(std::move(verdict));
      });
}

}  // namespace

void send_request(HttpTransport& transport, std::shared_ptr<RunningCall> call, WallMs wall_ms, CallEars ears,
                  CallId RunningCall::* slot) {
  if (call->stream) {
    send_streamed(transport, std::move(call), wall_ms, std::move(ears));
    return;
  }
  HttpRequest request = call->spec->request;  // a copy: a retry sends it again
  CallId& id = (*call).*slot;
  id = transport.send(std::move(request), [call = std::move(call), slot, wall_ms,
                                           done = std::move(ears.done)](HttpOutcome outcome) mutable {
    (*call).*slot = 0;
    done(judge(*call->spec, std::move(outcome), wall_ms));
  });
}

void cancel_requests(HttpTransport& transport, const RunningCall& call) {
  for (const CallId id : {call.sent, call.hedge}) {
    if (id != 0) transport.cancel(id);
  }
}

}  // namespace stepwell::detail
