#include "http/curl_hosts.h"

#include <algorithm>
#include <utility>

namespace stepwell::detail {

namespace {

constexpr size_t kUrlCountMax = 1'024;
constexpr size_t kUrlBytesMax = 1'024;  // longer ones are hardly sent twice
constexpr size_t kHostCountMax = 4'096;
// What servers allow by default (RFC 9113, 6.5.2, asks for at least as many).
constexpr int32_t kStreamsPerConnection = 100;
// One to serve and one to take over while the first is told to go away. Without a bound, curl 7.88 opens hundreds.
constexpr int32_t kMultiplexedConnections = 2;
constexpr int64_t kPinnedMs = 60'000;

size_t shard_count_max(const HostLimits& limits) {
  return static_cast<size_t>(std::max(limits.connections_per_host_max / limits.connections_per_shard + 1, 8));
}

}  // namespace

CurlHosts::CurlHosts(Loop& loop, Poller& poller, CurlShards& shards, const EgressGuard& guard, HostLimits limits,
                     const std::optional<Target>& proxy)
    : loop_(loop),
      poller_(poller),
      shards_(shards),
      guard_(guard),
      limits_(std::move(limits)),
      shard_count_max_(shard_count_max(limits_)) {
  if (!proxy) return;
  proxy_ = EgressGuard::proxy_at(*proxy);
  proxy_name_ = std::make_unique<PinnedName>(loop_, poller_, guard_, proxy_, *proxy);
}

Result<std::shared_ptr<const ParsedUrl>> CurlHosts::parse(const std::string& url) {
  const auto known = urls_.find(url);
  if (known != urls_.end()) return known->second;  // what is refused is not kept
  auto target = parse_target(url);
  if (!target) return target.error();
  auto parsed = std::make_shared<ParsedUrl>();
  CurlHost& host = host_of(*target);
  if (!host.refused.is_ok()) return host.refused;
  parsed->host = &host;
  parsed->url = std::move(target->url);
  if (url.size() <= kUrlBytesMax) {
    if (urls_.size() >= kUrlCountMax) urls_.clear();
    urls_.emplace(url, parsed);
  }
  return std::shared_ptr<const ParsedUrl>(std::move(parsed));
}

CurlHost& CurlHosts::host_of(const Target& target) {
  const std::string key = target.scheme + "://" + target.place();
  const auto known = hosts_.find(key);
  if (known != hosts_.end()) return *known->second;
  if (hosts_.size() >= kHostCountMax) forget_quiet_hosts();
  auto host = std::make_unique<CurlHost>();
  host->place = target.place();
  host->destination = guard_.destination_of(target);
  host->refused = guard_.judge(target, host->destination);
  host->is_tls = target.scheme == "https";
  host->protocol = host->is_tls && limits_.http2 ? HostProtocol::kUnknown : HostProtocol::kHttp1;
  if (proxy_name_ && !matches_no_proxy(limits_.no_proxy, target.host)) {
    host->proxy = limits_.proxy;
    host->name = proxy_name_.get();
    host->destination = proxy_;
  } else {
    host->own_name = std::make_unique<PinnedName>(loop_, poller_, guard_, host->destination, target);
    host->name = host->own_name.get();
  }
  return *hosts_.emplace(key, std::move(host)).first->second;
}

void CurlHosts::forget_quiet_hosts() {
  urls_.clear();
  std::erase_if(hosts_, [](const auto& entry) {
    const CurlHost& host = *entry.second;
    return host.running == 0 && host.waiting.empty() && !host.waits_for_name && !host.is_listed;
  });
}

int32_t CurlHosts::running_max(const CurlHost& host) const {
  // Until the first answer tells the protocol, one shard's worth: enough for a start, and few connections if it is
  // HTTP/2.
  if (host.protocol == HostProtocol::kUnknown)
    return std::min(limits_.connections_per_shard, limits_.connections_per_host_max);
  return limits_.connections_per_host_max;
}

int32_t CurlHosts::seats_of(const HostPool& pool) const {
  return pool.shard->is_multiplexed ? kStreamsPerConnection : limits_.connections_per_shard;
}

int32_t CurlHosts::take_seat(CurlHost& host) {
  const bool is_multiplexed = host.protocol == HostProtocol::kHttp2;
  const auto has_room = [this, is_multiplexed](const HostPool& pool) {
    return pool.shard->is_multiplexed == is_multiplexed && pool.running < seats_of(pool);
  };
  int32_t found = -1;
  while (found < 0 && !host.warm_pools.empty()) {
    const uint32_t warm = host.warm_pools.back();
    host.warm_pools.pop_back();
    if (has_room(host.pools[warm])) found = static_cast<int32_t>(warm);
  }
  if (found < 0) {
    const auto roomy = std::find_if(host.pools.begin(), host.pools.end(), has_room);
    found =
        roomy != host.pools.end() ? static_cast<int32_t>(roomy - host.pools.begin()) : add_pool(host, is_multiplexed);
  }
  if (found < 0) return found;
  HostPool& pool = host.pools[static_cast<size_t>(found)];
  ++pool.running;
  ++pool.shard->running;
  ++host.running;
  return found;
}

int32_t CurlHosts::add_pool(CurlHost& host, bool is_multiplexed) {
  // The least loaded shard that this host does not use yet; a new one while there may be more and the others are busy.
  CurlShard* best = nullptr;
  for (const auto& shard : shards_.all()) {
    if (shard->is_multiplexed != is_multiplexed || (best != nullptr && best->running <= shard->running)) continue;
    const bool is_used = std::any_of(host.pools.begin(), host.pools.end(),
                                     [&shard](const HostPool& pool) { return pool.shard == shard.get(); });
    if (!is_used) best = shard.get();
  }
  const bool may_grow = shards_.all().size() < shard_count_max_;
  if (best == nullptr || (best->running >= limits_.connections_per_shard && may_grow)) {
    // Twice the seats: hosts share a shard, and what one of them leaves idle should not push out another's.
    CurlShard* fresh =
        shards_.add(is_multiplexed, 2 * limits_.connections_per_shard, is_multiplexed ? kMultiplexedConnections : 0);
    if (fresh != nullptr) best = fresh;
  }
  if (best == nullptr) return -1;
  host.pools.push_back({best, 0, 0, 0});
  return static_cast<int32_t>(host.pools.size()) - 1;
}

void CurlHosts::leave_seat(CurlHost& host, uint32_t pool_index, bool is_warm) {
  HostPool& pool = host.pools[pool_index];
  --pool.running;
  --pool.shard->running;
  --host.running;
  if (is_warm) host.warm_pools.push_back(pool_index);
}

std::shared_ptr<const AddressPin> CurlHosts::pin_for(const CurlHost& host, uint32_t pool_index) const {
  const auto& pin = host.name->pin();
  if (!pin) return nullptr;
  const HostPool& pool = host.pools[pool_index];
  const bool is_told = pool.pinned_generation == pin->generation && loop_.now_ms() - pool.pinned_at_ms < kPinnedMs;
  return is_told ? nullptr : pin;
}

void CurlHosts::note_pinned(CurlHost& host, uint32_t pool_index, const AddressPin& pin) const {
  host.pools[pool_index].pinned_generation = pin.generation;
  host.pools[pool_index].pinned_at_ms = loop_.now_ms();
}

}  // namespace stepwell::detail
