// CurlTransport among peers that mean harm: addresses that it must not connect to, answers that swell, stall or say two
// things. Real sockets on the loopback.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "unit/curl_transport_fixture.h"

namespace stepwell {
namespace {

using Server = testing::LoopbackServer;
using testing::echo;
using testing::once;
using testing::Peer;

// A megabyte of zeros, packed to a thousandth by gzip: ten bytes of head, one deflate block, crc and length.
std::string bomb() {
  std::string packed("\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", 10);
  // One block with fixed codes: a literal 0 (code 00110000), then copies of 258 bytes from one byte back (code
  // 11000101, distance code 00000), then the end (0000000). Deflate writes codes with their first bit first.
  std::string bits =
      "110"
      "00110000";  // last block (1), fixed codes (01, low bit first)
  constexpr int kCopies = 1 << 14;
  for (int i = 0; i < kCopies; ++i) bits += "1100010100000";
  bits += "0000000";
  while (bits.size() % 8 != 0) bits += '0';
  for (size_t i = 0; i < bits.size(); i += 8) {
    int byte = 0;
    for (size_t bit = 0; bit < 8; ++bit) byte |= (bits[i + bit] - '0') << bit;
    packed += static_cast<char>(byte);
  }
  return packed;  // no crc: nobody should get so far
}

std::string gzip_answer(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         body;
}

class CurlTransportGuardTest : public CurlTransportTest {};

TEST_F(CurlTransportGuardTest, RefusesWithoutASocketOrALookUp) {
  const Server server(echo());
  open();
  for (const std::string& url :
       {std::string("http://api.example/"), std::string("https://10.0.0.1/"),
        std::string("https://[::ffff:127.0.0.1]/"), std::string("http://169.254.169.254/latest/meta-data/"),
        "https://0.0.0.0:" + server.port() + "/"}) {
    send(post(url));
    send(post(url));  // the second time it is known
  }
  loop_->run();
  for (const HttpOutcome& outcome : outcomes_) {
    EXPECT_EQ(StatusKind::kInvalid, outcome.status.kind()) << outcome.status.to_string();
    EXPECT_FALSE(outcome.maybe_sent);
  }
  EXPECT_EQ(code::kEgressScheme, outcomes_[0].status.code());
  EXPECT_EQ(code::kEgressAddress, outcomes_[2].status.code());
  EXPECT_EQ(0, server.connections());
  EXPECT_TRUE(names_->resolves.empty());
}

TEST_F(CurlTransportGuardTest, ANameIsJudgedByAllItsAddresses) {
  const Server server(echo());
  CurlOptions options;
  options.egress.plain_http = true;
  open(options);
  names_->addresses["inner.example"] = {"127.0.0.1"};
  names_->addresses["mixed.example"] = {"203.0.114.1", "127.0.0.1"};
  names_->addresses["odd.example"] = {"127.1"};
  for (const char* host : {"inner.example", "mixed.example", "odd.example"}) {
    send(post("http://" + std::string(host) + ":" + server.port() + "/"));
  }
  loop_->run();
  for (const HttpOutcome& outcome : outcomes_) expect_error(outcome, code::kEgressAddress, false);
  EXPECT_EQ(0, server.connections());
}

// The name is good at first and private when it is asked for again: calls that come then are refused.
TEST_F(CurlTransportGuardTest, ARefusedNameStaysRefusedUntilItResolvesToSomethingElse) {
  const Server server(echo());
  CurlOptions options;
  options.egress.plain_http = true;
  options.egress.allow = {"127.0.0.0/8"};
  open(options);
  const std::string url = "http://turning.example:" + server.port() + "/";
  names_->addresses["turning.example"] = {"10.0.0.1"};
  send(post(url));
  idle_ = [&] {
    send(post(url));
    idle_ = [&] {
      names_->addresses["turning.example"] = {"127.0.0.1"};
      send(post(url));
    };
  };
  loop_->run();
  expect_error(outcomes_[0], code::kEgressAddress, false);
  expect_error(outcomes_[1], code::kEgressAddress, false);
  EXPECT_TRUE(outcomes_[2].status.is_ok()) << outcomes_[2].status.to_string();
  EXPECT_EQ(3, names_->resolves["turning.example"]);
}

// An address that reaches curl unjudged, here as the proxy's own, is judged where its socket is opened.
TEST_F(CurlTransportGuardTest, TheSocketIsJudgedToo) {
  const Server proxy(echo());
  CurlOptions options;
  options.proxy = proxy.url("");
  options.egress.deny = {"127.0.0.0/8"};
  open(options);
  const HttpOutcome& outcome = run_one(post("https://api.example/"));
  expect_error(outcome, code::kEgressAddress, false);
  EXPECT_EQ(0, proxy.connections());
  EXPECT_EQ(0, names_->resolves["api.example"]);
}

TEST_F(CurlTransportGuardTest, AProxyDoesNotOpenWhatIsClosed) {
  const Server proxy(echo());
  CurlOptions options;
  options.proxy = "http://proxy.example:" + proxy.port();
  options.egress.plain_http = true;
  open(options);
  names_->addresses["proxy.example"] = {"127.0.0.1"};  // where the operator put it
  send(post("http://10.0.0.1/"));
  send(post("http://169.254.169.254/"));
  send(post("http://api.example/x"));
  loop_->run();
  expect_error(outcomes_[0], code::kEgressAddress, false);
  expect_error(outcomes_[1], code::kEgressAddress, false);
  EXPECT_TRUE(outcomes_[2].status.is_ok()) << outcomes_[2].status.to_string();
}

TEST_F(CurlTransportGuardTest, AnAnswerThatSwellsIsCut) {
  const std::string packed = bomb();
  ASSERT_LT(packed.size(), 30'000U);
  const Server plain(once(gzip_answer(packed)));
  const Server chunked([&packed](Peer& peer) {
    peer.read_request();
    peer.write("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0; at < packed.size(); at += 1'000) {
      const std::string part = packed.substr(at, 1'000);
      char length[20];
      std::snprintf(length, sizeof length, "%zx\r\n", part.size());
      peer.write(length + part + "\r\n");
    }
    peer.wait_hang_up();
  });
  open();
  send(post(plain.url()));
  send(post(chunked.url()));
  HttpRequest small = post(plain.url());
  small.body_bytes_max = 1'000;
  send(std::move(small));
  loop_->run();
  for (const HttpOutcome& outcome : outcomes_) expect_error(outcome, code::kHttpTooLarge, true);
  EXPECT_NE(std::string::npos, outcomes_[0].status.message().find("100 times")) << outcomes_[0].status.message();
  EXPECT_NE(std::string::npos, outcomes_[2].status.message().find("1000 bytes")) << outcomes_[2].status.message();
}

TEST_F(CurlTransportGuardTest, ThePolicyCapsWhatARequestMayAskFor) {
  const Server body(once("HTTP/1.1 200 OK\r\nContent-Length: 2001\r\n\r\n" + std::string(2001, 'x')));
  const Server head(once("HTTP/1.1 200 OK\r\nX: " + std::string(3'000, 'h') + "\r\nContent-Length: 0\r\n\r\n"));
  CurlOptions options;
  options.egress.body_bytes_max = 2'000;
  options.egress.header_bytes_max = 3'000;
  open(options);
  send(post(body.url()));
  send(post(head.url()));
  loop_->run();
  for (const HttpOutcome& outcome : outcomes_) expect_error(outcome, code::kHttpTooLarge, true);
}

TEST_F(CurlTransportGuardTest, WhatIsFetchedInBulkHasALimitOfItsOwn) {
  const auto answer = [](size_t bytes) {
    return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n" + std::string(bytes, 'x');
  };
  const Server fits(once(answer(3'000)));
  const Server large(once(answer(3'001)));
  CurlOptions options;
  options.egress.body_bytes_max = 2'000;
  options.egress.bulk_bytes_max = 3'000;
  open(options);
  for (const Server* server : {&fits, &large}) {
    HttpRequest request = post(server->url());
    request.is_bulk = true;
    send(std::move(request));
  }
  loop_->run();
  ASSERT_EQ(2u, outcomes_.size());
  EXPECT_TRUE(outcomes_[0].status.is_ok()) << outcomes_[0].status.message();
  EXPECT_EQ(3'000u, outcomes_[0].response.body.size());
  expect_error(outcomes_[1], code::kHttpTooLarge, true);
}

TEST_F(CurlTransportGuardTest, AnAnswerThatStallsIsGivenUpAndSilenceBeforeItIsNot) {
  const Server stalls([](Peer& peer) {
    peer.read_request();
    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    peer.wait_hang_up();
  });
  const Server thinks([&](Peer& peer) {
    peer.read_request();
    peer.wait_hang_up(300);  // longer than the stall time
    peer.answer("thought");
  });
  CurlOptions options;
  options.egress.stall_ms_max = 50;
  open(options);
  send(post(stalls.url()));
  send(post(thinks.url()));
  HttpRequest patient = post(stalls.url());
  patient.stall_ms_max = 0;
  patient.total_timeout_ms = 400;
  send(std::move(patient));
  loop_->run();
  expect_error(outcomes_[0], code::kHttpTimeout, true);
  EXPECT_NE(std::string::npos, outcomes_[0].status.message().find("a byte a second for 50 ms"));
  EXPECT_EQ("thought", outcomes_[1].response.body) << outcomes_[1].status.to_string();
  expect_error(outcomes_[2], code::kHttpTimeout, true);
  EXPECT_NE(std::string::npos, outcomes_[2].status.message().find("no whole answer within 400 ms"));
}

TEST_F(CurlTransportGuardTest, TwoLengthsAreNoAnswer) {
  const Server differ(once("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\nabcde"));
  const Server agree(once("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"));
  open();
  send(post(differ.url()));
  send(post(agree.url()));
  loop_->run();
  expect_error(outcomes_[0], code::kHttpBroken, true);
  EXPECT_EQ("abcde", outcomes_[1].response.body) << outcomes_[1].status.to_string();
}

// More than was announced must not become the beginning of the next call's answer.
TEST_F(CurlTransportGuardTest, WhatIsTooMuchIsNotTheNextAnswer) {
  const std::string forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
  for (const std::string& first :
       {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + forged, "HTTP/1.1 204 No Content\r\n\r\n" + forged,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + forged}) {
    SCOPED_TRACE(first);
    outcomes_.clear();
    const Server server([&first](Peer& peer) {
      for (std::string request = peer.read_request(); !request.empty(); request = peer.read_request()) {
        request.find("/first") != std::string::npos ? peer.write(first) : peer.answer("true");
      }
    });
    open();
    send(post(server.url("/first")));
    idle_ = [&] { send(post(server.url("/second"))); };
    loop_->run();
    ASSERT_EQ(2U, outcomes_.size());
    EXPECT_NE("forged", outcomes_[1].response.body);
    EXPECT_EQ("true", outcomes_[1].response.body) << outcomes_[1].status.to_string();
    transport_.reset();
  }
}

TEST(CurlTransportPolicy, ABadPolicyOpensNothing) {
  auto loop = std::move(*UvLoop::open());
  CurlOptions options;
  options.egress.allow = {"not a host"};
  const auto opened = open_curl_transport(*loop, *loop, options);
  ASSERT_FALSE(opened);
  EXPECT_EQ(code::kEgressPolicy, opened.error().code());
}

}  // namespace
}  // namespace stepwell
