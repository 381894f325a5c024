// The HTTP seam: send a request, get exactly one outcome. CurlTransport in a process, SimHttp in tests.
//
// Loop thread only. The outcome arrives later on the loop thread, never inside send. The transport knows nothing of
// retries, keys or providers: one request is one attempt.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "stepwell/function.h"
#include "stepwell/status.h"

namespace stepwell {

using CallId = uint64_t;  // 0 is never a call
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = "POST";
  std::string url;  // http or https; user names in it are refused
  HttpHeaders headers;
  std::string body;
  int64_t connect_timeout_ms = 10'000;
  int64_t total_timeout_ms = 60'000;  // counted from send, waiting for a connection included
  int64_t body_bytes_max = 16 << 20;
  bool is_bulk = false;  // EgressPolicy::bulk_bytes_max holds: the results of a provider's batch, say
  int64_t header_bytes_max = 64 << 10;
  int64_t stall_ms_max = -1;  // as EgressPolicy's, for this request; -1: the policy's
};

struct HttpResponse {
  int32_t status = 0;   // 100 to 599
  HttpHeaders headers;  // names in lower case
  std::string body;     // unpacked (gzip, br, zstd where curl has them), although packed ones are not asked for
};

// A response, or why there is none. `maybe_sent` says that the peer may have seen the request: false only when no
// connection was made, so that repeating it cannot do the work twice.
struct HttpOutcome {
  Status status;  // ok: `response` is whole
  HttpResponse response;
  bool maybe_sent = false;
  int64_t elapsed_us = 0;
};

using HttpDone = MoveFunction<void(HttpOutcome)>;

// Whether the answer is a stream of server-sent events: status 200, and that media type.
inline bool is_event_stream(const HttpResponse& response) {
  constexpr std::string_view kType = "text/event-stream";
  if (response.status != 200) return false;
  for (const auto& [name, value] : response.headers) {
    if (name != "content-type" || value.size() < kType.size()) continue;
    bool is_same = value.size() == kType.size() || value[kType.size()] == ';' || value[kType.size()] == ' ';
    for (size_t i = 0; i < kType.size() && is_same; ++i) is_same = (value[i] | 0x20) == (kType[i] | 0x20);
    return is_same;
  }
  return false;
}

// Takes the body of an event stream as it arrives, on the loop thread and inside the transport, which it must not call.
// `head` is the answer without its body. False: the rest is not wanted; the connection is closed, and the outcome is
// kCancelled.
using HttpBody = MoveFunction<bool(const HttpResponse& head, std::string_view bytes)>;

class HttpTransport {
 public:
  virtual ~HttpTransport() = default;

  // Starts `request`, or queues it while its host has all its connections in use.
  virtual CallId send(HttpRequest request, HttpDone done) = 0;
  // The same, but the body of an event stream goes to `body` and is not kept. Any other answer is as for send.
  virtual CallId stream(HttpRequest request, HttpBody body, HttpDone done) = 0;
  // Ends a call: its outcome is kCancelled and still arrives. Unknown ids are ignored.
  virtual void cancel(CallId call) = 0;
};

}  // namespace stepwell
