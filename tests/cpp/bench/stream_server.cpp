// A mock LLM endpoint that streams: one thread, epoll. Answers every request with chunks as OpenAI sends them, at an
// even rate; each piece of text is the monotonic time in microseconds at which it was sent. Usage: stream_server [port]
// [tokens] [tokens_per_s]
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
#include <vector>

namespace {

constexpr const char* kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string chunk(const std::string& data) {
  std::array<char, 16> length{};
  std::snprintf(length.data(), length.size(), "%zx\r\n", data.size());
  return length.data() + data + "\r\n";
}

std::string event(const std::string& choice, const std::string& more = "") {
  return chunk(R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",)"
               R"("system_fingerprint":"fp_0","choices":[)" +
               choice + "]" + more + "}\n\n");
}

struct Peer {
  std::string received;
  size_t serial = 0;  // tells a reused descriptor from the one a piece was meant for
  int64_t left = 0;   // pieces of the stream under way
};

struct Due {
  int64_t at_us;
  int fd;
  size_t serial;
  bool operator<(const Due& other) const { return at_us > other.at_us; }
};

class Server {
 public:
  Server(int64_t tokens, int64_t tokens_per_s) : tokens_(tokens), period_us_(1'000'000 / tokens_per_s) {}

  int open(uint16_t port) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
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

 private:
  void watch(int fd) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &event);
  }

  int wait_ms() const {
    if (due_.empty()) return -1;
    const int64_t left_us = due_.top().at_us - now_us();
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
      peers_[fd] = {{}, ++last_serial_, 0};
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
    if (!take_request(peer.received)) return;
    (void)send(fd, kHead, std::string_view(kHead).size(), MSG_NOSIGNAL);
    peer.left = tokens_;
    // Spread over one period, as streams that began at different times are.
    due_.push({now_us() + static_cast<int64_t>(peer.serial * 7919) % period_us_, fd, peer.serial});
  }

  // Removes one whole request from the front of `received`; a client waits for an answer before its next one.
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

  void send_due() {
    while (!due_.empty() && due_.top().at_us <= now_us()) {
      const Due due = due_.top();
      due_.pop();
      const auto found = peers_.find(due.fd);
      if (found == peers_.end() || found->second.serial != due.serial) continue;
      const std::string text = R"({"index":0,"delta":{"content":")" + std::to_string(now_us()) +
                               R"( "},"logprobs":null,"finish_reason":null})";
      std::string bytes = event(text);
      if (--found->second.left == 0) bytes += end_;
      (void)send(due.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (found->second.left > 0) due_.push({due.at_us + period_us_, due.fd, due.serial});
    }
  }

  const int64_t tokens_;
  const int64_t period_us_;
  const std::string end_ = event(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"})") +
                           event("", R"(,"usage":{"prompt_tokens":5,"completion_tokens":50,"total_tokens":55})") +
                           chunk("data: [DONE]\n\n") + "0\r\n\r\n";
  int listener_ = -1;
  int poll_ = -1;
  bool is_done_ = false;
  size_t last_serial_ = 0;
  std::unordered_map<int, Peer> peers_;
  std::priority_queue<Due> due_;
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
  Server server(argument(2, 100), argument(3, 50));
  const int port = server.open(static_cast<uint16_t>(argument(1, 0)));
  if (port < 0) {
    std::perror("stream_server");
    return 1;
  }
  std::printf("%d\n", port);
  std::fflush(stdout);
  server.serve();
  return 0;
}
