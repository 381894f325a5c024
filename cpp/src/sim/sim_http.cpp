#include "sim/sim_http.h"

namespace stepwell::sim {

HttpOutcome SimServer::answer(const HttpRequest& request) {
  if (on_request) on_request(request.url);
  HttpOutcome outcome;
  outcome.maybe_sent = true;
  outcome.response.status = 200;
  outcome.response.body = body_for(request.url);
  return clock_.chance(faults.percent) ? fault(std::move(outcome)) : outcome;
}

HttpOutcome SimServer::fault(HttpOutcome outcome) {
  HttpResponse& response = outcome.response;
  switch (clock_.draw(8)) {
    case 0:
      response.status = 429;
      response.headers.emplace_back("retry-after", std::to_string(clock_.draw(5)));
      break;
    case 1:
      response.status = 500;
      break;
    case 2:
      response.status = 503;
      break;
    case 3:
      response.body.resize(response.body.size() / 2);  // cut in the middle
      break;
    case 4:
      response.body = "<html>gateway</html>";
      break;
    case 5:
      response.body = "{\"other\":1}";
      break;
    case 6:
      outcome.status = Status(StatusKind::kIo, code::kHttpConnect, "refused");
      outcome.maybe_sent = false;
      break;
    case 7:
      outcome.status = Status(StatusKind::kTimeout, code::kHttpTimeout, "no answer in time");
      break;
    default:
      outcome.status = Status(StatusKind::kIo, code::kHttpBroken, "reset by the peer");
  }
  return outcome;
}

CallId SimHttp::send(HttpRequest request, HttpDone done) {
  const CallId call = next_call_++;
  in_flight_.emplace(call, std::move(done));
  // The request travels, is answered at one instant, and the answer travels back: a crash may fall between any two.
  loop_.after(clock_.draw(server_.faults.delay_ms_max), [this, call, request = std::move(request)] {
    if (!in_flight_.contains(call)) return;
    HttpOutcome outcome = server_.answer(request);
    loop_.after(clock_.draw(server_.faults.delay_ms_max), [this, call, outcome = std::move(outcome)]() mutable {
      auto found = in_flight_.extract(call);
      if (!found.empty()) found.mapped()(std::move(outcome));
    });
  });
  return call;
}

void SimHttp::cancel(CallId call) {
  auto found = in_flight_.extract(call);
  if (found.empty()) return;
  loop_.post([done = std::move(found.mapped())]() mutable {
    HttpOutcome outcome;
    outcome.status = Status(StatusKind::kCancelled, code::kHttpBroken, "the call was cancelled");
    outcome.maybe_sent = true;
    done(std::move(outcome));
  });
}

}  // namespace stepwell::sim
