// LoopbackServer: a real server for the tests of clients, on a free loopback port, with a thread for each connection.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace stepwell::testing {

// One accepted connection, as a handler sees it; blocking, on its own thread.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}

  // The next whole request, head and body; empty when the client has hung up.
  std::string read_request() {
    for (;;) {
      const size_t head = received_.find("\r\n\r\n");
      if (head != std::string::npos) {
        const size_t at = received_.find("Content-Length: ");
        const size_t body = at < head ? std::strtoul(received_.c_str() + at + 16, nullptr, 10) : 0;
        if (received_.size() >= head + 4 + body) {
          std::string request = received_.substr(0, head + 4 + body);
          received_.erase(0, request.size());
          return request;
        }
      }
      char bytes[4096];
      const ssize_t count = recv(fd_, bytes, sizeof bytes, 0);
      if (count <= 0) return {};
      received_.append(bytes, static_cast<size_t>(count));
    }
  }
  void write(const std::string& bytes) const {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t count = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;
      sent += static_cast<size_t>(count);
    }
  }
  void answer(const std::string& body, const std::string& headers = "") const {
    write("HTTP/1.1 200 OK\r\n" + headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  // Returns when the client hangs up, or after `wait_ms_max`.
  void wait_hang_up(int wait_ms_max = 20'000) const {
    pollfd watched{fd_, POLLRDHUP, 0};
    (void)poll(&watched, 1, wait_ms_max);
  }
  // Ends the connection with a reset instead of a goodbye.
  void reset() const {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }

 private:
  const int fd_;
  std::string received_;
};

// A server with a thread for each connection; `handler` has the connection until it returns.
class LoopbackServer {
 public:
  using Handler = std::function<void(Peer&)>;
  explicit LoopbackServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(0, bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address));
    EXPECT_EQ(0, listen(listener_, 1024));
    socklen_t bytes = sizeof address;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &bytes);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~LoopbackServer() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    }
    for (auto& thread : threads_) thread.join();
    close(listener_);
  }
  [[nodiscard]] std::string port() const { return std::to_string(port_); }
  [[nodiscard]] std::string url(const std::string& path = "/") const { return "http://127.0.0.1:" + port() + path; }
  [[nodiscard]] int connections() const { return connections_; }

 private:
  void accept_all() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      ++connections_;
      const std::lock_guard lock(mutex_);
      open_.insert(fd);
      threads_.emplace_back([this, fd] {
        Peer peer(fd);
        handler_(peer);
        const std::lock_guard inner(mutex_);
        open_.erase(fd);
        close(fd);
      });
    }
  }

  Handler handler_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<int> connections_{0};
  std::thread acceptor_;
  std::mutex mutex_;
  std::set<int> open_;                // protected by mutex_
  std::vector<std::thread> threads_;  // the acceptor's until it ends
};

// Answers every request with the request itself.
inline LoopbackServer::Handler echo() {
  return [](Peer& peer) {
    for (std::string request = peer.read_request(); !request.empty(); request = peer.read_request())
      peer.answer(request);
  };
}

// Answers each request of a connection with `bytes` and then hangs up.
inline LoopbackServer::Handler once(std::string bytes, bool resets = false) {
  return [bytes = std::move(bytes), resets](Peer& peer) {
    if (peer.read_request().empty()) return;
    peer.write(bytes);
    if (resets) peer.reset();
  };
}

}  // namespace stepwell::testing
