// Fuzzes what a peer may answer: status, headers (Retry-After among them) and body, through the judge to the payload
// that is recorded.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/json.h"
#include "engine/judge.h"
#include "fuzz/fuzz_input.h"

using namespace stepwell;          // NOLINT(google-build-using-namespace): a program of one function
using namespace stepwell::detail;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  testing::FuzzInput input(bytes, count);
  CallSpec call;
  call.repeatable = input.byte() % 2 == 0;
  call.judge.json_body = input.byte() % 4 != 0;
  if (input.byte() % 2 == 0) call.judge.required_pointer = "/" + input.text();
  call.request.url = "http://peer.example/" + input.text();
  call.request.headers.emplace_back("authorization", "Bearer " + input.text());
  const std::string secret = call.request.headers[0].second.substr(7);

  HttpOutcome outcome;
  outcome.response.status = 100 + input.byte() * 2;
  if (input.byte() % 8 == 0) outcome.status = Status(StatusKind::kIo, code::kHttpBroken, input.text());
  outcome.maybe_sent = input.byte() % 2 == 0;
  constexpr const char* kNames[] = {"retry-after", "retry-after-ms", "content-type", "x"};
  for (int left = input.byte() % 4; left > 0; --left) {
    outcome.response.headers.emplace_back(kNames[input.byte() % 4], input.text());
  }
  outcome.response.body = input.rest();
  const std::string body = outcome.response.body;
  const bool is_transport_error = !outcome.status.is_ok();
  const int32_t status = outcome.response.status;

  const int64_t retry_after_ms = parse_retry_after(outcome.response.headers, 1'750'000'000'000);
  STEPWELL_CHECK(retry_after_ms >= -1, "Retry-After is a delay or nothing");
  const Verdict verdict = judge(call, std::move(outcome), 1'750'000'000'000);
  if (verdict.ok) {
    STEPWELL_CHECK(!is_transport_error && status >= 200 && status <= 299, "only an answer can be a success");
    STEPWELL_CHECK(verdict.payload == body, "a success is the body, byte for byte");
    STEPWELL_CHECK(!call.judge.json_body || json_check(body, "") == JsonCheck::kGood, "a success is JSON if asked for");
    return 0;
  }
  STEPWELL_CHECK(json_check(verdict.payload, "/code") == JsonCheck::kGood, "a failure is an error in JSON");
  STEPWELL_CHECK(json_check(verdict.payload, "/message") == JsonCheck::kGood, "a failure has a message");
  const bool is_secret = secret.size() >= 16 && secret.find_first_of(" \"\\*{}:,") == std::string::npos;
  const bool is_shown = call.request.url.find(secret) != std::string::npos || body.find(secret) == std::string::npos;
  STEPWELL_CHECK(!is_secret || is_shown || verdict.payload.find(secret) == std::string::npos,
                 "a failure shows no header of the request");
  return 0;
}
