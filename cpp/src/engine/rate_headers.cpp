#include "engine/rate_headers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

namespace stepwell::detail {

namespace {

constexpr int64_t kDurationMsMax = int64_t{31} * 24 * 3'600'000;

const std::string* find(const HttpHeaders& headers, std::string_view name) {
  const auto found = std::find_if(headers.begin(), headers.end(), [&](const auto& each) { return each.first == name; });
  return found == headers.end() ? nullptr : &found->second;
}

// A number without a sign at the beginning of `text`, which it takes off; negative: none there.
double take_number(std::string_view& text) {
  size_t length = 0;
  while (length < text.size() && ((text[length] >= '0' && text[length] <= '9') || text[length] == '.')) ++length;
  double number = -1;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + length, number);
  if (length == 0 || error != std::errc() || stop != text.data() + length) return -1;
  text.remove_prefix(length);
  return number;
}

int64_t count_in(const HttpHeaders& headers, const std::string& name) {
  const std::string* text = find(headers, name);
  int64_t count = -1;
  if (text == nullptr) return -1;
  const auto [stop, error] = std::from_chars(text->data(), text->data() + text->size(), count);
  return error == std::errc() && stop == text->data() + text->size() && count >= 0 ? count : -1;
}

// Milliseconds since 1970 of a day in the proleptic Gregorian calendar.
int64_t day_ms(int64_t year, int64_t month, int64_t day) {
  year -= month <= 2 ? 1 : 0;
  const int64_t year_of_era = year % 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return (year / 400 * 146'097 + day_of_era - 719'468) * 86'400'000;
}

// The whole number in `text[at, at + length)`, -1 when there is another thing.
int64_t digits(std::string_view text, size_t at, size_t length) {
  int64_t number = 0;
  if (text.size() < at + length) return -1;
  for (size_t i = at; i < at + length; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    number = number * 10 + (text[i] - '0');
  }
  return number;
}

RateLevel level_of(const HttpHeaders& headers, const std::string& before, const std::string& after, WallMs wall_ms) {
  RateLevel level;
  level.limit = count_in(headers, before + "limit" + after);
  level.remaining = count_in(headers, before + "remaining" + after);
  const std::string* reset = find(headers, before + "reset" + after);
  if (reset == nullptr) return level;
  level.reset_ms = parse_duration_ms(*reset);
  if (level.reset_ms < 0) {
    const WallMs at = parse_rfc3339(*reset);
    if (at >= 0) level.reset_ms = std::clamp<int64_t>(at - wall_ms, 0, kDurationMsMax);
  }
  return level;
}

}  // namespace

int64_t parse_duration_ms(std::string_view text) {
  if (text.empty() || text.size() > 32) return -1;
  double total_ms = 0;
  while (!text.empty()) {
    const double number = take_number(text);
    if (number < 0) return -1;
    double unit_ms = 1'000;  // plain seconds, or "s"
    size_t length = 1;
    if (text.starts_with("ms")) {
      unit_ms = 1;
      length = 2;
    } else if (text.starts_with("us") || text.starts_with("ns")) {
      unit_ms = text.front() == 'u' ? 1e-3 : 1e-6;
      length = 2;
    } else if (text.starts_with('m')) {
      unit_ms = 60'000;
    } else if (text.starts_with('h')) {
      unit_ms = 3'600'000;
    } else if (text.starts_with('d')) {
      unit_ms = 86'400'000;
    } else if (!text.empty() && text.front() != 's') {
      return -1;
    }
    text.remove_prefix(std::min(length, text.size()));
    total_ms += number * unit_ms;
  }
  return total_ms <= static_cast<double>(kDurationMsMax) ? static_cast<int64_t>(std::ceil(total_ms)) : -1;
}

WallMs parse_rfc3339(std::string_view text) {
  // 0123456789012345678
  // 2026-11-21T17:12:12
  const int64_t year = digits(text, 0, 4), month = digits(text, 5, 2), day = digits(text, 8, 2);
  const int64_t hour = digits(text, 11, 2), minute = digits(text, 14, 2), second = digits(text, 17, 2);
  if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 ||
      minute > 59 || second < 0 || second > 60)
    return -1;
  if (text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't' && text[10] != ' ') || text[13] != ':' ||
      text[16] != ':')
    return -1;
  int64_t at = day_ms(year, month, day) + ((hour * 60 + minute) * 60 + second) * 1'000;
  text.remove_prefix(19);
  if (text.starts_with('.')) {
    int64_t unit = 100;
    for (text.remove_prefix(1); !text.empty() && text.front() >= '0' && text.front() <= '9'; text.remove_prefix(1)) {
      at += (text.front() - '0') * unit;
      unit /= 10;
    }
  }
  if (text == "Z" || text == "z") return at;
  const int64_t hours = digits(text, 1, 2), minutes = digits(text, 4, 2);
  if (text.size() != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':' || hours < 0 || minutes < 0) return -1;
  return at - (text[0] == '+' ? 1 : -1) * (hours * 60 + minutes) * 60'000;
}

PeerLimits read_rate_headers(const HttpHeaders& headers, WallMs wall_ms) {
  PeerLimits limits;
  // Most answers of most peers hold none: one look, without making names.
  const bool is_openai = std::any_of(headers.begin(), headers.end(),
                                     [](const auto& each) { return each.first.starts_with("x-ratelimit-"); });
  if (is_openai) {
    limits.requests = level_of(headers, "x-ratelimit-", "-requests", wall_ms);
    limits.tokens = level_of(headers, "x-ratelimit-", "-tokens", wall_ms);
    return limits;
  }
  const bool is_anthropic = std::any_of(
      headers.begin(), headers.end(), [](const auto& each) { return each.first.starts_with("anthropic-ratelimit-"); });
  if (!is_anthropic) return limits;
  limits.requests = level_of(headers, "anthropic-ratelimit-requests-", "", wall_ms);
  // "tokens" is the tightest of theirs; without it the input's.
  limits.tokens = level_of(headers, "anthropic-ratelimit-tokens-", "", wall_ms);
  if (limits.tokens.limit < 0) limits.tokens = level_of(headers, "anthropic-ratelimit-input-tokens-", "", wall_ms);
  return limits;
}

}  // namespace stepwell::detail
