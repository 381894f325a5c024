#include "http/pinned_name.h"

#include <utility>

namespace stepwell::detail {

namespace {

constexpr int64_t kFreshMs = 60'000;
constexpr int64_t kStaleMs = 600'000;

// "+host:port:address,address". The plus lets curl forget the entry in time; IPv6 addresses stand in brackets.
std::string pin_text(const std::string& host, const std::string& port, const std::vector<std::string>& addresses) {
  std::string text = "+" + host + ":" + port;
  char mark = ':';
  for (const std::string& address : addresses) {
    text += mark;
    text += address.find(':') == std::string::npos ? address : "[" + address + "]";
    mark = ',';
  }
  return text;
}

}  // namespace

PinnedName::PinnedName(Loop& loop, Poller& poller, const EgressGuard& guard, Destination destination,
                       const Target& target)
    : loop_(loop),
      poller_(poller),
      guard_(guard),
      destination_(std::move(destination)),
      host_(target.host),
      port_(target.port),
      is_numeric_(is_numeric_host(host_)) {}

bool PinnedName::is_ready() {
  if (is_numeric_) return true;
  const int64_t age_ms = loop_.now_ms() - resolved_at_ms_;
  if (pin_ && age_ms < kFreshMs) return true;
  if (!is_resolving_) resolve();
  return pin_ && age_ms < kStaleMs;
}

void PinnedName::resolve() {
  is_resolving_ = true;
  poller_.resolve(host_, [this, alive = std::weak_ptr<bool>(alive_)](Result<std::vector<std::string>> addresses) {
    if (!alive.expired()) note(std::move(addresses));
  });
}

void PinnedName::note(Result<std::vector<std::string>> addresses) {
  is_resolving_ = false;
  Status status = addresses.error();
  if (status.is_ok()) status = judge(*addresses);
  if (addresses && !status.is_ok()) pin_.reset();  // what it stood for yesterday is no excuse
  if (status.is_ok()) {
    resolved_at_ms_ = loop_.now_ms();
    const std::string text = pin_text(host_, port_, *addresses);
    if (!pin_ || text != pin_->list->data) {
      auto pin = std::make_shared<AddressPin>();
      pin->generation = pin_ ? pin_->generation + 1 : 1;
      pin->list.reset(curl_slist_append(nullptr, text.c_str()));
      pin_ = std::move(pin);
    }
  }
  auto waiting = std::exchange(waiting_, {});
  for (auto& done : waiting) done(status);
}

Status PinnedName::judge(const std::vector<std::string>& addresses) const {
  for (const std::string& text : addresses) {
    const auto address = parse_address(text);
    if (!address) {
      return {StatusKind::kInvalid, code::kEgressAddress, destination_.place + ": it resolves to what is no address"};
    }
    STEPWELL_TRY(guard_.judge(destination_, *address));
  }
  return Status::ok();
}

}  // namespace stepwell::detail
