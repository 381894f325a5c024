// A mock LLM endpoint. Answers every request with the same 600 bytes of JSON after a delay.
// Usage: epoll_server [port] [delay_ms_min] [delay_ms_max]
#include <queue>

#include "loopback_server.h"

namespace {

using bench::now_us;
using bench::send_to;

struct Answer {
  int64_t due_us;
  int64_t received_us;
  int fd;
  size_t serial;
  bool operator<(const Answer& other) const { return due_us > other.due_us; }
};

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

class Server final : public bench::LoopbackServer {
 public:
  Server(int64_t delay_ms_min, int64_t delay_ms_max)
      : delay_us_min_(delay_ms_min * 1000), delay_us_max_(delay_ms_max * 1000) {}
  ~Server() override { std::fprintf(stderr, "connections %zu, requests %zu\n", connection_count(), request_count_); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

 private:
  void on_request(int fd, size_t serial, bool is_get) override {
    if (is_get) return send_to(fd, models_);
    ++request_count_;
    if (delay_us_max_ == 0) return send_to(fd, answer_);
    const int64_t now = now_us();
    random_ = random_ * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto spread = static_cast<uint64_t>(delay_us_max_ - delay_us_min_ + 1);
    answers_.push({now + delay_us_min_ + static_cast<int64_t>((random_ >> 33U) % spread), now, fd, serial});
  }

  [[nodiscard]] int64_t next_due_us() const override { return answers_.empty() ? -1 : answers_.top().due_us; }

  void send_due() override {
    const int64_t now = answers_.empty() ? 0 : now_us();
    while (!answers_.empty() && answers_.top().due_us <= now) {
      const Answer due = answers_.top();
      answers_.pop();
      if (!is_there(due.fd, due.serial)) continue;
      // Says how long it was kept here, so that a client can tell its own share of the latency.
      std::snprintf(answer_.data() + us_at_, 10, "%09lld", static_cast<long long>(now - due.received_us));
      answer_[us_at_ + 9] = '\r';
      send_to(due.fd, answer_);
    }
  }

  const int64_t delay_us_min_;
  const int64_t delay_us_max_;
  const std::string models_ = make_answer(R"({"object":"list","data":[]})");
  std::string answer_ = make_completion();
  const size_t us_at_ = answer_.find("000000000");
  size_t request_count_ = 0;
  uint64_t random_ = 1;
  std::priority_queue<Answer> answers_;
};

}  // namespace

int main(int count, char** arguments) {
  const long delay_ms = bench::number_at(count, arguments, 2, 0);
  Server server(delay_ms, bench::number_at(count, arguments, 3, delay_ms));
  return server.run("epoll_server", static_cast<uint16_t>(bench::number_at(count, arguments, 1, 0)));
}
