// STEPWELL_CHECK: a broken invariant is our bug. It is on in release, says where, and stops the process: going on would
// put wrong history on disk. Never for anything a user's input can cause.
#pragma once

#include <string>

namespace stepwell::detail {
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& detail);
}  // namespace stepwell::detail

#define STEPWELL_CHECK(condition, why)                                                       \
  do {                                                                                       \
    if (!(condition)) ::stepwell::detail::check_failed(__FILE__, __LINE__, #condition, why); \
  } while (false)
