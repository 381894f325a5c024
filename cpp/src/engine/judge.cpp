#include "engine/judge.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/json.h"
#include "engine/rate_headers.h"
#include "engine/retry.h"
#include "engine/usage.h"

namespace stepwell::detail {

namespace {

constexpr size_t kExcerptBytesMax = 300;
constexpr size_t kSecretBytesMin = 8;  // shorter header values ("json") are words, not secrets

const std::string* header(const HttpHeaders& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (key == name) return &value;
  }
  return nullptr;
}

// A whole, non-negative decimal number, or -1. Refuses signs, blanks, exponents, NaN and infinities.
double parse_plain_number(const std::string& text) {
  const bool plain = !text.empty() && text.size() < 16 &&
                     std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
  if (!plain || text == "." || std::count(text.begin(), text.end(), '.') > 1) return -1;
  return std::strtod(text.c_str(), nullptr);
}

// Days from 1970-01-01 in the proleptic Gregorian calendar; timegm is not in the C++ library.
int64_t days_from_civil(int64_t year, int64_t month, int64_t day) {
  year -= month <= 2 ? 1 : 0;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146'097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719'468;
}

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 IMF-fixdate) to milliseconds since 1970, or -1.
int64_t parse_http_date(const std::string& text) {
  static constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  int day = 0, year = 0, hour = 0, minute = 0, second = 0;
  std::array<char, 4> month{};
  std::array<char, 4> zone{};
  // NOLINTNEXTLINE(cert-err34-c): the number of fields and their ranges are checked.
  const int fields = std::sscanf(text.c_str(), "%*3s, %2d %3s %4d %2d:%2d:%2d %3s", &day, month.data(), &year, &hour,
                                 &minute, &second, zone.data());
  const size_t at = kMonths.find(month.data());
  if (fields != 7 || at == std::string_view::npos || at % 3 != 0 || std::string_view(zone.data()) != "GMT") return -1;
  if (day < 1 || day > 31 || year < 1970 || hour > 23 || minute > 59 || second > 60) return -1;
  const int64_t days = days_from_civil(year, static_cast<int64_t>(at / 3) + 1, day);
  return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000;
}

std::string without_secrets(std::string text, const HttpHeaders& headers) {
  for (const auto& [name, value] : headers) {
    const size_t space = value.rfind(' ');  // "Bearer sk-...": the scheme is no secret, the token is
    const std::string secret = space == std::string::npos ? value : value.substr(space + 1);
    if (secret.size() < kSecretBytesMin) continue;
    for (size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 3)) {
      text.replace(at, secret.size(), "***");
    }
  }
  return text;
}

// What the peer says went wrong: the error.message that LLM providers share, else the body's beginning on one line.
std::string peer_message(const HttpResponse& response) {
  std::string text = json_string_at(response.body, "/error/message");
  if (text.empty()) text = response.body.substr(0, kExcerptBytesMax);
  if (text.size() > kExcerptBytesMax) text.resize(kExcerptBytesMax);
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  return text;
}

std::string place_of(const HttpRequest& request) {
  return request.method + " " + request.url.substr(0, request.url.find('?'));
}

Verdict failure(const CallSpec& call, ErrorCode code, std::string message, int32_t status, bool retryable) {
  Verdict verdict;
  verdict.retryable = retryable;
  verdict.payload = error_payload(code, without_secrets(std::move(message), call.request.headers), status, retryable);
  return verdict;
}

Verdict judge_transport(const CallSpec& call, const HttpOutcome& outcome) {
  const ErrorCode code = outcome.status.code();
  const StatusKind kind = outcome.status.kind();  // kInvalid: a bad URL, or one that the egress guard refuses
  const bool is_hopeless = kind == StatusKind::kInvalid || kind == StatusKind::kCancelled || code == code::kHttpTls ||
                           code == code::kHttpTooLarge;
  const bool retryable = !is_hopeless && (call.repeatable || !outcome.maybe_sent);
  std::string text = outcome.status.message();
  if (!retryable && !is_hopeless) text += "; the request may have been processed, so it is not repeated";
  Verdict verdict = failure(call, code, std::move(text), 0, retryable);
  verdict.blame = is_hopeless ? Blame::kUnknown : Blame::kPeer;
  verdict.maybe_done = outcome.maybe_sent;
  return verdict;
}

Blame blame_of(int32_t status, bool is_quota) {
  if (status == 429) return is_quota ? Blame::kOurs : Blame::kThrottle;
  return status >= 500 ? Blame::kPeer : Blame::kOurs;
}

Verdict judge_answer(const CallSpec& call, HttpResponse& response, WallMs wall_ms) {
  if (response.status < 200 || response.status > 299) {
    // A used-up quota also answers 429, and no wait helps (OpenAI: insufficient_quota).
    const bool is_quota = response.status == 429 && response.body.find("insufficient_quota") != std::string::npos;
    const bool retryable = !is_quota && is_retryable_status(response.status, call.repeatable);
    // Another host must not get this one's credentials; and a POST that became a GET would be another request.
    const bool is_redirect = response.status >= 300 && response.status <= 399 && response.status != 304;
    Verdict verdict =
        failure(call, code::kHttpStatus,
                place_of(call.request) + " answered " + std::to_string(response.status) +
                    (is_redirect ? ", and redirects are not followed" : "") + ": " + peer_message(response),
                response.status, retryable);
    verdict.blame = blame_of(response.status, is_quota);
    verdict.retry_after_ms = parse_retry_after(response.headers, wall_ms);
    verdict.maybe_done = is_maybe_done_status(response.status);
    return verdict;
  }
  Usage usage;
  if (call.judge.json_body) {
    const JsonCheck check = check_and_count(response.body, call.judge.required_pointer, call.admission.usage, usage);
    if (check != JsonCheck::kGood) {
      const std::string seen =
          check == JsonCheck::kNotJson ? "a body that is not JSON" : "JSON without " + call.judge.required_pointer;
      Verdict verdict =
          failure(call, code::kHttpBody,
                  place_of(call.request) + " expected JSON" +
                      (call.judge.required_pointer.empty() ? "" : " with " + call.judge.required_pointer) + ", saw " +
                      seen + ": " + peer_message(response),
                  response.status, call.repeatable);
      verdict.blame = Blame::kOurs;
      verdict.usage = usage;
      verdict.maybe_done = true;
      return verdict;
    }
  }
  Verdict verdict;
  verdict.ok = true;
  verdict.usage = usage;
  verdict.payload = std::move(response.body);
  return verdict;
}

}  // namespace

Payload error_payload(ErrorCode code, const std::string& message, int32_t status, bool retryable) {
  std::string text = R"({"code":"SW-E)" + std::to_string(code) + R"(","message":)" + json_quote(message);
  if (status != 0) text += ",\"status\":" + std::to_string(status);
  text += retryable ? ",\"retryable\":true}" : ",\"retryable\":false}";
  return text;
}

int64_t parse_retry_after(const HttpHeaders& headers, WallMs wall_ms) {
  if (const std::string* ms = header(headers, "retry-after-ms")) {
    const double number = parse_plain_number(*ms);
    if (number >= 0) return static_cast<int64_t>(number);
  }
  const std::string* text = header(headers, "retry-after");
  if (text == nullptr) return -1;
  const double seconds = parse_plain_number(*text);
  if (seconds >= 0) return static_cast<int64_t>(seconds * 1000);
  const int64_t date = parse_http_date(*text);
  return date < 0 ? -1 : std::max<int64_t>(date - wall_ms, 0);
}

Verdict judge(const CallSpec& call, HttpOutcome outcome, WallMs wall_ms) {
  if (!outcome.status.is_ok()) return judge_transport(call, outcome);
  Verdict verdict = judge_answer(call, outcome.response, wall_ms);
  if (!call.admission.bucket.empty()) verdict.limits = read_rate_headers(outcome.response.headers, wall_ms);
  return verdict;
}

Verdict judge_stream(const CallSpec& call, StreamReader& stream, HttpOutcome outcome, bool is_silent, WallMs wall_ms) {
  const bool is_stream = outcome.status.is_ok() && is_event_stream(outcome.response);
  if (is_stream) stream.finish_body();
  const std::string place = place_of(call.request);
  Verdict verdict;
  if (stream.state() == StreamState::kEnded) {
    verdict.ok = true;
  } else if (stream.state() == StreamState::kFailed) {
    const StreamFailure& why = stream.failure();
    const bool may_pass = is_retryable_kind(why.kind);
    verdict = failure(call, why.code, place + ": " + why.message, 200,
                      call.repeatable && why.code != code::kHttpTooLarge && may_pass);
    verdict.blame =
        why.code == code::kStreamCut || (why.code == code::kStreamError && may_pass) ? Blame::kPeer : Blame::kOurs;
  } else if (is_silent) {
    verdict = failure(call, code::kHttpTimeout,
                      place + ": the stream brought no event for " + std::to_string(call.stream->idle_ms_max) + " ms",
                      0, call.repeatable);
    verdict.blame = Blame::kPeer;
  } else if (!outcome.status.is_ok() || outcome.response.status < 200 || outcome.response.status > 299) {
    return judge(call, std::move(outcome), wall_ms);
  } else {
    const std::string* type = header(outcome.response.headers, "content-type");
    verdict = failure(call, code::kHttpBody,
                      place + " expected text/event-stream with status 200, saw " +
                          (type == nullptr ? "no media type" : type->substr(0, 100)) + " with " +
                          std::to_string(outcome.response.status) + ": " + peer_message(outcome.response),
                      outcome.response.status, call.repeatable);
    verdict.blame = Blame::kOurs;
  }
  verdict.maybe_done = !verdict.ok;
  verdict.usage = count_in_stream(stream.kept_events(), call.admission.usage);
  if (is_stream && !call.admission.bucket.empty()) {
    verdict.limits = read_rate_headers(outcome.response.headers, wall_ms);
  }
  return verdict;
}

}  // namespace stepwell::detail
