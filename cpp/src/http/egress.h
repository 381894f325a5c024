// EgressGuard: judges where requests may go. A destination is judged by scheme and host before anything happens, and
// its addresses when they are known; both are done once for a host, not for every request. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "http/address.h"
#include "http/target.h"
#include "stepwell/egress.h"

namespace stepwell::detail {

// What the guard remembers of a host.
struct Destination {
  std::string place;         // "host:port", for error texts
  std::string host;          // without brackets or the last dot
  bool is_proxy = false;     // the operator's own: it may stand anywhere
  bool is_loopback = false;  // the URL itself says that it is this machine
  bool is_allowed = false;   // the policy's allow names it
};

class EgressGuard {
 public:
  // Requires a policy that check_policy calls good.
  explicit EgressGuard(EgressPolicy policy);
  [[nodiscard]] const EgressPolicy& policy() const { return policy_; }

  [[nodiscard]] Destination destination_of(const Target& target) const;
  static Destination proxy_at(const Target& proxy);
  // By scheme, host, and the address when the host is one. kInvalid: kEgressScheme, kEgressAddress.
  [[nodiscard]] Status judge(const Target& target, const Destination& destination) const;
  // One address that the destination's name resolves to, or that a socket is opened for. kInvalid (kEgressAddress).
  [[nodiscard]] Status judge(const Destination& destination, const IpAddress& address) const;

 private:
  struct List {
    std::vector<std::string> names;  // lower case; "*.": all below
    std::vector<AddressBlock> blocks;

    [[nodiscard]] bool has_name(std::string_view host) const;
    [[nodiscard]] bool holds(const IpAddress& address) const;
    [[nodiscard]] bool names_exactly(const IpAddress& address) const;
  };
  static List list_of(const std::vector<std::string>& entries);
  [[nodiscard]] bool is_open(const Destination& destination, const IpAddress& address) const;

  const EgressPolicy policy_;
  const List allow_;
  const List deny_;
  const List hosts_;
};

}  // namespace stepwell::detail
