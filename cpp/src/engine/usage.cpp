#include "engine/usage.h"

#include <algorithm>
#include <vector>

namespace stepwell::detail {

namespace {
constexpr int64_t kTokensMax = 1'000'000'000;

// Of those that are there; -1: none is.
int64_t sum(const int64_t* numbers, size_t count) {
  int64_t total = -1;
  for (size_t i = 0; i < count; ++i) {
    if (numbers[i] >= 0) total = std::max<int64_t>(total, 0) + std::min(numbers[i], kTokensMax);
  }
  return std::min(total, kTokensMax);
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
  if (!rule.cached.empty()) usage.cached = std::clamp<int64_t>(numbers.back(), 0, std::max<int64_t>(usage.input, 0));
  return check;
}

}  // namespace stepwell::detail
