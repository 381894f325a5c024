#include "http/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace stepwell::detail {

namespace {

// The most telling line first: the first one that holds an address names it.
constexpr SpecialRange kRanges[] = {
    {"0.0.0.0/8", "this host or network"},
    {"10.0.0.0/8", "a private network"},
    {"100.64.0.0/10", "a carrier's shared network"},
    {"127.0.0.0/8", "this machine (loopback)"},
    {"169.254.0.0/16", "a link-local network"},
    {"172.16.0.0/12", "a private network"},
    {"192.0.0.0/24", "reserved for protocols"},
    {"192.0.2.0/24", "reserved for documentation"},
    {"192.88.99.0/24", "a 6to4 relay"},
    {"192.168.0.0/16", "a private network"},
    {"198.18.0.0/15", "reserved for benchmarks"},
    {"198.51.100.0/24", "reserved for documentation"},
    {"203.0.113.0/24", "reserved for documentation"},
    {"224.0.0.0/4", "multicast"},
    {"240.0.0.0/4", "reserved"},
    {"::/128", "the unspecified address"},
    {"::1/128", "this machine (loopback)"},
    {"::/96", "an IPv4 address in IPv6 (compatible)"},
    {"::ffff:0:0/96", "an IPv4 address in IPv6 (mapped)"},
    {"64:ff9b::/96", "an IPv4 address in IPv6 (NAT64)"},
    {"64:ff9b:1::/48", "a local NAT64 network"},
    {"100::/64", "a discard-only network"},
    {"2001::/32", "an IPv4 address in IPv6 (Teredo)"},
    {"2001::/23", "reserved for protocols"},
    {"2001:db8::/32", "reserved for documentation"},
    {"2002::/16", "an IPv4 address in IPv6 (6to4)"},
    {"3fff::/20", "reserved for documentation"},
    {"fc00::/7", "a private network (unique local)"},
    {"fe80::/10", "a link-local network"},
    {"fec0::/10", "a private network (site-local)"},
    {"ff00::/8", "multicast"},
};
constexpr SpecialRange kNotGlobal = {"::/0", "not global unicast"};

constexpr const char* kMetadata[] = {
    "169.254.169.254",  // AWS, Azure, Google, Oracle, DigitalOcean, Hetzner, ...
    "169.254.170.2",    // AWS: credentials of an ECS task
    "169.254.170.23",   // AWS: credentials of an EKS pod
    "100.100.100.200",  // Alibaba
    "168.63.129.16",    // Azure: the host's own agent; registered as public
    "192.0.0.192",      // Oracle
    "fd00:ec2::254",    // AWS
    "fd00:ec2::23",     // AWS: credentials of an EKS pod
    "fd20:ce::254",     // Google
};

struct Line {
  AddressBlock block;
  const SpecialRange* range;
};

const std::vector<Line>& table() {
  static const std::vector<Line> lines = [] {
    std::vector<Line> made;
    for (const SpecialRange& range : kRanges) {
      const auto block = parse_block(range.block);
      STEPWELL_CHECK(block.has_value(), "a block of the table is a block");
      made.push_back({*block, &range});
    }
    return made;
  }();
  return lines;
}

const std::vector<IpAddress>& metadata() {
  static const std::vector<IpAddress> addresses = [] {
    std::vector<IpAddress> made;
    for (const char* text : kMetadata) made.push_back(*parse_address(text));
    return made;
  }();
  return addresses;
}

IpAddress v4_at(const IpAddress& address, size_t at, uint8_t mask = 0) {
  IpAddress v4;
  v4.is_v4 = true;
  for (size_t i = 0; i < 4; ++i) v4.bytes[i] = address.bytes[at + i] ^ mask;
  return v4;
}

bool starts_with(const IpAddress& address, std::string_view block) { return parse_block(block)->holds(address); }

}  // namespace

std::string IpAddress::to_text() const {
  char text[INET6_ADDRSTRLEN] = "";
  (void)inet_ntop(is_v4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof text);
  return text;
}

std::optional<IpAddress> parse_address(std::string_view text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') text = text.substr(1, text.size() - 2);
  const std::string copy(text);
  if (copy.find('\0') != std::string::npos) return std::nullopt;
  IpAddress address;
  if (inet_pton(AF_INET, copy.c_str(), address.bytes.data()) == 1) {
    address.is_v4 = true;
    return address;
  }
  if (inet_pton(AF_INET6, copy.c_str(), address.bytes.data()) == 1) return address;
  return std::nullopt;
}

std::optional<IpAddress> address_of(const sockaddr& address) {
  IpAddress found;
  if (address.sa_family == AF_INET) {
    found.is_v4 = true;
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    std::memcpy(found.bytes.data(), &v4.sin_addr, 4);
    return found;
  }
  if (address.sa_family != AF_INET6) return std::nullopt;
  sockaddr_in6 v6{};
  std::memcpy(&v6, &address, sizeof v6);
  std::memcpy(found.bytes.data(), &v6.sin6_addr, 16);
  return found;
}

bool AddressBlock::holds(const IpAddress& address) const {
  if (address.is_v4 != first.is_v4) return false;
  const auto whole = static_cast<size_t>(bits / 8);
  if (!std::equal(first.bytes.begin(), first.bytes.begin() + static_cast<ptrdiff_t>(whole), address.bytes.begin()))
    return false;
  const int rest = bits % 8;
  if (rest == 0) return true;
  const int mask = 0xFF << (8 - rest);
  return ((first.bytes[whole] ^ address.bytes[whole]) & mask) == 0;
}

std::optional<AddressBlock> parse_block(std::string_view text) {
  const size_t slash = text.find('/');
  const auto first = parse_address(text.substr(0, slash));
  if (!first) return std::nullopt;
  AddressBlock block{*first, first->is_v4 ? 32 : 128};
  if (slash == std::string_view::npos) return block;
  const std::string_view digits = text.substr(slash + 1);
  if (digits.empty() || digits.size() > 3) return std::nullopt;
  int bits = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    bits = bits * 10 + (c - '0');
  }
  if (bits > block.bits) return std::nullopt;
  block.bits = bits;
  for (int bit = bits; bit < (first->is_v4 ? 32 : 128); ++bit) {
    if ((first->bytes[static_cast<size_t>(bit / 8)] & (0x80 >> (bit % 8))) != 0) return std::nullopt;
  }
  return block;
}

const SpecialRange* find_special_range(const IpAddress& address) {
  for (const Line& line : table()) {
    if (line.block.holds(address)) return line.range;
  }
  static const AddressBlock global = *parse_block("2000::/3");
  return address.is_v4 || global.holds(address) ? nullptr : &kNotGlobal;
}

bool is_loopback(const IpAddress& address) { return starts_with(address, address.is_v4 ? "127.0.0.0/8" : "::1/128"); }

bool is_metadata(const IpAddress& address) {
  const auto& all = metadata();
  return std::find(all.begin(), all.end(), address) != all.end();
}

std::optional<IpAddress> embedded_v4(const IpAddress& address) {
  if (address.is_v4 || starts_with(address, "::/128") || is_loopback(address)) return std::nullopt;
  if (starts_with(address, "::ffff:0:0/96") || starts_with(address, "::/96") || starts_with(address, "64:ff9b::/96"))
    return v4_at(address, 12);
  if (starts_with(address, "2002::/16")) return v4_at(address, 2);
  if (starts_with(address, "2001::/32")) return v4_at(address, 12, 0xFF);  // Teredo turns the client's bits around
  return std::nullopt;
}

}  // namespace stepwell::detail
