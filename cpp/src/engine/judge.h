// Judges one attempt of a call: success is not "2xx" but what the call's rule says.
#pragma once

#include "engine/stream_reader.h"
#include "stepwell/call.h"

namespace stepwell::detail {

// Pure. `wall_ms` turns a Retry-After date into a delay. The error text never holds a header value of the request.
Verdict judge(const CallSpec& call, HttpOutcome outcome, WallMs wall_ms);

// The same for an answer that was to be a stream, whose events `stream` has read. A success has no payload: the reader
// has it. `is_silent`: it was given up because nothing came any more.
Verdict judge_stream(const CallSpec& call, StreamReader& stream, HttpOutcome outcome, bool is_silent, WallMs wall_ms);

// Milliseconds asked for by Retry-After (RFC 9110 section 10.2.3: seconds or an HTTP date) or the retry-after-ms of
// some providers; -1 when absent or nonsense (negative, not a number, overflowing).
int64_t parse_retry_after(const HttpHeaders& headers, WallMs wall_ms);

// The error form that every failure is recorded in.
Payload error_payload(ErrorCode code, const std::string& message, int32_t status, bool retryable);

}  // namespace stepwell::detail
