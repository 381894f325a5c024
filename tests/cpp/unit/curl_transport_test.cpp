// CurlTransport against real servers on the loopback: what it sends, what it makes of good, bad and missing answers,
// how it uses connections, and that every call ends exactly once.
#include "unit/curl_transport_fixture.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace stepwell {
namespace {

using Server = testing::LoopbackServer;
using testing::echo;
using testing::once;
using testing::Peer;

TEST_F(CurlTransportTest, SendsWhatItIsGivenAndReadsTheAnswer) {
  const Server server([](Peer& peer) {
    const std::string request = peer.read_request();
    peer.answer(request, "X-Rate: 7\r\nRetry-After:  12 \r\nX-Folded: a\r\n b\r\n");
  });
  HttpRequest request = post(server.url("/v1/chat?q=1"), R"({"a":1})");
  request.headers = {
      {"Content-Type", "application/json"}, {"X-Empty", ""}, {"Content-Length", "99999"}, {"expect", "100-continue"}};
  const HttpOutcome& outcome = run_one(std::move(request));
  ASSERT_TRUE(outcome.status.is_ok()) << outcome.status.to_string();
  EXPECT_EQ(200, outcome.response.status);
  EXPECT_GT(outcome.elapsed_us, 0);
  const std::string& sent = outcome.response.body;
  EXPECT_EQ(0U, sent.find("POST /v1/chat?q=1 HTTP/1.1\r\n")) << sent;
  for (const char* line : {"\r\nContent-Type: application/json\r\n", "\r\nX-Empty:\r\n", "\r\nContent-Length: 7\r\n",
                           "\r\n\r\n{\"a\":1}"}) {
    EXPECT_NE(std::string::npos, sent.find(line)) << line << sent;
  }
  EXPECT_EQ(std::string::npos, sent.find("xpect:"));
  EXPECT_EQ(std::string::npos, sent.find("99999"));
  const HttpHeaders& headers = outcome.response.headers;
  ASSERT_EQ(4U, headers.size());
  EXPECT_EQ(std::make_pair(std::string("x-rate"), std::string("7")), headers[0]);
  EXPECT_EQ(std::make_pair(std::string("retry-after"), std::string("12")), headers[1]);
  EXPECT_EQ(std::make_pair(std::string("x-folded"), std::string("a b")), headers[2]);
}

TEST_F(CurlTransportTest, KnowsTheMethods) {
  const Server server(echo());
  open();
  for (const char* method : {"GET", "PUT", "DELETE", "PATCH", "POST"}) {
    HttpRequest request = post(server.url(), "");
    request.method = method;
    send(std::move(request));
  }
  HttpRequest search = post(server.url(), "query");
  search.method = "GET";
  send(std::move(search));
  loop_->run();
  expect_all_good();
  EXPECT_EQ(0U, outcomes_[0].response.body.find("GET / "));
  EXPECT_EQ(std::string::npos, outcomes_[0].response.body.find("Content-Length"));
  EXPECT_NE(std::string::npos, outcomes_[1].response.body.find("Content-Length: 0"));
  EXPECT_EQ(std::string::npos, outcomes_[1].response.body.find("Content-Type")) << "curl must not claim a form";
  EXPECT_EQ(0U, outcomes_[2].response.body.find("DELETE / "));
  EXPECT_EQ(0U, outcomes_[3].response.body.find("PATCH / "));
  EXPECT_EQ(0U, outcomes_[5].response.body.find("GET / "));
  EXPECT_NE(std::string::npos, outcomes_[5].response.body.find("\r\n\r\nquery"));
}

TEST_F(CurlTransportTest, AHeadAnswerHasNoBodyAndTheNextCallHas) {
  const Server server([](Peer& peer) {
    peer.read_request();
    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    peer.read_request();
    peer.answer("hello");
  });
  open();
  HttpRequest head = post(server.url(), "");
  head.method = "HEAD";
  send(std::move(head));
  idle_ = [&] { send(post(server.url())); };
  loop_->run();
  expect_all_good();
  EXPECT_EQ("", outcomes_[0].response.body);
  EXPECT_EQ("hello", outcomes_[1].response.body);
  EXPECT_EQ(1, server.connections());
}

TEST_F(CurlTransportTest, InterimAnswersAndRedirectsAreNotFollowed) {
  const Server server(
      once("HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
           "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"));
  const HttpOutcome& outcome = run_one(post(server.url()));
  EXPECT_EQ(302, outcome.response.status) << outcome.status.to_string();
  ASSERT_EQ(2U, outcome.response.headers.size());
  EXPECT_EQ("location", outcome.response.headers[0].first);
}

TEST_F(CurlTransportTest, DecodesGzipAndChunks) {
  const std::string packed(
      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\xca\xcf\x56\xb2\x2a\x29\x2a\x4d\xd5\x51\x2a\x49\xad"
      "\x28\x51\xb2\x52\x4a\xa4\x10\x28\xd5\x02\x00\xc5\x8c\x88\x12\x55\x00\x00\x00",
      44);
  const Server server([&packed](Peer& peer) {
    const std::string request = peer.read_request();
    EXPECT_NE(std::string::npos, request.find("Accept-Encoding: identity")) << "packed answers are not asked for";
    peer.write("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
    peer.write("14\r\n" + packed.substr(0, 20) + "\r\n");
    peer.write("18\r\n" + packed.substr(20) + "\r\n0\r\n\r\n");
    peer.wait_hang_up();
  });
  const HttpOutcome& outcome = run_one(post(server.url()));
  EXPECT_TRUE(outcome.status.is_ok()) << outcome.status.to_string();
  EXPECT_EQ("{\"ok\":true,\"text\":\"" + std::string(64, 'a') + "\"}", outcome.response.body);
}

TEST_F(CurlTransportTest, LargeBodiesTravelBothWays) {
  const Server server(echo());
  const std::string body(3 << 20, 'b');
  const HttpOutcome& outcome = run_one(post(server.url(), body));
  ASSERT_TRUE(outcome.status.is_ok()) << outcome.status.to_string();
  EXPECT_GT(outcome.response.body.size(), body.size());
  EXPECT_EQ(body, outcome.response.body.substr(outcome.response.body.size() - body.size()));
}

TEST_F(CurlTransportTest, SlowBytesAreAnAnswer) {
  const Server server([](Peer& peer) {
    peer.read_request();
    for (const char byte : std::string("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")) {
      peer.write(std::string(1, byte));
      peer.wait_hang_up(2);
    }
    peer.wait_hang_up();
  });
  EXPECT_EQ("slow", run_one(post(server.url())).response.body);
}

TEST_F(CurlTransportTest, ARefusedPortWasNotSent) {
  std::string url;
  {
    const Server gone(echo());
    url = gone.url("/path?key=secret");
  }
  const HttpOutcome& outcome = run_one(post(url));
  expect_error(outcome, code::kHttpConnect, false);
  EXPECT_EQ(StatusKind::kIo, outcome.status.kind());
  EXPECT_NE(std::string::npos, outcome.status.message().find("127.0.0.1:"));
  EXPECT_EQ(std::string::npos, outcome.status.message().find("secret"));
}

TEST_F(CurlTransportTest, TimesOutWithAndWithoutAConnection) {
  const Server silent([](Peer& peer) { peer.wait_hang_up(); });
  open();
  HttpRequest request = post(silent.url());
  request.total_timeout_ms = 60;
  send(request);
  request.url = "https://127.0.0.1:" + silent.port();  // the TLS handshake gets no answer
  request.total_timeout_ms = 10'000;
  request.connect_timeout_ms = 60;
  send(request);
  request.total_timeout_ms = 60;
  request.connect_timeout_ms = 10'000;
  send(request);
  loop_->run();
  expect_error(outcomes_[0], code::kHttpTimeout, true);
  expect_error(outcomes_[1], code::kHttpTimeout, false);
  expect_error(outcomes_[2], code::kHttpTimeout, false);
  EXPECT_EQ(StatusKind::kTimeout, outcomes_[0].status.kind());
  EXPECT_GE(outcomes_[0].elapsed_us, 59'000);
}

TEST_F(CurlTransportTest, BrokenAnswersMayHaveBeenWorkedOn) {
  const std::vector<std::pair<std::string, bool>> answers = {
      {"", true},                                                                    // reset before the headers
      {"", false},                                                                   // closed before the headers
      {"HTTP/1.1 200 OK\r\nContent-Le", true},                                       // reset inside them
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true},                   // reset after them
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false},                  // shorter than it says
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", false},      // cut inside a chunk
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", false},  // not a chunk
      {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", false},
      {"220 mail.example ESMTP ready\r\n", false},  // not HTTP
  };
  open();
  std::vector<std::unique_ptr<Server>> servers;
  for (const auto& [bytes, resets] : answers) {
    servers.push_back(std::make_unique<Server>(once(bytes, resets)));
    send(post(servers.back()->url()));
  }
  loop_->run();
  for (size_t i = 0; i < answers.size(); ++i) {
    SCOPED_TRACE(answers[i].first);
    expect_error(outcomes_[i], code::kHttpBroken, true);
    EXPECT_EQ(1, servers[i]->connections());
  }
}

// The server closes a kept connection when the second request arrives: it may have been worked on.
TEST_F(CurlTransportTest, AKeptConnectionThatDiesIsTriedAgainForIdempotentMethodsOnly) {
  std::atomic<int> posts{0};
  std::atomic<int> gets{0};
  const Server server([&](Peer& peer) {
    for (const char* text : {"first", ""}) {
      const std::string request = peer.read_request();
      if (request.empty()) return;
      ++(request[0] == 'P' ? posts : gets);
      if (*text != '\0') peer.answer(text);
    }
  });
  open();
  send(post(server.url()));
  idle_ = [&] {
    send(post(server.url()));
    idle_ = [&] {
      send(post(server.url()));
      idle_ = [&] {
        HttpRequest get = post(server.url(), "");
        get.method = "GET";
        send(std::move(get));
      };
    };
  };
  loop_->run();
  EXPECT_TRUE(outcomes_[0].status.is_ok());
  expect_error(outcomes_[1], code::kHttpBroken, true);
  EXPECT_TRUE(outcomes_[2].status.is_ok()) << outcomes_[2].status.to_string();
  EXPECT_TRUE(outcomes_[3].status.is_ok()) << outcomes_[3].status.to_string();
  EXPECT_EQ(3, posts);
  EXPECT_EQ(2, gets);
}

TEST_F(CurlTransportTest, TooLargeAnswersAreRefused) {
  const Server body(once("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + std::string(1001, 'x')));
  const Server endless([](Peer& peer) {
    peer.read_request();
    peer.write("HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 2'000; ++i) peer.write("X-Header: " + std::string(100, 'h') + "\r\n");
  });
  const Server line(once("HTTP/1.1 200 OK\r\nX-Header: " + std::string(150'000, 'h') + "\r\n\r\n"));
  open();
  for (const Server* server : {&body, &endless, &line}) {
    HttpRequest request = post(server->url());
    request.body_bytes_max = 1'000;
    request.header_bytes_max = server == &line ? 1 << 20 : 64 << 10;
    send(std::move(request));
  }
  loop_->run();
  for (const HttpOutcome& outcome : outcomes_) expect_error(outcome, code::kHttpTooLarge, true);
}

TEST_F(CurlTransportTest, RefusesWhatCouldMeanMoreThanItSays) {
  open();
  using namespace std::string_literals;
  for (const std::string& url :
       {""s, "example.com"s, "ftp://example.com/"s, "file:///etc/passwd"s, "http://"s, "http://user:pass@h/"s,
        "http://user@h/"s, "http://h/\r\nX: y"s, "http://h/\0x"s, "http://h:99999/"s, "http://[::1/"s,
        "http://b\xc3\xbc"
        "cher.example/"s,
        "gopher://h/"s}) {
    send(post(url));
  }
  for (const auto& header : HttpHeaders{{"X", "a\r\nY: b"},
                                        {"X\r\nY", "b"},
                                        {"", "b"},
                                        {"X y", "b"},
                                        {"X", "a\0b"s},
                                        {"Transfer-Encoding", "chunked"}}) {
    HttpRequest request = post("http://127.0.0.1:1/");
    request.headers = {header};
    send(std::move(request));
  }
  HttpRequest method = post("http://127.0.0.1:1/");
  method.method = "GET / HTTP/1.1\r\nX:";
  send(std::move(method));
  loop_->run();
  for (const HttpOutcome& outcome : outcomes_) {
    expect_error(outcome, code::kHttpUrl, false);
    EXPECT_EQ(StatusKind::kInvalid, outcome.status.kind());
    EXPECT_EQ(std::string::npos, outcome.status.message().find("pass@"));
  }
  EXPECT_TRUE(names_->resolves.empty());
}

TEST_F(CurlTransportTest, KeepsConnectionsAndLeavesTheKernelAlone) {
  const Server server(echo());
  open();
  int left = 200;
  on_done_ = [&](size_t) {
    if (--left > 0) send(post(server.url()));
  };
  send(post(server.url()));
  loop_->run();
  expect_all_good();
  EXPECT_EQ(200U, outcomes_.size());
  EXPECT_EQ(1, server.connections());
  EXPECT_LE(names_->watches, 3) << "a request on a kept connection must not change what is watched";
}

TEST_F(CurlTransportTest, ManyAtOnceAndAgainOnTheSameConnections) {
  constexpr int kCalls = 300;
  const Server server(echo());
  open();
  for (int i = 0; i < kCalls; ++i) send(post(server.url(), std::to_string(i)));
  int first_wave = 0;
  idle_ = [&] {
    first_wave = server.connections();
    idle_ = [&] {  // a dip, then the whole wave again
      for (int i = 0; i < kCalls; ++i) send(post(server.url(), std::to_string(i)));
    };
    send(post(server.url(), "dip"));
  };
  loop_->run();
  expect_all_good();
  EXPECT_EQ(2U * kCalls + 1, outcomes_.size());
  EXPECT_LE(first_wave, kCalls);
  EXPECT_LE(server.connections(), kCalls);
  for (int i = 0; i < kCalls; ++i) {
    const std::string& body = outcomes_[static_cast<size_t>(i)].response.body;
    EXPECT_EQ("\r\n\r\n" + std::to_string(i), body.substr(body.rfind("\r\n\r\n"))) << "answers must not be swapped";
  }
}

TEST_F(CurlTransportTest, WaitsInOrderBehindTheConnectionLimit) {
  const Server server(echo());
  CurlOptions options;
  options.connections_per_host_max = 1;
  open(options);
  for (int i = 0; i < 40; ++i) send(post(server.url()));
  loop_->run();
  expect_all_good();
  EXPECT_EQ(1, server.connections());
  for (size_t i = 0; i < ended_.size(); ++i) EXPECT_EQ(i, ended_[i]) << "first come, first served";
}

TEST_F(CurlTransportTest, SpreadsOverShardsUpToTheConnectionLimit) {
  const Server server(echo());
  CurlOptions options;
  options.connections_per_host_max = 7;
  options.connections_per_shard = 2;
  open(options);
  for (int i = 0; i < 100; ++i) send(post(server.url()));
  loop_->run();
  expect_all_good();
  EXPECT_EQ(7, server.connections());
}

TEST_F(CurlTransportTest, TheTotalTimeCountsTheWaiting) {
  const Server silent([](Peer& peer) { peer.wait_hang_up(); });
  CurlOptions options;
  options.connections_per_host_max = 1;
  open(options);
  send(post(silent.url()));
  HttpRequest waiting = post(silent.url());
  waiting.total_timeout_ms = 30;
  on_done_ = [&](size_t index) {
    if (index == 1) cancel(0);
  };
  send(std::move(waiting));
  loop_->run();
  expect_error(outcomes_[1], code::kHttpTimeout, false);
  EXPECT_EQ(StatusKind::kCancelled, outcomes_[0].status.kind());
}

TEST_F(CurlTransportTest, CancelsWaitingRunningAndEndedCalls) {
  std::atomic<int> requests{0};
  const Server silent([&](Peer& peer) {
    while (!peer.read_request().empty()) {
      if (++requests == 1) peer.answer("first");
    }
  });
  CurlOptions options;
  options.connections_per_host_max = 1;
  open(options);
  for (int i = 0; i < 4; ++i) send(post(silent.url()));
  cancel(3);  // never left
  cancel(3);
  transport_->cancel(0);
  transport_->cancel(987'654'321);
  on_done_ = [&](size_t index) {
    if (index == 0) loop_->after(20, [&] { cancel(1); });  // the server has it
    if (index == 1) {
      cancel(0);  // ended
      cancel(1);  // ends right now
      cancel(2);  // takes its place, inside another's outcome
    }
  };
  loop_->run();
  EXPECT_TRUE(outcomes_[0].status.is_ok());
  for (const size_t index : {1U, 2U, 3U}) EXPECT_EQ(StatusKind::kCancelled, outcomes_[index].status.kind());
  EXPECT_TRUE(outcomes_[1].maybe_sent);
  EXPECT_FALSE(outcomes_[3].maybe_sent);
  EXPECT_EQ((std::vector<size_t>{3, 0, 1, 2}), ended_);
}

TEST_F(CurlTransportTest, EndsSilentlyWithCallsInFlight) {
  const Server silent([](Peer& peer) { peer.wait_hang_up(); });
  const auto owned = std::make_shared<int>(0);
  open_lenient();
  names_->delay_ms = 30;  // answers when the transport is gone
  for (int i = 0; i < 10; ++i) {
    transport_->send(post(i % 2 == 0 ? silent.url() : "http://slow.example:9/"),
                     [owned](const HttpOutcome&) { FAIL(); });
  }
  loop_->after(20, [&] {
    transport_->send(post("no URL"), [owned](const HttpOutcome&) { FAIL(); });
    transport_.reset();
    EXPECT_EQ(1, owned.use_count());
    loop_->after(20, [&] { loop_->stop(); });
  });
  names_->addresses["slow.example"] = {"127.0.0.1"};
  loop_->run();
}

TEST_F(CurlTransportTest, MayEndInsideAnOutcome) {
  const Server server(echo());
  open();
  int outcomes = 0;
  for (int i = 0; i < 5; ++i) {
    transport_->send(post(server.url()), [&](const HttpOutcome&) {
      ++outcomes;
      transport_.reset();
      loop_->after(5, [&] { loop_->stop(); });
    });
  }
  loop_->run();
  EXPECT_EQ(1, outcomes);
}

TEST_F(CurlTransportTest, ResolvesAHostOnceOutsideCurl) {
  const Server server(echo());
  open_lenient();
  names_->addresses["api.example"] = {"127.0.0.1"};
  for (int i = 0; i < 20; ++i) send(post("http://API.example:" + server.port() + "/"));
  loop_->run();
  expect_all_good();
  EXPECT_EQ(1, names_->resolves["api.example"]);
  EXPECT_NE(std::string::npos, outcomes_[0].response.body.find("Host: "));
}

TEST_F(CurlTransportTest, TriesAllAddressesAndReportsUnknownHosts) {
  const Server server(echo());
  open_lenient();
  names_->addresses["two.example"] = {"::1", "127.0.0.1"};
  send(post("http://two.example:" + server.port() + "/"));
  send(post("http://unknown.example/"));
  loop_->run();
  EXPECT_TRUE(outcomes_[0].status.is_ok()) << outcomes_[0].status.to_string();
  expect_error(outcomes_[1], code::kHttpConnect, false);
}

TEST_F(CurlTransportTest, ATlsFailureWasNotSent) {
  const Server plain([](Peer& peer) { peer.write("HTTP/1.1 400 Bad Request\r\n\r\n"); });
  expect_error(run_one(post("https://127.0.0.1:" + plain.port() + "/")), code::kHttpTls, false);
}

TEST_F(CurlTransportTest, UsesItsProxyAndNotTheEnvironments) {
  const Server proxy(echo());
  const Server direct(echo());
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  CurlOptions options;
  options.proxy = "http://user:word@proxy.example:" + proxy.port();
  options.no_proxy = "example.org, 127.0.0.1";
  open_lenient(options);
  names_->addresses["proxy.example"] = {"127.0.0.1"};
  send(post("http://api.example.com:81/x"));
  send(post(direct.url("/y")));
  loop_->run();
  unsetenv("http_proxy");
  expect_all_good();
  EXPECT_EQ(0U, outcomes_[0].response.body.find("POST http://api.example.com:81/x HTTP/1.1\r\n"))
      << outcomes_[0].response.body;
  EXPECT_NE(std::string::npos, outcomes_[0].response.body.find("Proxy-Authorization: Basic"));
  EXPECT_EQ(0U, outcomes_[1].response.body.find("POST /y HTTP/1.1\r\n"));
  EXPECT_EQ(0, names_->resolves["api.example.com"]) << "the proxy resolves it";
}

TEST(CurlTransportOpen, RefusesWhatCannotWork) {
  auto loop = std::move(*UvLoop::open());
  for (const CurlOptions& options : {CurlOptions{"/no/such/bundle.pem", "", ""}, CurlOptions{"", "socks4://h", ""},
                                     CurlOptions{"", "http://a b", ""}, CurlOptions{"", "", "", 0}}) {
    const auto opened = open_curl_transport(*loop, *loop, options);
    ASSERT_FALSE(opened);
    EXPECT_EQ(StatusKind::kInvalid, opened.error().kind());
  }
}

}  // namespace
}  // namespace stepwell
