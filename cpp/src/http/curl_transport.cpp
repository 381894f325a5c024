#include "http/curl_transport.h"

#include <curl/curl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "http/curl_call.h"
#include "http/curl_hosts.h"
#include "http/curl_shards.h"
#include "http/egress.h"
#include "http/target.h"

namespace stepwell {

namespace detail {

namespace {

constexpr int64_t kLookMsMax = 15'000;
constexpr size_t kIdleEasyCountMax = 1'024;  // about 6 KB each

int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

class CurlTransport final : public HttpTransport, private ShardListener, private CallListener {
 public:
  CurlTransport(Loop& loop, Poller& poller, EgressPolicy egress, HostLimits limits, EasyOptions easy,
                const std::optional<Target>& proxy)
      : loop_(loop),
        guard_(std::move(egress)),
        easy_options_(std::move(easy)),
        shards_(loop, poller, *this),
        hosts_(loop, poller, shards_, guard_, std::move(limits), proxy) {}

  ~CurlTransport() override;

  CallId send(HttpRequest request, HttpDone done) override { return stream(std::move(request), {}, std::move(done)); }
  CallId stream(HttpRequest request, HttpBody body, HttpDone done) override;
  void cancel(CallId call) override;

 private:
  struct Finished {
    HttpDone done;
    HttpOutcome outcome;
  };

  void shard_progressed(CurlShard& shard) override;
  void turn_begins() override;
  void protocol_seen(CurlCall& call, bool is_http2) override;
  curl_socket_t open_socket(CurlCall& call, const curl_sockaddr& address) override;
  void connection_made(CurlCall& call) override;

  CurlCall& new_call();
  CurlCall* find(CallId id);
  void start_waiting(CurlHost& host);
  // The same at the next turn.
  void start_waiting_later(CurlHost& host);
  void wait_for_name(CurlHost& host);
  void start(CurlCall& call);
  void on_deadline(CallId id);
  int64_t stall_ms_of(const CurlCall& call) const;
  // Looks again soon enough to notice that `call` stalls.
  void watch_for_stalls(const CurlCall& call);
  // One look at every running call, so that a call costs no timer.
  void look_for_stalls();
  bool is_stalled(CurlCall& call) const;
  // Takes the call from curl and keeps its outcome for the end of the turn. The slot is free afterwards.
  void finish(CurlCall& call, Status status);
  void take_from_curl(CurlCall& call, bool is_warm);

  Loop& loop_;
  const EgressGuard guard_;
  const EasyOptions easy_options_;
  CurlShards shards_;
  CurlHosts hosts_;
  std::vector<std::unique_ptr<CurlCall>> calls_;
  std::vector<uint32_t> free_slots_;
  std::vector<CURL*> idle_easies_;       // all set up; the hottest last
  std::vector<CurlHost*> listed_hosts_;  // a seat became free, or the first answer told the protocol
  std::vector<Finished> finished_;
  TimerId look_ = 0;
  int64_t look_due_ms_ = 0;
  bool* ended_ = nullptr;  // set while outcomes are handed out; tells that one of them ended the transport
};

CurlTransport::~CurlTransport() {
  if (ended_ != nullptr) *ended_ = true;
  shards_.mute();
  if (look_ != 0) loop_.cancel(look_);
  for (const auto& call : calls_) {
    if (call->deadline != 0) loop_.cancel(call->deadline);
    if (call->easy != nullptr) take_from_curl(*call, /*is_warm=*/false);
  }
  for (CURL* easy : idle_easies_) curl_easy_cleanup(easy);
}

CallId CurlTransport::stream(HttpRequest request, HttpBody body, HttpDone done) {
  CurlCall& call = new_call();
  const CallId id = call.id;
  call.request = std::move(request);
  call.done = std::move(done);
  call.body = std::move(body);
  call.sent_at_ns = steady_ns();
  const EgressPolicy& policy = guard_.policy();
  call.request.body_bytes_max =
      std::min(call.request.body_bytes_max, call.request.is_bulk ? policy.bulk_bytes_max : policy.body_bytes_max);
  call.request.header_bytes_max = std::min(call.request.header_bytes_max, policy.header_bytes_max);
  call.unpack_ratio_max = policy.unpack_ratio_max;
  if (Status status = check_request(call.request); !status.is_ok()) {
    finish(call, std::move(status));
    return id;
  }
  auto parsed = hosts_.parse(call.request.url);
  if (!parsed) {
    finish(call, parsed.error());
    return id;
  }
  call.url = std::move(*parsed);
  call.host = call.url->host;
  call.deadline = loop_.after(std::max<int64_t>(call.request.total_timeout_ms, 1), [this, id] { on_deadline(id); });
  call.host->waiting.push_back(id);
  start_waiting(*call.host);
  return id;
}

void CurlTransport::cancel(CallId id) {
  CurlCall* call = find(id);
  if (call == nullptr) return;
  finish(*call, {StatusKind::kCancelled, code::kHttpBroken, call->host->place + ": the call was cancelled"});
}

CurlCall& CurlTransport::new_call() {
  uint32_t slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<uint32_t>(calls_.size());
    calls_.push_back(std::make_unique<CurlCall>());
    calls_.back()->slot = slot;
    calls_.back()->listener = this;
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  CurlCall& call = *calls_[slot];
  ++call.generation;
  call.id = (uint64_t{call.generation} << 32U) | slot;
  return call;
}

CurlCall* CurlTransport::find(CallId id) {
  const uint64_t slot = id & 0xFFFFFFFFU;
  if (id == 0 || slot >= calls_.size() || calls_[slot]->id != id) return nullptr;
  return calls_[slot].get();
}

void CurlTransport::start_waiting(CurlHost& host) {
  const int32_t running_max = hosts_.running_max(host);
  while (!host.waiting.empty() && host.running < running_max) {
    CurlCall* call = find(host.waiting.front());
    if (call != nullptr && !host.name->is_ready()) {
      wait_for_name(host);
      return;
    }
    host.waiting.pop_front();
    if (call != nullptr) start(*call);
  }
}

void CurlTransport::start_waiting_later(CurlHost& host) {
  if (host.waiting.empty() || std::exchange(host.is_listed, true)) return;
  listed_hosts_.push_back(&host);
  shards_.schedule_turn();
}

void CurlTransport::wait_for_name(CurlHost& host) {
  if (std::exchange(host.waits_for_name, true)) return;
  host.name->wait([this, &host](const Status& status) {
    host.waits_for_name = false;
    if (status.is_ok()) {
      start_waiting(host);
      return;
    }
    for (const CallId id : std::exchange(host.waiting, {})) {
      if (CurlCall* call = find(id)) finish(*call, status);
    }
  });
}

void CurlTransport::start(CurlCall& call) {
  CurlHost& host = *call.host;
  const int32_t seat = hosts_.take_seat(host);
  if (seat < 0) {
    finish(call, {StatusKind::kIo, code::kHttpConnect, host.place + ": out of memory or descriptors"});
    return;
  }
  call.pool = static_cast<uint32_t>(seat);
  if (idle_easies_.empty()) {
    call.easy = open_easy(easy_options_);
    if (call.easy != nullptr) shards_.own_sockets_of(call.easy);
  } else {
    call.easy = idle_easies_.back();
    idle_easies_.pop_back();
  }
  if (call.easy == nullptr) {
    hosts_.leave_seat(host, call.pool, /*is_warm=*/false);
    finish(call, {StatusKind::kIo, code::kHttpConnect, host.place + ": out of memory"});
    return;
  }
  call.pin = hosts_.pin_for(host, call.pool);
  CallRoute route;
  route.url = call.url->url.get();
  route.proxy = host.proxy;
  route.waits_for_multiplexing = host.protocol != HostProtocol::kHttp1;
  fill_easy(call, route);
  const CURLMcode added = curl_multi_add_handle(host.pools[call.pool].shard->multi, call.easy);
  if (added != CURLM_OK) {
    finish(call, {StatusKind::kIo, code::kHttpConnect, host.place + ": " + curl_multi_strerror(added)});
    return;
  }
  watch_for_stalls(call);
}

int64_t CurlTransport::stall_ms_of(const CurlCall& call) const {
  return call.request.stall_ms_max >= 0 ? call.request.stall_ms_max : guard_.policy().stall_ms_max;
}

void CurlTransport::watch_for_stalls(const CurlCall& call) {
  const int64_t stall_ms = stall_ms_of(call);
  if (stall_ms == 0) return;
  const int64_t in_ms = std::clamp<int64_t>(stall_ms / 4, 1, kLookMsMax);
  if (look_ != 0 && look_due_ms_ - loop_.now_ms() <= in_ms) return;
  if (look_ != 0) loop_.cancel(look_);
  look_due_ms_ = loop_.now_ms() + in_ms;
  look_ = loop_.after(in_ms, [this] { look_for_stalls(); });
}

void CurlTransport::look_for_stalls() {
  look_ = 0;
  for (const auto& call : calls_) {
    if (call->easy == nullptr) continue;
    if (is_stalled(*call)) {
      finish(*call, {StatusKind::kTimeout, code::kHttpTimeout,
                     call->host->place + ": the answer began and then brought less than a byte a second for " +
                         std::to_string(stall_ms_of(*call)) + " ms"});
    } else {
      watch_for_stalls(*call);
    }
  }
}

bool CurlTransport::is_stalled(CurlCall& call) const {
  const int64_t stall_ms = stall_ms_of(call);
  if (stall_ms == 0 || call.header_bytes == 0) return false;  // before the answer only the total time counts
  curl_off_t received = 0;
  curl_easy_getinfo(call.easy, CURLINFO_SIZE_DOWNLOAD_T, &received);
  const int64_t bytes = received + call.header_bytes;
  const int64_t now_ms = loop_.now_ms();
  const int64_t passed_ms = now_ms - call.window_at_ms;
  if (call.window_at_ms >= 0 && passed_ms < stall_ms) return false;
  const bool is_slow = call.window_at_ms >= 0 && (bytes - call.window_bytes) * 1'000 < passed_ms;
  call.window_at_ms = now_ms;
  call.window_bytes = bytes;
  return is_slow;
}

void CurlTransport::on_deadline(CallId id) {
  CurlCall* call = find(id);
  if (call == nullptr) return;
  call->deadline = 0;
  std::string text = call->host->place + ": ";
  text += call->may_be_sent ? "no whole answer" : call->easy != nullptr ? "no connection" : "no free connection";
  text += " within " + std::to_string(call->request.total_timeout_ms) + " ms";
  finish(*call, {StatusKind::kTimeout, code::kHttpTimeout, std::move(text)});
}

void CurlTransport::take_from_curl(CurlCall& call, bool is_warm) {
  curl_multi_remove_handle(call.host->pools[call.pool].shard->multi, call.easy);
  hosts_.leave_seat(*call.host, call.pool, is_warm);
  if (idle_easies_.size() < kIdleEasyCountMax) {
    idle_easies_.push_back(call.easy);
  } else {
    curl_easy_cleanup(call.easy);
  }
  call.easy = nullptr;
  start_waiting_later(*call.host);
}

void CurlTransport::finish(CurlCall& call, Status status) {
  if (call.easy != nullptr) take_from_curl(call, status.is_ok());
  if (call.deadline != 0) loop_.cancel(call.deadline);
  Finished& finished = finished_.emplace_back();
  finished.done = std::move(call.done);
  finished.outcome.status = std::move(status);
  finished.outcome.maybe_sent = call.may_be_sent;
  finished.outcome.elapsed_us = (steady_ns() - call.sent_at_ns) / 1'000;
  if (finished.outcome.status.is_ok()) finished.outcome.response = std::move(call.response);
  call.response = {};
  call.request = {};
  call.body = {};
  call.url.reset();
  call.pin.reset();
  call.host = nullptr;
  call.deadline = 0;
  call.header_bytes = 0;
  call.body_bytes = 0;
  call.window_at_ms = -1;
  call.has_two_lengths = false;
  call.refused = Status::ok();
  call.may_be_sent = false;
  call.is_resend_refused = false;
  call.is_unwanted = false;
  call.body_way = BodyWay::kUnknown;
  call.too_large = TooLarge::kNo;
  call.id = 0;
  free_slots_.push_back(call.slot);
  shards_.schedule_turn();
}

void CurlTransport::shard_progressed(CurlShard& shard) {
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(shard.multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode result = message->data.result;
    CurlCall* call = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
    if (result == CURLE_OK) {
      long status = 0;
      curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
      call->response.status = static_cast<int32_t>(status);
    }
    finish(*call, status_of(*call, result, call->host->place));
  }
}

void CurlTransport::turn_begins() {
  for (CurlHost* host : std::exchange(listed_hosts_, {})) {
    host->is_listed = false;
    start_waiting(*host);
  }
  if (finished_.empty()) return;
  // One batch: what its callbacks finish at once (a bad URL, say) comes with the next turn.
  std::vector<Finished> batch = std::exchange(finished_, {});
  bool has_ended = false;
  bool* const outer = std::exchange(ended_, &has_ended);
  for (Finished& each : batch) {
    if (each.done) each.done(std::move(each.outcome));
    if (has_ended) break;
  }
  if (!has_ended) ended_ = outer;
}

void CurlTransport::protocol_seen(CurlCall& call, bool is_http2) {
  CurlHost& host = *call.host;
  if (!host.is_tls) return;
  const HostProtocol seen = is_http2 ? HostProtocol::kHttp2 : HostProtocol::kHttp1;
  if (host.protocol == seen) return;
  host.protocol = seen;
  start_waiting_later(host);
}

curl_socket_t CurlTransport::open_socket(CurlCall& call, const curl_sockaddr& address) {
  // The names' addresses were judged before curl got them. This is the address that it really uses.
  const auto known = address_of(address.addr);
  Status judged = known ? guard_.judge(call.host->destination, *known)
                        : Status(StatusKind::kInvalid, code::kEgressAddress, call.host->place + ": not an IP address");
  if (judged.is_ok()) return shards_.open_socket(address);
  call.refused = std::move(judged);
  return CURL_SOCKET_BAD;
}

void CurlTransport::connection_made(CurlCall& call) {
  if (call.pin) hosts_.note_pinned(*call.host, call.pool, *call.pin);
}

namespace {

Result<std::string> find_ca_bundle(const std::string& wanted) {
  if (!wanted.empty()) {
    if (access(wanted.c_str(), R_OK) == 0) return wanted;
    return Status(StatusKind::kInvalid, code::kHttpTls, "the CA bundle " + wanted + " cannot be read");
  }
  // A curl that was built on another system looks in that system's place. These are where Linux and BSD systems keep
  // theirs.
  for (const char* path :
       {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    if (access(path, R_OK) == 0) return std::string(path);
  }
  return std::string();  // curl's own
}

// A request that cannot get a descriptor fails; one that waits for it does not. Leaves room for the host process's
// files.
int32_t bound_by_descriptors(int32_t connections) {
  constexpr rlim_t kReserved = 256;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return connections;
  const rlim_t usable = limit.rlim_cur > 2 * kReserved ? limit.rlim_cur - kReserved : limit.rlim_cur / 2;
  return static_cast<int32_t>(std::min<rlim_t>(static_cast<rlim_t>(connections), std::max<rlim_t>(usable, 1)));
}

}  // namespace

}  // namespace detail

Result<std::unique_ptr<HttpTransport>> open_curl_transport(Loop& loop, Poller& poller, CurlOptions options) {
  using namespace detail;
  if (options.connections_per_host_max < 1 || options.connections_per_shard < 1) {
    return Status(StatusKind::kInvalid, code::kHttpConnect, "connection limits must be 1 or more");
  }
  static std::once_flag curl_once;
  static CURLcode curl_ready = CURLE_OK;
  std::call_once(curl_once, [] { curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT); });
  if (curl_ready != CURLE_OK) return Status(StatusKind::kIo, code::kInternal, "curl cannot be initialised");
  EasyOptions easy;
  easy.http2 = options.http2;
  auto bundle = find_ca_bundle(options.ca_bundle);
  if (!bundle) return bundle.error();
  easy.ca_bundle = std::move(*bundle);
  STEPWELL_TRY(check_policy(options.egress));
  std::optional<Target> proxy;
  if (!options.proxy.empty()) {
    auto parsed = parse_proxy(options.proxy);
    if (!parsed) return parsed.error();
    proxy = std::move(*parsed);
  }
  HostLimits limits;
  limits.connections_per_host_max = bound_by_descriptors(options.connections_per_host_max);
  limits.connections_per_shard = options.connections_per_shard;
  limits.http2 = options.http2;
  limits.proxy = std::move(options.proxy);
  limits.no_proxy = std::move(options.no_proxy);
  return std::unique_ptr<HttpTransport>(std::make_unique<CurlTransport>(loop, poller, std::move(options.egress),
                                                                        std::move(limits), std::move(easy), proxy));
}

}  // namespace stepwell
