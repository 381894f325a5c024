// What the core reads of an answer: is it JSON, and does it hold what was asked for.
#include "base/json.h"

#include <gtest/gtest.h>

namespace stepwell::detail {
namespace {

TEST(JsonCheck, FindsWhatAPointerNames) {
  const std::string text =
      R"({"id": 1, "choices": [{"message": {"content": "x", "refusal": null}}, 7], "a/b": {"~": []}})";
  for (const char* pointer : {"/id", "/choices", "/choices/0", "/choices/0/message", "/choices/0/message/content",
                              "/choices/1", "/a~1b", "/a~1b/~0"}) {
    EXPECT_EQ(JsonCheck::kGood, json_check(text, pointer)) << pointer;
  }
  for (const char* pointer : {"/choices/2", "/choices/00", "/choices/0/message/refusal", "/message", "/id/0",
                              "/content", "/choices/message", "/a/b", "/"}) {
    EXPECT_EQ(JsonCheck::kPointerMissing, json_check(text, pointer)) << pointer;
  }
}

TEST(JsonCheck, OneWholeTextAndNothingElse) {
  for (const char* bad : {"", " ", "{", "{}x", "{\"a\": }", "{'a': 1}", "[1,]", "nul", "\"\xff\"", "{\"a\": 1} {}"}) {
    EXPECT_EQ(JsonCheck::kNotJson, json_check(bad, "")) << bad;
    EXPECT_EQ(JsonCheck::kNotJson, json_check(bad, "/a")) << bad;
  }
  EXPECT_EQ(JsonCheck::kGood, json_check("1", ""));
  EXPECT_EQ(JsonCheck::kPointerMissing, json_check("1", "/a"));
  EXPECT_EQ(JsonCheck::kPointerMissing, json_check("[]", "/0"));
  EXPECT_EQ(JsonCheck::kGood, json_check("[[[0]]]", "/0/0/0"));
  EXPECT_EQ(JsonCheck::kPointerMissing, json_check(R"({"a": 1, "a": null})", "/a")) << "the last member counts";
}

// Found by stream_fuzz: the parser stops at a NUL, so that whatever stood behind it passed for JSON.
TEST(JsonCheck, NothingHidesBehindANul) {
  using namespace std::string_literals;
  EXPECT_EQ(json_check("0\0<html>"s, ""), JsonCheck::kNotJson);
  EXPECT_EQ(json_check("{\"a\":1}\0"s, "/a"), JsonCheck::kNotJson);
  EXPECT_EQ(json_check("\"a\0b\""s, ""), JsonCheck::kNotJson);
  EXPECT_EQ(json_check("{\"a\":\"\\u0000\"}", "/a"), JsonCheck::kGood) << "an escaped one is a character";
}

}  // namespace
}  // namespace stepwell::detail
