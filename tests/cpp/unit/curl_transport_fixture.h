// What the tests of CurlTransport stand on: a loop, made-up names, and calls whose outcomes are kept.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "http/curl_transport.h"
#include "loop/uv_loop.h"
#include "unit/loopback_server.h"

namespace stepwell {

inline constexpr int64_t kPatienceMs = 20'000;

// The loop's poller, with made-up names and a count of what would reach the kernel.
class FakeNames final : public Poller {
 public:
  explicit FakeNames(UvLoop& loop) : loop_(loop) {}
  Status watch(int fd, unsigned events, MoveFunction<void(unsigned events)> ready) override {
    ++watches;
    watched.insert_or_assign(fd, inode_of(fd));
    return loop_.watch(fd, events, std::move(ready));
  }
  void unwatch(int fd) override {
    watched.erase(fd);
    loop_.unwatch(fd);
  }
  // Watches whose socket was closed: their number may be another's now.
  [[nodiscard]] int64_t stale_count() const {
    return std::count_if(watched.begin(), watched.end(),
                         [](const auto& each) { return inode_of(each.first) != each.second; });
  }
  void resolve(const std::string& host, MoveFunction<void(Result<std::vector<std::string>>)> done) override {
    ++resolves[host];
    loop_.after(delay_ms, [this, host, done = std::move(done)]() mutable {
      const auto found = addresses.find(host);
      if (found == addresses.end()) return done(Status(StatusKind::kIo, code::kHttpConnect, "no such host"));
      done(found->second);
    });
  }
  std::map<std::string, std::vector<std::string>> addresses;
  std::map<std::string, int> resolves;
  int64_t delay_ms = 1;
  int watches = 0;
  std::map<int, ino_t> watched;

 private:
  static ino_t inode_of(int fd) {
    struct stat found{};
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
  }
  UvLoop& loop_;
};

class CurlTransportTest : public ::testing::Test {
 protected:
  // Names that the tests make up may stand for the loopback, and http is spoken to them.
  static EgressPolicy lenient() {
    EgressPolicy policy;
    policy.allow = {"127.0.0.0/8", "::1"};
    policy.plain_http = true;
    return policy;
  }
  void open_lenient(CurlOptions options = {}) {
    options.egress = lenient();
    open(std::move(options));
  }
  void open(CurlOptions options = {}) {
    loop_ = std::move(*UvLoop::open());
    names_ = std::make_unique<FakeNames>(*loop_);
    auto opened = open_curl_transport(*loop_, *names_, std::move(options));
    ASSERT_TRUE(opened) << opened.error().to_string();
    transport_ = std::move(*opened);
    loop_->after(kPatienceMs, [this] {
      ADD_FAILURE() << "calls did not end in time";
      loop_->stop();
    });
  }
  static HttpRequest post(std::string url, std::string body = "{}") {
    HttpRequest request;
    request.url = std::move(url);
    request.body = std::move(body);
    return request;
  }
  // Sends now; the outcome is outcomes_[the returned index]. When nothing is left in flight, `idle_` runs or the loop
  // stops.
  size_t send(HttpRequest request) {
    const size_t index = outcomes_.size();
    outcomes_.emplace_back();
    ++in_flight_;
    is_sending_ = true;
    ids_.push_back(transport_->send(std::move(request), [this, index](HttpOutcome outcome) {
      EXPECT_FALSE(is_sending_) << "an outcome inside the call";
      ended_.push_back(index);
      outcomes_[index] = std::move(outcome);
      if (on_done_) on_done_(index);
      if (--in_flight_ > 0) return;
      if (idle_) return std::exchange(idle_, {})();
      loop_->stop();
    }));
    is_sending_ = false;
    return index;
  }
  void cancel(size_t index) {
    is_sending_ = true;
    transport_->cancel(ids_[index]);
    is_sending_ = false;
  }
  const HttpOutcome& run_one(HttpRequest request) {
    if (!transport_) open();
    const size_t index = send(std::move(request));
    loop_->run();
    return outcomes_[index];
  }
  void expect_error(const HttpOutcome& outcome, ErrorCode code, bool maybe_sent) const {
    EXPECT_EQ(code, outcome.status.code()) << outcome.status.to_string();
    EXPECT_EQ(maybe_sent, outcome.maybe_sent) << outcome.status.to_string();
    EXPECT_EQ(0, outcome.response.status);
  }
  void expect_all_good() const {
    for (const HttpOutcome& outcome : outcomes_) {
      EXPECT_TRUE(outcome.status.is_ok()) << outcome.status.to_string();
      EXPECT_EQ(200, outcome.response.status);
      EXPECT_TRUE(outcome.maybe_sent);
    }
  }

  std::unique_ptr<UvLoop> loop_;
  std::unique_ptr<FakeNames> names_;
  std::unique_ptr<HttpTransport> transport_;
  std::vector<CallId> ids_;
  std::vector<HttpOutcome> outcomes_;
  std::vector<size_t> ended_;  // in the order of the outcomes
  std::function<void(size_t)> on_done_;
  std::function<void()> idle_;
  size_t in_flight_ = 0;
  bool is_sending_ = false;
};

}  // namespace stepwell
