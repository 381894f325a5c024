// Fuzzes a stream of server-sent events, cut anywhere: the same bytes give the same text, events and end however they
// are cut, and what is recorded of them is JSON.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/json.h"
#include "engine/stream_reader.h"
#include "fuzz/fuzz_input.h"

using namespace stepwell;          // NOLINT(google-build-using-namespace): a program of one function
using namespace stepwell::detail;  // NOLINT(google-build-using-namespace)

namespace {

struct Outcome {
  std::string text;
  std::string events;
  StreamState state;
  ErrorCode code;
  bool operator==(const Outcome&) const = default;
};

Outcome read(const StreamRule& rule, const std::string& body, size_t chunk_bytes) {
  StreamReader reader(rule);
  std::string text;
  for (size_t at = 0; at < body.size(); at += chunk_bytes) {
    if (!reader.take(std::string_view(body).substr(at, chunk_bytes))) break;
    text += reader.take_text();
  }
  reader.finish_body();
  text += reader.take_text();
  return {text, reader.events(), reader.state(), reader.failure().code};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  testing::FuzzInput input(bytes, count);
  constexpr const char* kPointers[] = {"/choices/0/delta/content", "/delta/text", "/candidates/0/content/parts/0/text",
                                       "/a", ""};
  StreamRule rule;
  rule.text_pointers = {kPointers[input.byte() % 5]};
  rule.error_pointers = {"/error"};
  if (input.byte() % 2 == 0) rule.end_data = "[DONE]";
  if (input.byte() % 2 == 0) rule.end_events = {"message_stop"};
  rule.text_bytes_max = 400;
  rule.event_bytes_max = 200;
  const auto chunk_bytes = static_cast<size_t>(1 + input.byte());
  const std::string body = input.rest();

  const Outcome whole = read(rule, body, std::max<size_t>(body.size(), 1));
  const Outcome cut = read(rule, body, chunk_bytes);
  STEPWELL_CHECK(whole == cut, "where a stream is cut makes no difference");
  STEPWELL_CHECK(whole.state != StreamState::kOpen, "a body that is whole has ended or failed");
  STEPWELL_CHECK(json_string_at(json_quote(whole.text), "") == whole.text, "the text is UTF-8");
  STEPWELL_CHECK(whole.state == StreamState::kFailed || json_check(whole.events, "") == JsonCheck::kGood,
                 "the events of a good stream are JSON");
  return 0;
}
