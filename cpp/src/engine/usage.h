// What an answer says that it used.
#pragma once

#include <string_view>

#include "stepwell/call.h"

namespace stepwell::detail {

// Pure. Counts are -1 where the body does not say, or says nonsense.
Usage read_usage(std::string_view body, const UsageRule& rule);

}  // namespace stepwell::detail
