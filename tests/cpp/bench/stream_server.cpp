// A mock LLM endpoint that streams. Answers every request with chunks as OpenAI sends them, at an even rate; each piece
// of text is the monotonic time in microseconds at which it was sent.
// Usage: stream_server [port] [tokens] [tokens_per_s]
#include <queue>

#include "loopback_server.h"

namespace {

using bench::now_us;
using bench::send_to;

constexpr const char* kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

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

struct Due {
  int64_t at_us;
  int fd;
  size_t serial;
  int64_t left;  // pieces of the stream, this one included
  bool operator<(const Due& other) const { return at_us > other.at_us; }
};

class Server final : public bench::LoopbackServer {
 public:
  Server(int64_t tokens, int64_t tokens_per_s) : tokens_(tokens), period_us_(1'000'000 / tokens_per_s) {}

 private:
  void on_request(int fd, size_t serial, bool) override {
    send_to(fd, kHead);
    // Spread over one period, as streams that began at different times are.
    due_.push({now_us() + static_cast<int64_t>(serial * 7919) % period_us_, fd, serial, tokens_});
  }

  [[nodiscard]] int64_t next_due_us() const override { return due_.empty() ? -1 : due_.top().at_us; }

  void send_due() override {
    while (!due_.empty() && due_.top().at_us <= now_us()) {
      Due due = due_.top();
      due_.pop();
      if (!is_there(due.fd, due.serial)) continue;
      const std::string text = R"({"index":0,"delta":{"content":")" + std::to_string(now_us()) +
                               R"( "},"logprobs":null,"finish_reason":null})";
      const bool is_last = --due.left == 0;
      send_to(due.fd, is_last ? event(text) + end_ : event(text));
      due.at_us += period_us_;
      if (!is_last) due_.push(due);
    }
  }

  const int64_t tokens_;
  const int64_t period_us_;
  const std::string end_ = event(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"})") +
                           event("", R"(,"usage":{"prompt_tokens":5,"completion_tokens":50,"total_tokens":55})") +
                           chunk("data: [DONE]\n\n") + "0\r\n\r\n";
  std::priority_queue<Due> due_;
};

}  // namespace

int main(int count, char** arguments) {
  Server server(bench::number_at(count, arguments, 2, 100), bench::number_at(count, arguments, 3, 50));
  return server.run("stream_server", static_cast<uint16_t>(bench::number_at(count, arguments, 1, 0)));
}
