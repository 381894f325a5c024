// Streams by their rule: text, what else is kept, and how they end. Each form is one that a provider sends.
#include "engine/stream_reader.h"

#include <gtest/gtest.h>

#include "base/json_scan.h"
#include "engine/judge.h"
#include "engine/usage.h"

namespace stepwell::detail {
namespace {

StreamRule openai() {
  StreamRule rule;
  rule.text_pointers = {"/choices/0/delta/content"};
  rule.end_data = "[DONE]";
  rule.error_pointers = {"/error"};
  return rule;
}

StreamRule anthropic() {
  StreamRule rule;
  rule.text_pointers = {"/delta/text"};
  rule.end_events = {"message_stop"};
  rule.error_pointers = {"/error"};
  return rule;
}

std::string piece(const std::string& raw) {
  return R"(data: {"id":"c1","choices":[{"index":0,"delta":{"content":")" + raw + "\"},\"finish_reason\":null}]}\n\n";
}

std::string text_of(const std::vector<std::string>& pieces) {
  StreamReader reader(openai());
  std::string text;
  for (const std::string& raw : pieces) {
    reader.take(piece(raw));
    text += reader.take_text();
  }
  reader.take("data: [DONE]\n\n");
  EXPECT_EQ(StreamState::kEnded, reader.state()) << reader.failure().message;
  return text + reader.take_text();
}

TEST(StreamReader, OpenAiChat) {
  StreamReader reader(openai());
  EXPECT_TRUE(reader.take(R"(data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]})"
                          "\n\n"));
  EXPECT_EQ("", reader.take_text());
  EXPECT_TRUE(reader.take(piece("Hel") + piece("lo")));
  EXPECT_EQ("Hello", reader.take_text());
  EXPECT_TRUE(
      reader.take("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                  "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n: still here\n\n"));
  EXPECT_FALSE(reader.take("data: [DONE]\n\ndata: never\n\n"));
  EXPECT_EQ(StreamState::kEnded, reader.state());
  EXPECT_EQ(R"([{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]},)"
            R"({"id":"c1","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]},)"
            R"({"choices":[{"delta":{},"finish_reason":"stop"}]},{"choices":[],"usage":{"prompt_tokens":3}}])",
            reader.events());
}

TEST(StreamReader, AnthropicMessages) {
  StreamReader reader(anthropic());
  reader.take(
      "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9}}}\n\n"
      "event: ping\ndata: {\"type\": \"ping\"}\n\n"
      "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\","
      "\"text\":\"Hi\"}}\n\n"
      "event: content_block_delta\ndata: {\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n"
      "event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n");
  EXPECT_EQ(StreamState::kOpen, reader.state());
  EXPECT_EQ(4, reader.event_count()) << "a ping says nothing";
  reader.take("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
  EXPECT_EQ(StreamState::kEnded, reader.state());
  EXPECT_EQ("Hi", reader.take_text());
  EXPECT_NE(std::string::npos, reader.events().find("input_json_delta"));
  EXPECT_NE(std::string::npos, reader.events().find("output_tokens"));
  EXPECT_EQ(std::string::npos, reader.events().find("ping"));
}

TEST(StreamReader, GeminiHasNoEndAndSaysTwoThingsAtOnce) {
  StreamRule rule;
  rule.text_pointers = {"/candidates/0/content/parts/0/text"};
  StreamReader reader(rule);
  reader.take(
      "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"a\"}, {\"functionCall\": {}}]}}]}\n\n"
      "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"b\"}]}}]}\n\n"
      "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"c\"}]}, \"finishReason\": \"STOP\"}]}\n\n");
  reader.finish_body();
  EXPECT_EQ(StreamState::kEnded, reader.state());
  EXPECT_EQ("abc", reader.take_text());
  EXPECT_NE(std::string::npos, reader.events().find("functionCall"));
  EXPECT_NE(std::string::npos, reader.events().find("STOP"));
  EXPECT_EQ(std::string::npos, reader.events().find("\"b\""));
}

TEST(StreamReader, OnlyEventsOfTheNamesHoldText) {
  StreamRule rule;
  rule.text_pointers = {"/delta"};
  rule.text_events = {"response.output_text.delta"};
  rule.end_events = {"response.completed"};
  StreamReader reader(rule);
  reader.take(
      "event: response.function_call_arguments.delta\ndata: {\"delta\":\"{\\\"a\"}\n\n"
      "event: response.output_text.delta\ndata: {\"delta\":\"Hi\"}\n\n"
      "event: response.completed\ndata: {\"response\":{}}\n\n");
  EXPECT_EQ("Hi", reader.take_text());
  EXPECT_EQ(StreamState::kEnded, reader.state());
  EXPECT_NE(std::string::npos, reader.events().find("{\\\"a"));
}

TEST(StreamReader, NoCharacterIsCut) {
  EXPECT_EQ("a\"\\/\b\f\n\r\tz", text_of({R"(a\"\\\/\b\f\n\r\tz)"}));
  EXPECT_EQ("\xC3\xA9\xF0\x9F\x98\x80", text_of({R"(\u00e9\ud83d\ude00)"}));
  EXPECT_EQ("\xF0\x9F\x98\x80!", text_of({R"(\ud83d)", R"(\ude00!)"})) << "a surrogate pair in two events";
  EXPECT_EQ("\xEF\xBF\xBDx", text_of({R"(\ud83d)", "x"}));
  EXPECT_EQ("\xEF\xBF\xBDx", text_of({R"(\ude00x)"}));
  EXPECT_EQ("x\xEF\xBF\xBD", text_of({R"(x\ud83d)"})) << "the stream's end";
  EXPECT_EQ("\xF0\x9F\x98\x80", text_of({"\xF0\x9F", "\x98\x80"})) << "bytes of a character in two events";
  EXPECT_EQ("\xF0\x9F\x98\x80", text_of({"\xF0", "\x9F", "\x98", "\x80"}));
  EXPECT_EQ(
      "a\xEF\xBF\xBD\xEF\xBF\xBD"
      "b",
      text_of({"a\xFF\xC0"
               "b"}));
  EXPECT_EQ("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", text_of({"\xED\xA0\x80"})) << "a surrogate as bytes";
  EXPECT_EQ("\xEF\xBF\xBD", text_of({"\xE2\x82"}));
}

TEST(StreamReader, HowItFails) {
  const struct {
    const char* body;
    ErrorCode code;
  } cases[] = {
      {"", code::kStreamCut},
      {"data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n", code::kStreamCut},
      {"data: [DONE]", code::kStreamCut},
      {"data: {\"error\":{\"message\":\"overloaded\",\"type\":\"overloaded_error\"}}\n\n", code::kStreamError},
      {"data: <html>\n\n", code::kHttpBody},
      {"data: {\"choices\":[{\"delta\":{\"content\":\"x\\q\"}}]}\n\n", code::kHttpBody},
      {"data: {\"choices\":[{\"delta\":{\"content\":\"x\"\n\n", code::kHttpBody},
      {"data: {\"choices\":[{\"delta\":{\"content\":\"x\n\n", code::kHttpBody},
  };
  for (const auto& each : cases) {
    StreamReader reader(openai());
    reader.take(each.body);
    reader.finish_body();
    EXPECT_EQ(StreamState::kFailed, reader.state()) << each.body;
    EXPECT_EQ(each.code, reader.failure().code) << each.body << ": " << reader.failure().message;
  }
}

TEST(StreamReader, AnErrorInTheStreamSaysItsKind) {
  StreamReader reader(openai());
  reader.take(piece("x") + "data: {\"error\":{\"message\":\"too busy\",\"type\":\"overloaded_error\"}}\n\n");
  EXPECT_EQ("overloaded_error", reader.failure().kind);
  EXPECT_NE(std::string::npos, reader.failure().message.find("too busy"));
  EXPECT_EQ("x", reader.take_text());
}

TEST(StreamReader, AnErrorThatIsTheEventItselfWasTakenForAnEventAndTheStreamForCut) {
  StreamReader reader(openai());
  reader.take(piece("x") +
              "event: error\ndata: {\"type\":\"error\",\"code\":\"invalid_prompt\",\"message\":\"not so\"}\n\n");
  reader.finish_body();
  EXPECT_EQ(code::kStreamError, reader.failure().code);
  EXPECT_EQ("invalid_prompt", reader.failure().kind);
  EXPECT_NE(std::string::npos, reader.failure().message.find("in the stream: not so"));
  StreamReader bare(openai());
  bare.take("data: {\"type\":\"error\"}\n\n");
  EXPECT_EQ(code::kStreamError, bare.failure().code);
  EXPECT_EQ("", bare.failure().kind);
}

TEST(StreamReader, NothingGrowsWithoutEnd) {
  StreamRule rule = openai();
  rule.text_bytes_max = 1'000;
  rule.event_bytes_max = 200;
  const auto fails_with = [&rule](const std::string& event) {
    StreamReader reader(rule);
    int count = 0;
    while (count < 10'000 && reader.take(event)) ++count;
    EXPECT_LT(count, 200) << event;
    return reader.failure().code;
  };
  EXPECT_EQ(code::kHttpTooLarge, fails_with(piece("0123456789")));
  EXPECT_EQ(code::kHttpTooLarge, fails_with("data: {\"choices\":[{\"delta\":{\"tool_calls\":[1]}}]}\n\n"));
  EXPECT_EQ(code::kHttpTooLarge, fails_with("data: {\"no end of a line\""));
}

TEST(StreamUsage, IsReadWhereEachProviderSaysIt) {
  UsageRule openai{
      {"/usage/prompt_tokens"}, {"/usage/completion_tokens"}, "/usage/prompt_tokens_details/cached_tokens"};
  Usage usage = count_in_stream(
      {R"({"choices":[],"usage":null})",
       R"({"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}})"},
      openai);
  EXPECT_EQ(9, usage.input);
  EXPECT_EQ(4, usage.output);
  EXPECT_EQ(2, usage.cached);
  UsageRule anthropic{{"/usage/input_tokens"}, {"/usage/output_tokens"}, ""};
  usage = count_in_stream({R"({"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}})",
                           R"({"type":"message_delta","usage":{"output_tokens":30}})"},
                          anthropic);
  EXPECT_EQ(7, usage.input);
  EXPECT_EQ(30, usage.output) << "the last word counts";
  usage = count_in_stream({R"({"response":{"usage":{"input_tokens":5,"output_tokens":6}}})"}, anthropic);
  EXPECT_EQ(5, usage.input);
  EXPECT_EQ(6, usage.output);
  EXPECT_EQ(-1, count_in_stream({"{}"}, anthropic).input) << "it does not say";
}

TEST(StreamVerdict, SaysWhetherThePeerMayHaveDoneTheWork) {
  CallSpec call;
  call.repeatable = true;
  call.stream = openai();
  call.request.url = "http://peer/";
  HttpOutcome outcome;
  outcome.response.status = 200;
  outcome.response.headers = {{"content-type", "text/event-stream"}};
  StreamReader cut(*call.stream);
  cut.take(piece("half"));
  Verdict verdict = judge_stream(call, cut, std::move(outcome), false, 0);
  EXPECT_FALSE(verdict.ok);
  EXPECT_TRUE(verdict.retryable);
  EXPECT_TRUE(verdict.maybe_done);
  EXPECT_EQ(Blame::kPeer, verdict.blame);
  StreamReader refused(*call.stream);
  refused.take("data: {\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no\"}}\n\n");
  verdict = judge_stream(call, refused, {}, false, 0);
  EXPECT_FALSE(verdict.retryable);
  EXPECT_EQ(Blame::kOurs, verdict.blame);
  StreamReader whole(*call.stream);
  whole.take(piece("all") + "data: [DONE]\n\n");
  HttpOutcome cancelled;
  cancelled.status = Status(StatusKind::kCancelled, code::kHttpBroken, "ended by us after the end");
  verdict = judge_stream(call, whole, std::move(cancelled), false, 0);
  EXPECT_TRUE(verdict.ok);
  EXPECT_FALSE(verdict.maybe_done);
}

TEST(JsonScan, FindsAStringOrSaysWhatIsThere) {
  const auto scan = [](const char* text, const char* pointer) { return json_scan(text, json_pointer_parts(pointer)); };
  const char* text = R"( { "x" : {"a":[1,{"b":"}]"}]}, "n": null, "k": -1.5e3, "a/b": ["p", "q\"r"], "e": "" } )";
  EXPECT_EQ("q\\\"r", scan(text, "/a~1b/1").raw);
  EXPECT_TRUE(scan(text, "/a~1b/1").has_escapes);
  EXPECT_FALSE(scan(text, "/a~1b/1").has_more);
  EXPECT_TRUE(scan(text, "/a~1b/0").has_more);
  EXPECT_EQ("}]", scan(text, "/x/a/1/b").raw);
  EXPECT_EQ(JsonFound::kString, scan(text, "/e").found);
  EXPECT_EQ(JsonFound::kNull, scan(text, "/n").found);
  EXPECT_EQ(JsonFound::kOther, scan(text, "/k").found);
  EXPECT_EQ(JsonFound::kOther, scan(text, "/x").found);
  for (const char* missing : {"/y", "/x/b", "/a~1b/2", "/a~1b/01", "/k/a", "/a~1b/b"})
    EXPECT_EQ(JsonFound::kNull, scan(text, missing).found) << missing;
  for (const char* odd : {"", "{", "{\"x\"", "{\"x\":", "{\"x\":\"", "{\"x\":\"a\\\"", "{x:1}", "{\"w\":1 \"x\":\"y\"}",
                          "{\"w\":[1}", "{\"\\u0078\":\"y\"}"}) {
    EXPECT_EQ(JsonFound::kUnsure, scan(odd, "/x").found) << odd;
  }
  EXPECT_EQ(JsonFound::kUnsure, scan(std::string(100'000, '[').c_str(), "/0/0/x/1").found == JsonFound::kNull
                                    ? JsonFound::kUnsure
                                    : JsonFound::kString)
      << "depth costs no stack";
}

// Gemini marks its last event and not the end.
TEST(StreamReader, AStreamWithoutAnEndIsWholeWhenItsLastEventSaysSo) {
  StreamRule rule;
  rule.text_pointers = {"/text"};
  rule.last_pointers = {"/done", "/blocked"};
  const auto state_after = [&rule](const std::string& bytes) {
    StreamReader reader(rule);
    reader.take(bytes);
    reader.finish_body();
    return reader.state();
  };
  EXPECT_EQ(state_after("data: {\"text\":\"a\"}\n\ndata: {\"text\":\"b\",\"done\":\"STOP\"}\n\n"), StreamState::kEnded);
  EXPECT_EQ(state_after("data: {\"text\":\"a\"}\n\ndata: {\"done\":\"STOP\"}\n\n"), StreamState::kEnded);
  EXPECT_EQ(state_after("data: {\"text\":\"a\"}\n\n"), StreamState::kFailed);
  EXPECT_EQ(state_after("data: {\"text\":\"a\",\"done\":null}\n\n"), StreamState::kFailed);
  EXPECT_EQ(state_after(""), StreamState::kFailed);
}

}  // namespace
}  // namespace stepwell::detail
