// FuzzInput: the fuzzer's bytes, read as what a target needs. Past their end everything is zero or empty.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

namespace stepwell::testing {

class FuzzInput {
 public:
  FuzzInput(const uint8_t* bytes, size_t count) : at_(bytes), end_(bytes + count) {}

  [[nodiscard]] bool is_empty() const { return at_ == end_; }
  int byte() { return is_empty() ? 0 : *at_++; }
  // Up to 63 bytes; the first byte says how many.
  std::string text() { return take(static_cast<size_t>(byte() % 64)); }
  std::string rest() { return take(static_cast<size_t>(end_ - at_)); }

 private:
  std::string take(size_t count) {
    count = std::min(count, static_cast<size_t>(end_ - at_));
    std::string text(reinterpret_cast<const char*>(at_), count);
    at_ += count;
    return text;
  }

  const uint8_t* at_;
  const uint8_t* const end_;
};

}  // namespace stepwell::testing
