// What the benchmarks' servers have in common: one thread, epoll, keep-alive, on a loopback port. Port 0 takes a free
// one; the first line printed is the port. It ends when standard input closes.
#pragma once

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace bench {

inline int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

inline void send_to(int fd, std::string_view bytes) { (void)send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

class LoopbackServer {
 public:
  virtual ~LoopbackServer() = default;

  // Serves until the end; the program's exit code.
  int run(const char* name, uint16_t port) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    const int taken = open(port);
    if (taken < 0) {
      std::perror(name);
      return 1;
    }
    std::printf("%d\n", taken);
    std::fflush(stdout);
    serve();
    return 0;
  }

 protected:
  // `serial` tells a reused descriptor from the one an answer is meant for.
  virtual void on_request(int fd, size_t serial, bool is_get) = 0;
  [[nodiscard]] virtual int64_t next_due_us() const = 0;  // when send_due has something to do; -1: not yet known
  virtual void send_due() = 0;

  [[nodiscard]] bool is_there(int fd, size_t serial) const {
    const auto found = peers_.find(fd);
    return found != peers_.end() && found->second.serial == serial;
  }
  [[nodiscard]] size_t connection_count() const { return last_serial_; }

 private:
  struct Peer {
    std::string received;
    size_t serial = 0;
  };

  int open(uint16_t port) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener_, 4096) != 0)
      return -1;
    socklen_t bytes = sizeof address;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &bytes);
    poll_ = epoll_create1(EPOLL_CLOEXEC);
    watch(listener_);
    watch(STDIN_FILENO);
    return ntohs(address.sin_port);
  }

  void serve() {
    std::vector<epoll_event> events(1024);
    while (!is_done_) {
      const int count = epoll_wait(poll_, events.data(), static_cast<int>(events.size()), wait_ms());
      for (int i = 0; i < count; ++i) on_event(events[static_cast<size_t>(i)].data.fd);
      send_due();
    }
  }

  void watch(int fd) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &event);
  }

  [[nodiscard]] int wait_ms() const {
    const int64_t due_us = next_due_us();
    if (due_us < 0) return -1;
    const int64_t left_us = due_us - now_us();
    return left_us <= 0 ? 0 : static_cast<int>((left_us + 999) / 1000);
  }

  void on_event(int fd) {
    if (fd == STDIN_FILENO) {
      std::array<char, 64> bytes{};
      is_done_ = read(fd, bytes.data(), bytes.size()) <= 0;
    } else if (fd == listener_) {
      accept_all();
    } else {
      on_readable(fd);
    }
  }

  void accept_all() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      peers_[fd] = {{}, ++last_serial_};
      watch(fd);
    }
  }

  void on_readable(int fd) {
    std::array<char, 16384> bytes{};
    const ssize_t count = recv(fd, bytes.data(), bytes.size(), 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
      peers_.erase(fd);
      close(fd);
      return;
    }
    Peer& peer = peers_[fd];
    peer.received.append(bytes.data(), static_cast<size_t>(count));
    while (true) {
      const bool is_get = peer.received.starts_with("GET ");
      if (!take_request(peer.received)) return;
      on_request(fd, peer.serial, is_get);
    }
  }

  // Removes one whole request from the front of `received`.
  static bool take_request(std::string& received) {
    const size_t head = received.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    size_t body = 0;
    for (const char* name : {"Content-Length: ", "content-length: "}) {
      const size_t at = received.find(name);
      if (at < head) body = std::strtoul(received.c_str() + at + std::string_view(name).size(), nullptr, 10);
    }
    if (received.size() < head + 4 + body) return false;
    received.erase(0, head + 4 + body);
    return true;
  }

  int listener_ = -1;
  int poll_ = -1;
  bool is_done_ = false;
  size_t last_serial_ = 0;
  std::unordered_map<int, Peer> peers_;
};

// The command line's number at a place, or another.
inline long number_at(int count, char** arguments, int index, long otherwise) {
  return index < count ? std::strtol(arguments[index], nullptr, 10) : otherwise;
}

}  // namespace bench
