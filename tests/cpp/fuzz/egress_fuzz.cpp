// Fuzzes the egress guard: policies and hosts in any spelling, and addresses of all kinds. Whatever it lets through is
// public, or opened by the policy.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "http/egress.h"

using namespace stepwell;          // NOLINT(google-build-using-namespace): a program of one function
using namespace stepwell::detail;  // NOLINT(google-build-using-namespace)

namespace {

IpAddress address_of_bytes(testing::FuzzInput& input) {
  IpAddress address;
  address.is_v4 = input.byte() % 2 == 0;
  const size_t count = address.is_v4 ? 4 : 16;
  for (size_t i = 0; i < count; ++i) address.bytes[i] = static_cast<uint8_t>(input.byte());
  return address;
}

bool is_public(const IpAddress& address) {
  const auto inner = embedded_v4(address);
  return find_special_range(address) == nullptr && !is_metadata(address) && (!inner || is_public(*inner));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  testing::FuzzInput input(bytes, count);
  const IpAddress address = address_of_bytes(input);
  const auto again = parse_address(address.to_text());
  STEPWELL_CHECK(again && *again == address, "an address reads as it is written");
  STEPWELL_CHECK(parse_block(address.to_text())->is_single(), "an address is a block of one");

  const std::string entry = input.text();
  if (const auto block = parse_block(entry)) {
    STEPWELL_CHECK(block->holds(block->first), "a block holds its first address");
    STEPWELL_CHECK(block->holds(address) == block->holds(*again), "a block knows no spelling");
  }
  EgressPolicy policy;
  (input.byte() % 2 == 0 ? policy.allow : policy.deny).push_back(entry);
  policy.plain_http = input.byte() % 2 == 0;
  const bool is_open = policy.allow.empty();
  const auto target = parse_target((input.byte() % 2 == 0 ? "https://" : "http://") + input.rest());
  if (!target || !check_policy(policy).is_ok()) return 0;
  const EgressGuard guard(policy);
  const Destination destination = guard.destination_of(*target);
  const bool may_go = guard.judge(*target, destination).is_ok();
  if (!is_open || !guard.judge(destination, address).is_ok()) return 0;
  STEPWELL_CHECK(is_public(address) || (destination.is_loopback && is_loopback(address)),
                 "without an allowance only the public and this machine are reached");
  STEPWELL_CHECK(!may_go || target->scheme == "https" || policy.plain_http || destination.is_loopback,
                 "plain http leaves this machine only if it is asked for");
  const auto literal = parse_address(destination.host);
  STEPWELL_CHECK(!may_go || !literal || is_public(*literal) || is_loopback(*literal), "an address in a URL is judged");
  return 0;
}
