// What a peer says about its limits in the headers of an answer: x-ratelimit-* (OpenAI, Azure and those that speak its
// form; resets are durations, "6m0s" or "12ms") and anthropic-ratelimit-* (resets are RFC 3339 times).
#pragma once

#include <string_view>

#include "stepwell/call.h"

namespace stepwell::detail {

// Pure. `wall_ms` turns times into delays. Nonsense counts as not said.
PeerLimits read_rate_headers(const HttpHeaders& headers, WallMs wall_ms);

// "6m0s", "1h2m3.5s", "12ms", or plain seconds ("1.5"); -1: not a duration, or longer than a month.
int64_t parse_duration_ms(std::string_view text);
// "2026-11-21T17:12:12Z", also with a fraction or an offset; -1: not a time.
WallMs parse_rfc3339(std::string_view text);

}  // namespace stepwell::detail
