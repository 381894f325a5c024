#include "stepwell/status.h"

#include <array>
#include <cstdio>
#include <cstdlib>

#include "base/check.h"
#include "stepwell/types.h"

namespace stepwell {

const std::string& Status::message() const noexcept {
  static const std::string empty;
  return rep_ ? rep_->message : empty;
}

std::string Status::to_string() const { return is_ok() ? "ok" : "SW-E" + std::to_string(code()) + " " + message(); }

std::string run_name(RunId run) {
  std::array<char, 24> text{};
  const int length = std::snprintf(text.data(), text.size(), "r_%llx", static_cast<unsigned long long>(run));
  return {text.data(), static_cast<size_t>(length)};
}

namespace detail {

void check_failed(const char* file, int line, const char* condition, const std::string& detail) {
  std::fprintf(stderr, "stepwell: broken invariant at %s:%d: %s: %s\n", file, line, condition, detail.c_str());
  std::abort();
}

}  // namespace detail
}  // namespace stepwell
