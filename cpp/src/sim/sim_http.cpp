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

std::string SimServer::stream_for(const std::string& url) {
  std::string out;
  for (const char letter : url) out.append(R"(data: {"text":")").append(1, letter).append("\"}\n\n");
  return out + "data: [DONE]\n\n";
}

CallId SimHttp::stream(HttpRequest request, HttpBody body, HttpDone done) {
  const CallId call = next_call_++;
  in_flight_[call] = {std::move(done), std::move(body)};
  // The request travels, is answered at one instant, and the answer travels back: a crash may fall between any two.
  loop_.after(clock_.draw(server_.faults.delay_ms_max), [this, call, request = std::move(request)] {
    if (!in_flight_.contains(call)) return;
    HttpOutcome outcome = server_.answer(request);
    if (in_flight_.at(call).body && outcome.status.is_ok() && outcome.response.status == 200) {
      const bool is_whole = outcome.response.body == SimServer::body_for(request.url);
      outcome.response.body = SimServer::stream_for(request.url);
      if (!is_whole) outcome.response.body.resize(outcome.response.body.size() / 2);
      outcome.response.headers = {{"content-type", "text/event-stream"}};
      send_chunks(call, std::move(outcome), 0);
      return;
    }
    answer(call, std::move(outcome));
  });
  return call;
}

void SimHttp::answer(CallId call, HttpOutcome outcome) {
  loop_.after(clock_.draw(server_.faults.delay_ms_max), [this, call, outcome = std::move(outcome)]() mutable {
    auto found = in_flight_.extract(call);
    if (!found.empty()) found.mapped().done(std::move(outcome));
  });
}

void SimHttp::send_chunks(CallId call, HttpOutcome outcome, size_t at) {
  loop_.after(clock_.draw(server_.faults.delay_ms_max), [this, call, at, outcome = std::move(outcome)]() mutable {
    const auto found = in_flight_.find(call);
    if (found == in_flight_.end()) return;
    const std::string& whole = outcome.response.body;
    const size_t bytes = whole.size() / 3 + 1;
    if (at < whole.size()) {
      HttpResponse head;
      head.status = outcome.response.status;
      head.headers = outcome.response.headers;
      if (!found->second.body(head, std::string_view(whole).substr(at, bytes))) {
        cancel(call);
        return;
      }
      send_chunks(call, std::move(outcome), at + bytes);
      return;
    }
    outcome.response.body.clear();
    answer(call, std::move(outcome));
  });
}

void SimHttp::cancel(CallId call) {
  auto found = in_flight_.extract(call);
  if (found.empty()) return;
  loop_.post([done = std::move(found.mapped().done)]() mutable {
    HttpOutcome outcome;
    outcome.status = Status(StatusKind::kCancelled, code::kHttpBroken, "the call was cancelled");
    outcome.maybe_sent = true;
    done(std::move(outcome));
  });
}

}  // namespace stepwell::sim
