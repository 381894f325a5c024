#include "http/egress.h"

#include <algorithm>
#include <utility>

namespace stepwell {

namespace detail {

namespace {

constexpr std::string_view kBelow = "*.";

std::string lower(std::string_view text) {
  std::string made(text);
  std::transform(made.begin(), made.end(), made.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return made;
}

// As names are compared: lower case, no brackets, and without the dot that only says that the name is complete.
std::string bare_host(std::string_view host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host.size() > 1 && host.back() == '.') host.remove_suffix(1);
  return lower(host);
}

// RFC 6761, 6.3: localhost and what is below it is this machine.
bool says_loopback(const std::string& host) {
  if (const auto address = parse_address(host)) return is_loopback(*address);
  return host == "localhost" || host.ends_with(".localhost");
}

bool is_name(std::string_view text) {
  if (text.starts_with(kBelow)) text.remove_prefix(kBelow.size());
  if (text.empty() || text.size() > 253 || text.front() == '.' || text.find("..") != std::string_view::npos)
    return false;
  const size_t last = text.rfind('.') + 1;                                                        // npos + 1 is 0
  if (text.substr(last).find_first_not_of("0123456789") == std::string_view::npos) return false;  // a bad address
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
         std::string_view::npos;
}

Status refuse(std::string why) { return {StatusKind::kInvalid, code::kEgressAddress, std::move(why)}; }

Status check_entries(const char* list, const std::vector<std::string>& entries) {
  for (const std::string& entry : entries) {
    if (is_name(entry) || parse_block(entry)) continue;
    return {StatusKind::kInvalid, code::kEgressPolicy,
            std::string("egress ") + list + " holds " + entry.substr(0, 80) +
                ", which is neither a host name, nor *.name, nor an address, nor a block such as 10.0.0.0/8"};
  }
  return Status::ok();
}

std::string fix(const std::string& entry) { return "allow it with egress=sw.Egress(allow=[\"" + entry + "\"])"; }

}  // namespace

bool EgressGuard::List::has_name(std::string_view host) const {
  return std::any_of(names.begin(), names.end(), [host](const std::string& name) {
    return name.starts_with(kBelow) ? host.size() > name.size() - 1 && host.ends_with(name.substr(1)) : host == name;
  });
}

bool EgressGuard::List::holds(const IpAddress& address) const {
  return std::any_of(blocks.begin(), blocks.end(),
                     [&address](const AddressBlock& each) { return each.holds(address); });
}

bool EgressGuard::List::names_exactly(const IpAddress& address) const {
  return std::any_of(blocks.begin(), blocks.end(),
                     [&address](const AddressBlock& each) { return each.is_single() && each.holds(address); });
}

EgressGuard::List EgressGuard::list_of(const std::vector<std::string>& entries) {
  List list;
  for (const std::string& entry : entries) {
    if (const auto block = parse_block(entry)) {
      list.blocks.push_back(*block);
    } else {
      list.names.push_back(bare_host(entry));
    }
  }
  return list;
}

EgressGuard::EgressGuard(EgressPolicy policy)
    : policy_(std::move(policy)),
      allow_(list_of(policy_.allow)),
      deny_(list_of(policy_.deny)),
      hosts_(list_of(policy_.hosts.value_or(std::vector<std::string>()))) {}

Destination EgressGuard::destination_of(const Target& target) const {
  Destination made;
  made.place = target.place();
  made.host = bare_host(target.host);
  made.is_loopback = says_loopback(made.host);
  made.is_allowed = allow_.has_name(made.host);
  return made;
}

Destination EgressGuard::proxy_at(const Target& proxy) {
  Destination made;
  made.place = "the proxy " + proxy.place();
  made.host = bare_host(proxy.host);
  made.is_proxy = true;
  return made;
}

Status EgressGuard::judge(const Target& target, const Destination& destination) const {
  const std::string& host = destination.host;
  const auto address = parse_address(host);
  if (deny_.has_name(host)) return refuse(destination.place + ": the egress policy denies " + host);
  if (policy_.hosts && !hosts_.has_name(host) && !(address && hosts_.holds(*address))) {
    return refuse(destination.place + ": the egress policy lists the only hosts that calls may go to, and " + host +
                  " is none of them; add it with egress=sw.Egress(hosts=[..., \"" + host + "\"])");
  }
  if (target.scheme != "https" && !policy_.plain_http && !destination.is_loopback) {
    return {StatusKind::kInvalid, code::kEgressScheme,
            destination.place +
                ": plain http would show request and key to the network; use https://, or accept that "
                "with egress=sw.Egress(http=True)"};
  }
  return address ? judge(destination, *address) : Status::ok();
}

bool EgressGuard::is_open(const Destination& destination, const IpAddress& address) const {
  if (destination.is_proxy || destination.is_allowed) return true;
  if (destination.is_loopback) return is_loopback(address);
  if (find_special_range(address) == nullptr) return true;
  if (!allow_.holds(address)) return false;
  const auto inner = embedded_v4(address);
  return !inner || is_open(destination, *inner);
}

Status EgressGuard::judge(const Destination& destination, const IpAddress& address) const {
  const auto inner = embedded_v4(address);
  const std::string text = address.to_text();
  const bool is_literal = parse_address(destination.host).has_value();
  const std::string seen = destination.place + (is_literal ? ": " : ": it resolves to ") + text + ", ";
  for (const auto& each : {std::optional(address), inner}) {
    if (!each) continue;
    if (deny_.holds(*each)) return refuse(seen + "which the egress policy denies");
    if (is_metadata(*each) && !allow_.names_exactly(*each)) {
      return refuse(seen + "where a cloud hands out credentials; if that is really wanted, " + fix(each->to_text()));
    }
  }
  if (is_open(destination, address)) return Status::ok();
  if (destination.is_loopback) return refuse(seen + "which is not this machine as the name says");
  const SpecialRange* range = find_special_range(address);
  // An open address around a closed one: the closed one is what to speak of.
  if (allow_.holds(address) && inner) range = find_special_range(*inner);
  const std::string what = range == nullptr ? "" : std::string(range->what) + " (" + range->block + ")";
  return refuse(seen + "which is " + what + " and not the public internet; if you trust it, " + fix(destination.host));
}

}  // namespace detail

Status check_policy(const EgressPolicy& policy) {
  STEPWELL_TRY(detail::check_entries("allow", policy.allow));
  STEPWELL_TRY(detail::check_entries("deny", policy.deny));
  if (policy.hosts) STEPWELL_TRY(detail::check_entries("hosts", *policy.hosts));
  if (policy.body_bytes_max < 1 || policy.bulk_bytes_max < 1 || policy.header_bytes_max < 1 ||
      policy.unpack_ratio_max < 1 || policy.stall_ms_max < 0) {
    return {StatusKind::kInvalid, code::kEgressPolicy, "egress limits must be 1 or more, the stall time 0 or more"};
  }
  return Status::ok();
}

Result<std::string> special_range(const std::string& address) {
  const auto parsed = detail::parse_address(address);
  if (!parsed) return Status(StatusKind::kInvalid, code::kEgressPolicy, "not an address: " + address.substr(0, 80));
  if (detail::is_metadata(*parsed)) return std::string("a cloud's metadata service");
  const auto* range = detail::find_special_range(*parsed);
  return range == nullptr ? std::string() : std::string(range->what) + " (" + range->block + ")";
}

}  // namespace stepwell
