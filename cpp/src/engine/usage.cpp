#include "engine/usage.h"

#include <algorithm>
#include <vector>

namespace stepwell::detail {

namespace {
// More than any answer has; beyond it a count is nonsense.
constexpr int64_t kCountMax = 1'000'000'000;

// -1 as soon as one of them is: a part of a sum says nothing.
int64_t sum(const int64_t* begin, size_t count) {
  if (count == 0) return -1;
  int64_t all = 0;
  for (size_t i = 0; i < count; ++i) {
    if (begin[i] < 0 || begin[i] > kCountMax) return -1;
    all += begin[i];
  }
  return all;
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

}  // namespace stepwell::detail
