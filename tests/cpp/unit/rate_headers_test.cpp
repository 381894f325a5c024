// What peers write into their headers, and what they should not.
#include "engine/rate_headers.h"

#include <gtest/gtest.h>

namespace stepwell::detail {
namespace {

TEST(RateHeaders, Durations) {
  const struct {
    const char* text;
    int64_t ms;
  } cases[] = {
      {"6m0s", 360'000},
      {"12ms", 12},
      {"1s", 1'000},
      {"1h2m3.5s", 3'723'500},
      {"2m59.56s", 179'560},
      {"0s", 0},
      {"1.5", 1'500},
      {"30", 30'000},
      {"7.66s", 7'660},
      {"1d", 86'400'000},
      {"500us", 1},
      {"", -1},
      {"s", -1},
      {"-1s", -1},
      {"1x", -1},
      {"1e9s", -1},
      {"nan", -1},
      {"inf", -1},
      {"99999999d", -1},
      {"1..5s", -1},
      {"1m-3s", -1},
      {"12 ms", -1},
      {".", -1},
      {"40d", -1},
  };
  for (const auto& one : cases) EXPECT_EQ(parse_duration_ms(one.text), one.ms) << one.text;
  EXPECT_EQ(parse_duration_ms(std::string(1'000'000, '9')), -1);
}

TEST(RateHeaders, Times) {
  const struct {
    const char* text;
    WallMs at;
  } cases[] = {
      {"1970-01-01T00:00:00Z", 0},
      {"2024-02-29T23:59:59Z", 1'709'251'199'000},
      {"2024-02-29T23:59:59.25Z", 1'709'251'199'250},
      {"2024-03-01T01:59:59+02:00", 1'709'251'199'000},
      {"2024-02-29 18:59:59-05:00", 1'709'251'199'000},
      {"2100-12-31T00:00:00z", 4'133'894'400'000},
      {"2024-13-01T00:00:00Z", -1},
      {"2024-02-29T24:00:00Z", -1},
      {"2024-02-29", -1},
      {"2024-02-29T23:59:59", -1},
      {"2024-02-29T23:59:59+0200", -1},
      {"2024/02/29T23:59:59Z", -1},
      {"six minutes", -1},
      {"", -1},
  };
  for (const auto& one : cases) EXPECT_EQ(parse_rfc3339(one.text), one.at) << one.text;
}

TEST(RateHeaders, OpenAi) {
  const PeerLimits limits = read_rate_headers({{"content-type", "application/json"},
                                               {"x-ratelimit-limit-requests", "500"},
                                               {"x-ratelimit-remaining-requests", "499"},
                                               {"x-ratelimit-reset-requests", "120ms"},
                                               {"x-ratelimit-limit-tokens", "90000"},
                                               {"x-ratelimit-remaining-tokens", "89000"},
                                               {"x-ratelimit-reset-tokens", "6m0s"}},
                                              0);
  EXPECT_EQ(limits.requests.limit, 500);
  EXPECT_EQ(limits.requests.remaining, 499);
  EXPECT_EQ(limits.requests.reset_ms, 120);
  EXPECT_EQ(limits.tokens.limit, 90'000);
  EXPECT_EQ(limits.tokens.remaining, 89'000);
  EXPECT_EQ(limits.tokens.reset_ms, 360'000);
}

TEST(RateHeaders, Anthropic) {
  const WallMs now = 1'709'251'199'000;
  const PeerLimits limits = read_rate_headers({{"anthropic-ratelimit-requests-limit", "50"},
                                               {"anthropic-ratelimit-requests-remaining", "49"},
                                               {"anthropic-ratelimit-requests-reset", "2024-03-01T00:00:01Z"},
                                               {"anthropic-ratelimit-input-tokens-limit", "40000"},
                                               {"anthropic-ratelimit-input-tokens-remaining", "0"},
                                               {"anthropic-ratelimit-input-tokens-reset", "2020-03-01T00:00:01Z"}},
                                              now);
  EXPECT_EQ(limits.requests.limit, 50);
  EXPECT_EQ(limits.requests.reset_ms, 2'000);
  EXPECT_EQ(limits.tokens.limit, 40'000);
  EXPECT_EQ(limits.tokens.remaining, 0);
  EXPECT_EQ(limits.tokens.reset_ms, 0) << "a time in the past has come";
}

TEST(RateHeaders, NonsenseIsNotSaid) {
  const PeerLimits limits = read_rate_headers({{"x-ratelimit-limit-requests", "-5"},
                                               {"x-ratelimit-remaining-requests", "99999999999999999999"},
                                               {"x-ratelimit-reset-requests", "soon"},
                                               {"x-ratelimit-limit-tokens", "1e5"},
                                               {"x-ratelimit-remaining-tokens", "12 of 30"}},
                                              0);
  EXPECT_EQ(limits.requests.limit, -1);
  EXPECT_EQ(limits.requests.remaining, -1);
  EXPECT_EQ(limits.requests.reset_ms, -1);
  EXPECT_EQ(limits.tokens.limit, -1);
  EXPECT_EQ(limits.tokens.remaining, -1);
  EXPECT_EQ(read_rate_headers({}, 0).requests.limit, -1);
}

}  // namespace
}  // namespace stepwell::detail
