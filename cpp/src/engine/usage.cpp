#include "engine/usage.h"

#include <algorithm>
#include <vector>

namespace stepwell::detail {

namespace {
constexpr int64_t kTokensMax = 1'000'000'000;

bool is_sound(int64_t number) { return number >= 0 && number <= kTokensMax; }

// Of the first, which must be there, and those of the others that are: some providers leave out what is nothing.
int64_t sum(const int64_t* numbers, size_t count) {
  if (count == 0 || !is_sound(numbers[0])) return -1;
  int64_t total = 0;
  for (size_t i = 0; i < count; ++i) total += is_sound(numbers[i]) ? numbers[i] : 0;
  return total;
}

}  // namespace

JsonCheck check_and_count(std::string_view body, const std::string& required_pointer, const UsageRule& rule,
                          Usage& usage) {
  std::vector<std::string> pointers = rule.input;
  pointers.insert(pointers.end(), rule.output.begin(), rule.output.end());
  if (!rule.cached.empty()) pointers.push_back(rule.cached);
  std::vector<int64_t> numbers;
  const JsonCheck check = json_check(body, required_pointer, pointers, numbers);
  usage.input = sum(numbers.data(), rule.input.size());
  usage.output = sum(numbers.data() + rule.input.size(), rule.output.size());
  if (!rule.cached.empty()) usage.cached = std::max<int64_t>(numbers.back(), 0);
  return check;
}

Usage count_in_stream(const std::vector<std::string>& events, const UsageRule& rule) {
  Usage total;
  if (rule.input.empty() && rule.output.empty()) return total;
  std::vector<UsageRule> rules(3, rule);
  for (size_t i = 1; i < rules.size(); ++i) {
    const char* prefix = i == 1 ? "/message" : "/response";
    for (std::string& pointer : rules[i].input) pointer.insert(0, prefix);
    for (std::string& pointer : rules[i].output) pointer.insert(0, prefix);
    if (!rules[i].cached.empty()) rules[i].cached.insert(0, prefix);
  }
  for (const std::string& event : events) {
    if (event.find("\"usage") == std::string::npos) continue;  // all of them call it so, or begin so
    for (const UsageRule& each : rules) {
      Usage found;
      (void)check_and_count(event, "", each, found);
      if (found.input >= 0) total.input = found.input;
      if (found.output >= 0) total.output = found.output;
      if (found.cached > 0) total.cached = found.cached;
    }
  }
  return total;
}

}  // namespace stepwell::detail
