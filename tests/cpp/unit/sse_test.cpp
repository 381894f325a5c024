// Server-sent events: the vectors that independent parsers agree on, and the corners that they leave out.
#include "engine/sse.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/json.h"

namespace stepwell::detail {
namespace {

struct Seen {
  std::string name, data, id;
  bool operator==(const Seen&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Seen& seen) {
  return out << seen.name << " | " << seen.data << " | " << seen.id;
}

struct Collector final : SseListener {
  std::vector<Seen> all;
  void event_seen(const SseEvent& event) override {
    all.push_back({std::string(event.name), std::string(event.data), std::string(event.id)});
  }
};

std::vector<Seen> parse(const std::vector<std::string>& chunks, size_t event_bytes_max = 1'000) {
  SseParser parser(event_bytes_max);
  Collector seen;
  for (const std::string& chunk : chunks) parser.take(chunk, seen);
  return seen.all;
}

std::vector<std::string> by_byte(const std::string& text) {
  std::vector<std::string> chunks;
  for (const char c : text) chunks.emplace_back(1, c);
  return chunks;
}

std::string from_base64(const std::string& text) {
  static const std::string kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6U | static_cast<uint32_t>(kDigits.find(c));
    count += 6;
    if (count >= 8) out.push_back(static_cast<char>(bits >> (count -= 8)));
  }
  return out;
}

bool holds(const std::string& text, const std::string& pointer) {
  return json_check(text, pointer) == JsonCheck::kGood;
}

TEST(Sse, TheSharedVectors) {
  const char* given = std::getenv("STEPWELL_SHARED");  // NOLINT(concurrency-mt-unsafe)
  const std::string path =
      std::string(given != nullptr ? given : STEPWELL_SHARED_DEFAULT) + "/conformance/sse/vectors.json";
  std::ifstream file(path);
  if (!file) GTEST_SKIP() << "no " << path;
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  int count = 0;
  for (; holds(text, "/" + std::to_string(count)); ++count) {
    const std::string at = "/" + std::to_string(count);
    std::vector<std::string> chunks;
    for (int i = 0; holds(text, at + "/chunks_b64/" + std::to_string(i)); ++i) {
      chunks.push_back(from_base64(json_string_at(text, at + "/chunks_b64/" + std::to_string(i))));
    }
    std::vector<Seen> expected;
    for (int i = 0; holds(text, at + "/expect/" + std::to_string(i)); ++i) {
      const std::string event = at + "/expect/" + std::to_string(i);
      expected.push_back({json_string_at(text, event + "/event"), json_string_at(text, event + "/data"),
                          json_string_at(text, event + "/id")});
    }
    EXPECT_EQ(expected, parse(chunks)) << json_string_at(text, at + "/name");
    std::string whole;
    for (const std::string& chunk : chunks) whole += chunk;
    EXPECT_EQ(expected, parse({whole})) << json_string_at(text, at + "/name") << " in one chunk";
    EXPECT_EQ(expected, parse(by_byte(whole))) << json_string_at(text, at + "/name") << " byte by byte";
  }
  EXPECT_GE(count, 17);
}

TEST(Sse, AnyCutGivesTheSameEvents) {
  const std::string text =
      "\xEF\xBB\xBF: hello\r\nevent: a\r\ndata: 1\r\ndata: 2\r\n\r\nid: 7\rdata:  x\r\rdata\n\nretry: 5\nevent: b\n\n"
      "data: \xF0\x9F\x98\x80\n\nevent: lost\ndata: never\n";
  const std::vector<Seen> expected = {
      {"a", "1\n2", ""}, {"message", " x", "7"}, {"message", "", "7"}, {"message", "\xF0\x9F\x98\x80", "7"}};
  EXPECT_EQ(expected, parse(by_byte(text)));
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(expected, parse({text.substr(0, cut), "", text.substr(cut)})) << "cut at " << cut;
  }
}

TEST(Sse, OnlyOneMarkLeadsAStream) {
  EXPECT_EQ((std::vector<Seen>{{"message", "1", ""}}), parse({"\xEF\xBB\xBF"
                                                              "data: 1\n\n\xEF\xBB\xBF"
                                                              "data: 2\n\n"}));
  EXPECT_EQ((std::vector<Seen>{}), parse({"\xEF\xBB"
                                          "data: 1\n\n"}))
      << "half a mark belongs to the field's name";
}

TEST(Sse, AnEventNameLastsForOneEvent) {
  EXPECT_EQ((std::vector<Seen>{{"a", "1", ""}, {"message", "2", ""}}), parse({"event: a\ndata: 1\n\ndata: 2\n\n"}));
  EXPECT_EQ((std::vector<Seen>{{"message", "2", ""}}), parse({"event: a\n\ndata: 2\n\n"}));
}

TEST(Sse, AnIdIsKeptUntilItIsEmptied) {
  EXPECT_EQ((std::vector<Seen>{{"message", "1", "x"}, {"message", "2", "x"}, {"message", "3", ""}}),
            parse({"id: x\ndata: 1\n\ndata: 2\n\nid\ndata: 3\n\n"}));
}

TEST(Sse, ALineThatNeverEndsIsRefused) {
  SseParser parser(64);
  Collector seen;
  bool goes_on = true;
  size_t bytes = 0;
  for (; goes_on && bytes < 10'000; bytes += 16) goes_on = parser.take("data: 0123456789", seen);
  EXPECT_TRUE(parser.is_too_large());
  EXPECT_LE(bytes, 96U);
  EXPECT_FALSE(parser.take("\n\ndata: 1\n\n", seen)) << "nothing follows";
  EXPECT_TRUE(seen.all.empty());
}

TEST(Sse, AnEventThatNeverEndsIsRefused) {
  SseParser parser(64);
  Collector seen;
  bool goes_on = true;
  size_t lines = 0;
  for (; goes_on && lines < 1'000; ++lines) goes_on = parser.take("data: 0123456789\n", seen);
  EXPECT_TRUE(parser.is_too_large());
  EXPECT_LE(lines, 7U);
}

TEST(Sse, ManyLinesOfOneKindAreReadOnce) {
  // Only line ends of one kind, a megabyte at once: quadratic work would take minutes.
  for (const char* end : {"\n", "\r"}) {
    std::string text;
    for (int i = 0; i < 300'000; ++i) text.append("x").append(end);
    EXPECT_TRUE(parse({text}).empty());
  }
}

}  // namespace
}  // namespace stepwell::detail
