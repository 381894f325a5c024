// What an answer says the call used, read in the pass that checks the answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "stepwell/call.h"

namespace stepwell::detail {

// Checks `body` as json_check does and fills in `usage`. Nonsense counts as not said.
JsonCheck check_and_count(std::string_view body, const std::string& required_pointer, const UsageRule& rule,
                          Usage& usage);

// The same in the events of a stream, the last word of which counts. Providers say it in the event itself, in its
// "message" or in its "response".
Usage count_in_stream(const std::vector<std::string>& events, const UsageRule& rule);

}  // namespace stepwell::detail
