// What an answer says the call used, read in the pass that checks the answer.
#pragma once

#include <string_view>

#include "base/json.h"
#include "stepwell/call.h"

namespace stepwell::detail {

// Checks `body` as json_check does and fills in `usage`. Nonsense counts as not said.
JsonCheck check_and_count(std::string_view body, const std::string& required_pointer, const UsageRule& rule,
                          Usage& usage);

}  // namespace stepwell::detail
