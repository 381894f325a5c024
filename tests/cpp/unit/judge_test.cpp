#include "engine/judge.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace stepwell::detail {
namespace {

CallSpec llm_call() {
  CallSpec call;
  call.request.url = "https://llm.example/v1/chat?secret-looking=query";
  call.request.headers = {{"authorization", "Bearer sk-verysecret1234567890"}, {"content-type", "application/json"}};
  call.judge = JudgeRule{true, "/choices/0/message"};
  call.repeatable = true;
  return call;
}

HttpOutcome answered(int32_t status, std::string body, HttpHeaders headers = {}) {
  HttpOutcome outcome;
  outcome.maybe_sent = true;
  outcome.response.status = status;
  outcome.response.body = std::move(body);
  outcome.response.headers = std::move(headers);
  return outcome;
}

HttpOutcome broken(ErrorCode code, bool maybe_sent) {
  HttpOutcome outcome;
  outcome.status = Status(StatusKind::kIo, code, "it broke");
  outcome.maybe_sent = maybe_sent;
  return outcome;
}

struct Case {
  const char* name;
  HttpOutcome outcome;
  bool ok;
  bool retryable;
};

TEST(Judge, SuccessIsWhatTheRuleSays) {
  const Case cases[] = {
      {"good", answered(200, R"({"choices":[{"message":{"content":"x"}}]})"), true, false},
      {"html behind 200", answered(200, "<html>login</html>"), false, true},
      {"cut json", answered(200, R"({"choices":[{"mess)"), false, true},
      {"json without the place", answered(200, R"({"error":{"message":"quota"}})"), false, true},
      {"null at the place", answered(200, R"({"choices":[{"message":null}]})"), false, true},
      {"empty body", answered(200, ""), false, true},
      {"redirect", answered(302, ""), false, false},
      {"unauthorized", answered(401, "{}"), false, false},
      {"missing model", answered(404, "{}"), false, false},
      {"rate limit", answered(429, "{}"), false, true},
      {"used-up quota", answered(429, R"({"error":{"code":"insufficient_quota"}})"), false, false},
      {"server error", answered(500, ""), false, true},
      {"refused", broken(code::kHttpConnect, false), false, true},
      {"reset", broken(code::kHttpBroken, true), false, true},
      {"bad certificate", broken(code::kHttpTls, false), false, false},
  };
  for (const Case& one : cases) {
    const Verdict verdict = judge(llm_call(), one.outcome, 0);
    EXPECT_EQ(verdict.ok, one.ok) << one.name;
    EXPECT_EQ(verdict.retryable, one.retryable) << one.name;
    if (!one.ok) {
      EXPECT_EQ(json_check(verdict.payload, "/code"), JsonCheck::kGood) << one.name << " " << verdict.payload;
    }
  }
}

// Promise 6.
TEST(Judge, WhatMayHaveBeenDoneIsNotRepeatedBlindly) {
  CallSpec call = llm_call();
  call.repeatable = false;
  EXPECT_FALSE(judge(call, broken(code::kHttpBroken, true), 0).retryable);
  EXPECT_FALSE(judge(call, broken(code::kHttpTimeout, true), 0).retryable);
  EXPECT_FALSE(judge(call, answered(500, ""), 0).retryable);
  EXPECT_TRUE(judge(call, broken(code::kHttpConnect, false), 0).retryable);
  EXPECT_TRUE(judge(call, answered(429, ""), 0).retryable);
}

TEST(Judge, ErrorTextsHoldNoSecret) {
  const Verdict verdict =
      judge(llm_call(), answered(401, R"({"error":{"message":"bad key sk-verysecret1234567890 given"}})"), 0);
  EXPECT_EQ(verdict.payload.find("verysecret"), std::string::npos) << verdict.payload;
  EXPECT_EQ(verdict.payload.find("secret-looking"), std::string::npos) << verdict.payload;
  EXPECT_NE(verdict.payload.find("bad key *** given"), std::string::npos) << verdict.payload;
}

TEST(Judge, BytesThatAreNotUtf8MakeAReadableError) {
  const Verdict verdict = judge(llm_call(), answered(500, "\xff\xfe broken"), 0);
  EXPECT_EQ(json_check(verdict.payload, "/message"), JsonCheck::kGood) << verdict.payload;
}

TEST(RetryAfter, SecondsDatesAndNonsense) {
  const auto parse = [](const char* name, const std::string& value, WallMs now = 0) {
    return parse_retry_after({{name, value}}, now);
  };
  EXPECT_EQ(parse("retry-after", "7"), 7'000);
  EXPECT_EQ(parse("retry-after", "0"), 0);
  EXPECT_EQ(parse("retry-after", "0.25"), 250);
  EXPECT_EQ(parse("retry-after-ms", "40"), 40);
  EXPECT_EQ(parse("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT", 784'111'770'000), 7'000);
  EXPECT_EQ(parse("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT", 1'800'000'000'000), 0) << "a past date is now";
  for (const char* nonsense :
       {"-1", "abc", "NaN", "inf", "1e9", "99999999999999999999", "1.2.3", "", ".", "Sun, 06 Foo 1994 08:49:37 GMT"}) {
    EXPECT_EQ(parse("retry-after", nonsense), -1) << nonsense;
  }
  EXPECT_EQ(parse_retry_after({}, 0), -1);
}

}  // namespace
}  // namespace stepwell::detail
