// A mock LLM endpoint: one thread, epoll, keep-alive. Answers every request with the same 600 bytes of JSON after a
// delay. Usage: epoll_server [port] [delay_ms_min] [delay_ms_max]
//
// Port 0 takes a free one; the first line printed is the port. Ends when standard input closes.
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
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

struct Peer {
  std::string received;
  size_t serial = 0;  // tells a reused descriptor from the one an answer was meant for
};

struct Answer {
  int64_t due_us;
  int64_t received_us;
  int fd;
  size_t serial;
  bool operator<(const Answer& other) const { return due_us > other.due_us; }
};

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string make_answer(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Server-Us: 000000000\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string make_completion() {
  std::string body =
      R"({"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bench","system_fingerprint":")";
  body.append(320, 'a');
  body += R"(","choices":[{"index":0,"message":{"role":"assistant",)";
  body += R"("content":"{\"label\":\"Billing\",\"confidence\":0.9}"},"finish_reason":"stop"}],)";
  body += R"("usage":{"prompt_tokens":250,"completion_tokens":12,"total_tokens":262}})";
  return make_answer(body);
}

class Server {
 public:
  Server(int64_t delay_ms_min, int64_t delay_ms_max)
      : delay_us_min_(delay_ms_min * 1000), delay_us_max_(delay_ms_max * 1000) {}

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
    std::fprintf(stderr, "connections %zu, requests %zu\n", last_serial_, request_count_);
  }

 private:
  void watch(int fd) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &event);
  }

  int wait_ms() const {
    if (answers_.empty()) return -1;
    const int64_t left_us = answers_.top().due_us - now_us();
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
      if (is_get) {
        (void)send(fd, models_.data(), models_.size(), MSG_NOSIGNAL);
      } else {
        answer(fd, peer.serial);
      }
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

  void answer(int fd, size_t serial) {
    ++request_count_;
    if (delay_us_max_ == 0) {
      (void)send(fd, answer_.data(), answer_.size(), MSG_NOSIGNAL);
      return;
    }
    const int64_t now = now_us();
    random_ = random_ * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto spread = static_cast<uint64_t>(delay_us_max_ - delay_us_min_ + 1);
    answers_.push({now + delay_us_min_ + static_cast<int64_t>((random_ >> 33U) % spread), now, fd, serial});
  }

  void send_due() {
    const int64_t now = answers_.empty() ? 0 : now_us();
    while (!answers_.empty() && answers_.top().due_us <= now) {
      const Answer due = answers_.top();
      answers_.pop();
      const auto peer = peers_.find(due.fd);
      if (peer == peers_.end() || peer->second.serial != due.serial) continue;
      // Says how long it was kept here, so that a client can tell its own share of the latency.
      std::snprintf(answer_.data() + us_at_, 10, "%09lld", static_cast<long long>(now - due.received_us));
      answer_[us_at_ + 9] = '\r';
      (void)send(due.fd, answer_.data(), answer_.size(), MSG_NOSIGNAL);
    }
  }

  const int64_t delay_us_min_;
  const int64_t delay_us_max_;
  const std::string models_ = make_answer(R"({"object":"list","data":[]})");
  std::string answer_ = make_completion();
  const size_t us_at_ = answer_.find("000000000");
  int listener_ = -1;
  int poll_ = -1;
  bool is_done_ = false;
  size_t last_serial_ = 0;
  size_t request_count_ = 0;
  uint64_t random_ = 1;
  std::unordered_map<int, Peer> peers_;
  std::priority_queue<Answer> answers_;
};

}  // namespace

int main(int count, char** arguments) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const auto argument = [&](int index, long otherwise) {
    return index < count ? std::strtol(arguments[index], nullptr, 10) : otherwise;
  };
  const long delay_ms = argument(2, 0);
  Server server(delay_ms, argument(3, delay_ms));
  const int port = server.open(static_cast<uint16_t>(argument(1, 0)));
  if (port < 0) {
    std::perror("epoll_server");
    return 1;
  }
  std::printf("%d\n", port);
  std::fflush(stdout);
  server.serve();
  return 0;
}
