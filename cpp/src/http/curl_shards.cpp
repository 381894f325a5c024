#include "http/curl_shards.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace stepwell::detail {

CurlShards::~CurlShards() {
  mute();
  for (const auto& shard : shards_) {
    if (shard->timer != 0) loop_.cancel(shard->timer);
    curl_multi_cleanup(shard->multi);
  }
  // What curl did not close through us must not stay in the poller.
  for (size_t fd = 0; fd < sockets_.size(); ++fd) {
    if (sockets_[fd].events != 0) poller_.unwatch(static_cast<int>(fd));
  }
}

CurlShard* CurlShards::add(bool is_multiplexed, int32_t connections_max, int32_t connections_per_host_max) {
  auto shard = std::make_unique<CurlShard>();
  shard->multi = curl_multi_init();
  if (shard->multi == nullptr) return nullptr;
  shard->owner = this;
  shard->is_multiplexed = is_multiplexed;
  curl_multi_setopt(shard->multi, CURLMOPT_SOCKETFUNCTION, on_socket_wish);
  curl_multi_setopt(shard->multi, CURLMOPT_SOCKETDATA, shard.get());
  curl_multi_setopt(shard->multi, CURLMOPT_TIMERFUNCTION, on_timer_wish);
  curl_multi_setopt(shard->multi, CURLMOPT_TIMERDATA, shard.get());
  // Pinned: curl's own bound follows the number of running transfers, and a dip would close what the next wave needs.
  curl_multi_setopt(shard->multi, CURLMOPT_MAXCONNECTS, static_cast<long>(connections_max));
  curl_multi_setopt(shard->multi, CURLMOPT_MAX_HOST_CONNECTIONS, static_cast<long>(connections_per_host_max));
  shards_.push_back(std::move(shard));
  return shards_.back().get();
}

void CurlShards::schedule_turn() {
  if (std::exchange(is_turn_scheduled_, true)) return;
  loop_.post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) turn(alive);
  });
}

void CurlShards::own_sockets_of(CURL* easy) {
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, this);
}

int CurlShards::on_socket_wish(CURL*, curl_socket_t fd, int what, void* shard, void*) {
  auto& wishing = *static_cast<CurlShard*>(shard);
  if (!wishing.owner->is_muted_) wishing.owner->wish_socket(wishing, fd, what);
  return 0;
}

int CurlShards::on_timer_wish(CURLM*, long timeout_ms, void* shard) {
  auto& wishing = *static_cast<CurlShard*>(shard);
  if (!wishing.owner->is_muted_) wishing.owner->wish_timer(wishing, timeout_ms);
  return 0;
}

curl_socket_t CurlShards::open_socket(const curl_sockaddr& address) {
  // Close-on-exec from the start: a child that the host starts meanwhile must not inherit open calls.
#ifdef SOCK_CLOEXEC
  const int fd = ::socket(address.family, address.socktype | SOCK_CLOEXEC, address.protocol);
#else
  const int fd = ::socket(address.family, address.socktype, address.protocol);
#endif
  if (fd < 0) return CURL_SOCKET_BAD;
  Socket& opened = socket_at(fd);
  forget(fd, opened);
  opened.is_own = true;
  return fd;
}

int CurlShards::close_socket(void* self, curl_socket_t fd) {
  auto& shards = *static_cast<CurlShards*>(self);
  shards.forget(fd, shards.socket_at(fd));  // before the close: libuv aborts on a closed descriptor
  return ::close(fd);
}

void CurlShards::forget(curl_socket_t fd, Socket& socket) {
  if (socket.events != 0) poller_.unwatch(fd);
  socket = {};
}

CurlShards::Socket& CurlShards::socket_at(curl_socket_t fd) {
  const auto index = static_cast<size_t>(fd);
  if (index >= sockets_.size()) sockets_.resize(std::max(index + 1, 2 * sockets_.size()));
  return sockets_[index];
}

void CurlShards::wish_socket(CurlShard& shard, curl_socket_t fd, int what) {
  Socket& socket = socket_at(fd);
  if (what == CURL_POLL_REMOVE) {
    socket.is_idle = true;
    // One that was still connecting has lost a race between two addresses, or failed. curl has closed it then without a
    // word (7.88, cf-socket.c), and its number may be another's a moment later. Of one that is not our own nobody will
    // tell us when it is closed.
    if (!socket.is_own || socket.events == kPollWrite) forget(fd, socket);
    return;
  }
  socket.shard = &shard;
  socket.is_idle = false;
  const unsigned events = ((what & CURL_POLL_IN) != 0 ? unsigned{kPollRead} : 0U) |
                          ((what & CURL_POLL_OUT) != 0 ? unsigned{kPollWrite} : 0U);
  if (socket.events == events) return;
  // A socket that cannot be watched leaves its request to the deadline; telling curl would kill the whole multi.
  const Status watched = poller_.watch(fd, events, [this, fd](unsigned seen) { on_ready(fd, seen); });
  socket.events = watched.is_ok() ? events : 0;
}

void CurlShards::wish_timer(CurlShard& shard, int64_t timeout_ms) {
  if (timeout_ms < 0) {
    shard.due_ms = -1;
    return;
  }
  if (timeout_ms == 0) {
    shard.due_ms = -1;
    if (std::exchange(shard.is_kicked, true)) return;
    kicked_.push_back(&shard);
    schedule_turn();
    return;
  }
  // One more, because curl rounds down and a call that comes early achieves nothing.
  shard.due_ms = loop_.now_ms() + timeout_ms + 1;
  if (shard.timer != 0 && shard.timer_due_ms <= shard.due_ms) return;  // it will fire in time and look again
  if (shard.timer != 0) loop_.cancel(shard.timer);
  shard.timer_due_ms = shard.due_ms;
  shard.timer = loop_.after(timeout_ms + 1, [this, &shard] { on_timer(shard); });
}

void CurlShards::on_timer(CurlShard& shard) {
  shard.timer = 0;
  if (shard.due_ms < 0) return;
  const int64_t left_ms = shard.due_ms - loop_.now_ms();
  if (left_ms > 0) {
    shard.timer_due_ms = shard.due_ms;
    shard.timer = loop_.after(left_ms, [this, &shard] { on_timer(shard); });
    return;
  }
  wish_timer(shard, 0);
}

void CurlShards::on_ready(curl_socket_t fd, unsigned events) {
  Socket& socket = socket_at(fd);
  if (socket.is_idle) {
    // Most likely the peer has hung up. curl finds out when it next wants the connection.
    poller_.unwatch(fd);
    socket.events = 0;
    return;
  }
  CurlShard& shard = *socket.shard;
  const int seen = ((events & kPollRead) != 0 ? CURL_CSELECT_IN : 0) |
                   ((events & kPollWrite) != 0 ? CURL_CSELECT_OUT : 0) |
                   ((events & kPollError) != 0 ? CURL_CSELECT_ERR : 0);
  int running = 0;
  curl_multi_socket_action(shard.multi, fd, seen, &running);
  listener_.shard_progressed(shard);
}

void CurlShards::turn(const std::weak_ptr<bool>& alive) {
  is_turn_scheduled_ = false;
  listener_.turn_begins();
  if (alive.expired()) return;
  kicked_now_.swap(kicked_);
  for (CurlShard* shard : kicked_now_) {
    shard->is_kicked = false;
    int running = 0;
    curl_multi_socket_action(shard->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    listener_.shard_progressed(*shard);
  }
  kicked_now_.clear();
}

}  // namespace stepwell::detail
