// Where calls may go and how much may come back: the policy of the egress guard. The transport applies it to every
// request, to every address that a name resolves to, and once more to the address that a socket is opened for.
//
// An entry of a list is a host name ("vllm.internal"), all names below one ("*.corp.example"), an address, or a block
// of addresses ("10.0.0.0/8").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "stepwell/status.h"

namespace stepwell {

struct EgressPolicy {
  // Opened although they are not public. A name opens whatever it resolves to; only the address itself, not a block or
  // a name, opens a cloud's metadata service.
  std::vector<std::string> allow;
  std::vector<std::string> deny;                  // refused, whatever else says yes
  std::optional<std::vector<std::string>> hosts;  // none but these; unset: any
  bool plain_http = false;                        // http:// also to other machines

  int64_t body_bytes_max = 16 << 20;    // unpacked; a request may ask for less
  int64_t bulk_bytes_max = 512 << 20;   // the same for requests that say they fetch in bulk
  int64_t header_bytes_max = 64 << 10;  // of all header lines of an answer, interim answers included
  int32_t unpack_ratio_max = 100;       // how much larger than its transfer an unpacked body may be
  // An answer that has begun and brings less than a byte a second for so long is given up; 0: never.
  int64_t stall_ms_max = 60'000;
};

// kInvalid (kEgressPolicy) names the entry or number that makes no sense.
Status check_policy(const EgressPolicy& policy);

// What an address is when it is not public ("private network 10.0.0.0/8"), empty when it is. kInvalid (kEgressPolicy)
// for what is no address.
Result<std::string> special_range(const std::string& address);

}  // namespace stepwell
