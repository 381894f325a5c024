// CurlShards: curl's multi handles, their sockets and their timers, on the one loop.
//
// Two habits keep the kernel out of a request's way. A socket that curl lets go stays watched, marked idle, because its
// next request is near; it is given up when it stirs while idle or is closed. And work is done in turns, one in each
// iteration of the loop, after its sockets: outcomes are handed out and new requests go to curl once for all, so that a
// peer that answers at once cannot keep the loop from the others. Loop thread only.
#pragma once

#include <curl/curl.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "stepwell/loop.h"
#include "stepwell/status.h"

namespace stepwell::detail {

class CurlShards;

// One multi handle: 64 or so connections, because curl's searches are linear.
struct CurlShard {
  CURLM* multi = nullptr;
  CurlShards* owner = nullptr;
  int32_t running = 0;  // requests handed to it
  bool is_multiplexed = false;
  bool is_kicked = false;
  int64_t due_ms = -1;  // when curl wants to be called; -1: not at all
  TimerId timer = 0;    // may be set earlier than due_ms, never later
  int64_t timer_due_ms = 0;
};

class ShardListener {
 public:
  // Transfers of `shard` may have ended. Must neither call out to users nor add requests.
  virtual void shard_progressed(CurlShard& shard) = 0;
  // A turn that was scheduled begins. Here the listener may call out, add requests, and even end itself and the shards.
  virtual void turn_begins() = 0;

 protected:
  ~ShardListener() = default;
};

class CurlShards {
 public:
  CurlShards(Loop& loop, Poller& poller, ShardListener& listener) : loop_(loop), poller_(poller), listener_(listener) {}
  CurlShards(const CurlShards&) = delete;
  CurlShards& operator=(const CurlShards&) = delete;
  // Requires that no easy handle is left in a multi. Closes all connections.
  ~CurlShards();

  // `connections_max` is how many connections the shard keeps; `connections_per_host_max` 0 means no bound. Null
  // without memory.
  CurlShard* add(bool is_multiplexed, int32_t connections_max, int32_t connections_per_host_max);
  [[nodiscard]] const std::vector<std::unique_ptr<CurlShard>>& all() const { return shards_; }

  // Has turn_begins called soon, never inside this call.
  void schedule_turn();
  // To be set on every easy handle: the descriptors must be known here before curl closes them.
  void own_sockets_of(CURL* easy);
  // What every easy handle must open its sockets with.
  curl_socket_t open_socket(const curl_sockaddr& address);
  // From now on curl's wishes are ignored: for taking things apart.
  void mute() { is_muted_ = true; }

 private:
  struct Socket {
    CurlShard* shard = nullptr;
    unsigned events = 0;   // what the poller watches; 0: not watched
    bool is_idle = false;  // curl does not wait for it
    bool is_own = false;   // opened by open_socket, so that close_socket will be told
  };

  static int on_socket_wish(CURL* easy, curl_socket_t fd, int what, void* shard, void* socket);
  static int on_timer_wish(CURLM* multi, long timeout_ms, void* shard);
  static int close_socket(void* self, curl_socket_t fd);

  Socket& socket_at(curl_socket_t fd);
  void forget(curl_socket_t fd, Socket& socket);
  void wish_socket(CurlShard& shard, curl_socket_t fd, int what);
  void wish_timer(CurlShard& shard, int64_t timeout_ms);
  void on_ready(curl_socket_t fd, unsigned events);
  void on_timer(CurlShard& shard);
  void turn(const std::weak_ptr<bool>& alive);

  Loop& loop_;
  Poller& poller_;
  ShardListener& listener_;
  std::vector<std::unique_ptr<CurlShard>> shards_;
  std::vector<CurlShard*> kicked_;
  std::vector<CurlShard*> kicked_now_;  // the list that turn() works on; kept for its capacity
  std::vector<Socket> sockets_;         // by descriptor
  bool is_turn_scheduled_ = false;
  bool is_muted_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted turns may come after our end
};

}  // namespace stepwell::detail
