// Event streams through CurlTransport: the body as it comes, and every call ends exactly once all the same.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "http/curl_transport.h"
#include "loop/uv_loop.h"
#include "unit/loopback_server.h"

namespace stepwell {
namespace {

using Server = testing::LoopbackServer;
using testing::once;
using testing::Peer;

constexpr int64_t kPatienceMs = 20'000;
constexpr const char* kHead = "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nContent-Length: ";

struct Seen {
  HttpOutcome outcome;
  std::string streamed;
  int chunks = 0;
};

class CurlStreamTest : public ::testing::Test {
 protected:
  // Runs one call to its end. `take` sees each chunk's bytes and says whether more is wanted.
  Seen run(
      HttpRequest request, const std::function<bool(std::string_view)>& take = [](std::string_view) { return true; }) {
    // A loop that was stopped runs no more.
    transport_.reset();
    loop_ = std::move(*UvLoop::open());
    transport_ = std::move(*open_curl_transport(*loop_, *loop_, {}));
    Seen seen;
    bool is_over = false;
    call_ = transport_->stream(
        std::move(request),
        [&](const HttpResponse& head, std::string_view bytes) {
          EXPECT_FALSE(is_over) << "bytes after the outcome";
          EXPECT_TRUE(is_event_stream(head));
          seen.streamed += bytes;
          ++seen.chunks;
          return take(bytes);
        },
        [&](HttpOutcome outcome) {
          EXPECT_FALSE(is_over) << "two outcomes";
          is_over = true;
          seen.outcome = std::move(outcome);
          loop_->stop();
        });
    const TimerId patience = loop_->after(kPatienceMs, [this] {
      ADD_FAILURE() << "the call did not end in time";
      loop_->stop();
    });
    loop_->run();
    loop_->cancel(patience);
    return seen;
  }
  static HttpRequest get(std::string url) {
    HttpRequest request;
    request.method = "GET";
    request.url = std::move(url);
    return request;
  }

  std::unique_ptr<UvLoop> loop_;
  std::unique_ptr<HttpTransport> transport_;
  CallId call_ = 0;
};

TEST_F(CurlStreamTest, TheBodyComesInPiecesAndIsNotKept) {
  std::atomic<bool> is_first_seen = false;
  const Server server([&](Peer& peer) {
    peer.read_request();
    peer.write(std::string(kHead) + "6\r\n\r\nfir");
    while (!is_first_seen) std::this_thread::yield();  // it arrives before there is more
    peer.write("st2");
  });
  const Seen seen = run(get(server.url()), [&](std::string_view) { return is_first_seen = true; });
  EXPECT_TRUE(seen.outcome.status.is_ok()) << seen.outcome.status.to_string();
  EXPECT_EQ("first2", seen.streamed);
  EXPECT_GE(seen.chunks, 2);
  EXPECT_EQ("", seen.outcome.response.body);
  EXPECT_TRUE(is_event_stream(seen.outcome.response));
}

TEST_F(CurlStreamTest, OtherAnswersAreWhole) {
  for (const char* head : {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\nContent-Length: 4\r\n\r\n",
                           "HTTP/1.1 429 no\r\nContent-Type: text/event-stream\r\nContent-Length: 4\r\n\r\n"}) {
    const Server server(once(std::string(head) + "body"));
    const Seen seen = run(get(server.url()));
    EXPECT_EQ("body", seen.outcome.response.body) << head;
    EXPECT_EQ("", seen.streamed) << head;
  }
}

TEST_F(CurlStreamTest, AnEmptyStreamIsOne) {
  const Server server(once(std::string(kHead) + "0\r\n\r\n"));
  const Seen seen = run(get(server.url()));
  EXPECT_TRUE(seen.outcome.status.is_ok());
  EXPECT_TRUE(is_event_stream(seen.outcome.response));
  EXPECT_EQ(0, seen.chunks);
}

TEST_F(CurlStreamTest, WhatIsNotWantedEndsTheCallAndTheConnection) {
  std::atomic<bool> has_hung_up = false;
  const Server server([&](Peer& peer) {
    peer.read_request();
    peer.write(std::string(kHead) + "1000000\r\n\r\nsome");
    peer.wait_hang_up();
    has_hung_up = true;
  });
  const Seen seen = run(get(server.url()), [](std::string_view) { return false; });
  EXPECT_EQ(StatusKind::kCancelled, seen.outcome.status.kind()) << seen.outcome.status.to_string();
  EXPECT_EQ(1, seen.chunks);
  transport_.reset();
  while (!has_hung_up) std::this_thread::yield();
}

TEST_F(CurlStreamTest, ACutStreamIsBroken) {
  const Server server(once(std::string(kHead) + "100\r\n\r\nhalf"));
  const Seen seen = run(get(server.url()));
  EXPECT_EQ(code::kHttpBroken, seen.outcome.status.code()) << seen.outcome.status.to_string();
  EXPECT_EQ("half", seen.streamed);
}

TEST_F(CurlStreamTest, ACancelFromTheLoopReachesTheSocket) {
  std::atomic<bool> has_hung_up = false;
  const Server server([&](Peer& peer) {
    peer.read_request();
    peer.write(std::string(kHead) + "100\r\n\r\nhalf");
    peer.wait_hang_up();
    has_hung_up = true;
  });
  const Seen seen = run(get(server.url()), [this](std::string_view) {
    loop_->post([this] { transport_->cancel(call_); });
    return true;
  });
  EXPECT_EQ(StatusKind::kCancelled, seen.outcome.status.kind());
  while (!has_hung_up) std::this_thread::yield();
}

TEST_F(CurlStreamTest, AConnectionIsUsedAgainAfterAStream) {
  const Server server([](Peer& peer) {
    while (!peer.read_request().empty()) peer.write(std::string(kHead) + "4\r\n\r\nbody");
  });
  loop_ = std::move(*UvLoop::open());
  transport_ = std::move(*open_curl_transport(*loop_, *loop_, {}));
  int left = 3;
  std::string streamed;
  std::function<void()> send_next = [&] {
    transport_->stream(
        get(server.url()),
        [&](const HttpResponse&, std::string_view bytes) {
          streamed += bytes;
          return true;
        },
        [&](const HttpOutcome& outcome) {
          EXPECT_TRUE(outcome.status.is_ok()) << outcome.status.to_string();
          --left > 0 ? send_next() : loop_->stop();
        });
  };
  send_next();
  loop_->run();
  EXPECT_EQ("bodybodybody", streamed);
  EXPECT_EQ(1, server.connections());
}

}  // namespace
}  // namespace stepwell
