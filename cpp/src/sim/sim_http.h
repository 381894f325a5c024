// SimHttp: the transport's twin, with a server behind it that outlives engines and keeps a journal.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "sim/sim_loop.h"
#include "stepwell/http.h"

namespace stepwell::sim {

struct HttpFaults {
  int64_t percent = 0;  // share of requests that go wrong, one way or another
  int64_t delay_ms_max = 400;
};

// What the world's server saw. A URL names one call of one run.
class SimServer {
 public:
  explicit SimServer(SimClock& clock) : clock_(clock) {}

  HttpFaults faults;
  // Told of each request before it is answered: the world's place for invariants.
  MoveFunction<void(const std::string& url)> on_request;

  // One attempt's outcome, drawn from the seed.
  HttpOutcome answer(const HttpRequest& request);
  // What a good answer to `url` holds.
  static std::string body_for(const std::string& url) {
    return R"({"value":")" + url + R"(","usage":{"in":3,"out":2}})";
  }
  // The same as a stream, letter by letter, at "/text"; its end is "[DONE]".
  static std::string stream_for(const std::string& url);

 private:
  HttpOutcome fault(HttpOutcome outcome);
  SimClock& clock_;
};

class SimHttp final : public HttpTransport {
 public:
  SimHttp(SimClock& clock, Loop& loop, SimServer& server) : clock_(clock), loop_(loop), server_(server) {}

  CallId send(HttpRequest request, HttpDone done) override { return stream(std::move(request), {}, std::move(done)); }
  // A good answer is a stream of three chunks, the last of which may be lost.
  CallId stream(HttpRequest request, HttpBody body, HttpDone done) override;
  void cancel(CallId call) override;

 private:
  struct InFlight {
    HttpDone done;
    HttpBody body;
  };
  void answer(CallId call, HttpOutcome outcome);
  void send_chunks(CallId call, HttpOutcome outcome, size_t at);

  SimClock& clock_;
  Loop& loop_;
  SimServer& server_;
  CallId next_call_ = 1;
  std::unordered_map<CallId, InFlight> in_flight_;
};

}  // namespace stepwell::sim
