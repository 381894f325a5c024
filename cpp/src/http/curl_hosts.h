// CurlHosts: where requests can go. For each scheme, host and port: who waits, which protocol it speaks, and in which
// shards it has seats, so that a request finds the shard that has an idle connection for it. Loop thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "http/curl_shards.h"
#include "http/egress.h"
#include "http/pinned_name.h"
#include "http/target.h"
#include "stepwell/http.h"

namespace stepwell::detail {

enum class HostProtocol : uint8_t { kUnknown, kHttp1, kHttp2 };

// A host's share of one shard.
struct HostPool {
  CurlShard* shard = nullptr;
  int32_t running = 0;
  uint64_t pinned_generation = 0;  // the addresses that the shard's curl was told; 0: none
  int64_t pinned_at_ms = 0;
};

struct CurlHost {
  std::string place;        // "host:port"
  std::string proxy;        // empty: reached directly
  Status refused;           // by the egress guard, whatever its addresses
  Destination destination;  // whose addresses are connected to: its own or the proxy's
  bool is_tls = false;
  HostProtocol protocol = HostProtocol::kHttp1;
  PinnedName* name = nullptr;  // whose addresses are connected to: its own or the proxy's
  std::unique_ptr<PinnedName> own_name;
  bool waits_for_name = false;
  bool is_listed = false;  // the transport will look whether more may start
  int32_t running = 0;
  std::deque<CallId> waiting;  // ids of calls that have ended meanwhile are skipped
  std::vector<HostPool> pools;
  std::vector<uint32_t> warm_pools;  // one entry for each connection that was left idle, the hottest last
};

// A URL that was sent to; shared by all requests that spell it the same.
struct ParsedUrl {
  UrlHandle url;
  CurlHost* host = nullptr;
};

struct HostLimits {
  int32_t connections_per_host_max = 8192;
  int32_t connections_per_shard = 64;
  bool http2 = true;
  std::string proxy;
  std::string no_proxy;
};

class CurlHosts {
 public:
  // `proxy`: what limits.proxy says.
  CurlHosts(Loop& loop, Poller& poller, CurlShards& shards, const EgressGuard& guard, HostLimits limits,
            const std::optional<Target>& proxy);

  // kInvalid (kHttpUrl, kEgress...) for what cannot or must not be sent to. The host stays as long as it is in use.
  Result<std::shared_ptr<const ParsedUrl>> parse(const std::string& url);
  // How many requests may be with curl at once.
  int32_t running_max(const CurlHost& host) const;
  // The index of a pool with room for one more, counted in; -1 without memory.
  int32_t take_seat(CurlHost& host);
  // `is_warm`: the request left a connection that can be used again.
  void leave_seat(CurlHost& host, uint32_t pool, bool is_warm);
  // The pin that a request in this pool must carry; null when the pool's curl knows the addresses already.
  std::shared_ptr<const AddressPin> pin_for(const CurlHost& host, uint32_t pool) const;
  // A connection was made with `pin`, so curl has it now.
  void note_pinned(CurlHost& host, uint32_t pool, const AddressPin& pin) const;

 private:
  CurlHost& host_of(const Target& target);
  void forget_quiet_hosts();
  int32_t add_pool(CurlHost& host, bool is_multiplexed);
  int32_t seats_of(const HostPool& pool) const;

  Loop& loop_;
  Poller& poller_;
  CurlShards& shards_;
  const EgressGuard& guard_;
  const HostLimits limits_;
  const size_t shard_count_max_;
  Destination proxy_;
  std::unique_ptr<PinnedName> proxy_name_;
  std::unordered_map<std::string, std::shared_ptr<const ParsedUrl>> urls_;
  std::unordered_map<std::string, std::unique_ptr<CurlHost>> hosts_;
};

}  // namespace stepwell::detail
