// IpAddress: an IPv4 or IPv6 address, the blocks it may lie in, and what the registries say about it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

struct sockaddr;

namespace stepwell::detail {

struct IpAddress {
  std::array<uint8_t, 16> bytes{};  // of an IPv4 address the first four
  bool is_v4 = false;

  bool operator==(const IpAddress&) const = default;
  [[nodiscard]] std::string to_text() const;
};

// "192.0.2.1", "2001:db8::1", "[2001:db8::1]". Nothing for any other spelling, zones included.
std::optional<IpAddress> parse_address(std::string_view text);
// Nothing for a family that is neither.
std::optional<IpAddress> address_of(const sockaddr& address);

struct AddressBlock {
  IpAddress first;
  int bits = 0;

  [[nodiscard]] bool holds(const IpAddress& address) const;
  // Whether it is one address and no more.
  [[nodiscard]] bool is_single() const { return bits == (first.is_v4 ? 32 : 128); }
};

// An address, or "10.0.0.0/8". Nothing when bits are set behind the prefix: it would be unclear what is meant.
std::optional<AddressBlock> parse_block(std::string_view text);

// One line of the registries: a block that is not the public internet.
struct SpecialRange {
  const char* block;
  const char* what;  // "a private network"
};

// Why the address is not public; null when it is. IANA's special-purpose registries, multicast, and all of IPv6 that is
// not global unicast (2000::/3).
const SpecialRange* find_special_range(const IpAddress& address);
bool is_loopback(const IpAddress& address);
// Where clouds hand out credentials to whoever asks from the machine.
bool is_metadata(const IpAddress& address);
// The IPv4 address that a translator or tunnel would go on to (mapped, compatible, NAT64, 6to4, Teredo).
std::optional<IpAddress> embedded_v4(const IpAddress& address);

}  // namespace stepwell::detail
