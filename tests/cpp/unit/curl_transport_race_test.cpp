// Two addresses of one name that race: curl closes the loser's socket without a word, and its number comes back.
#include <gtest/gtest.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "unit/curl_transport_fixture.h"

namespace stepwell {
namespace {

using Server = testing::LoopbackServer;
using testing::echo;

// Listens on [::1] with a queue that is full: whoever connects now hears nothing.
class DeafPort {
 public:
  explicit DeafPort(const std::string& port) {
    address_.sin6_family = AF_INET6;
    address_.sin6_addr = in6addr_loopback;
    address_.sin6_port = htons(static_cast<uint16_t>(std::stoi(port)));
    fds_.push_back(::socket(AF_INET6, SOCK_STREAM, 0));
    is_open_ = ::bind(fds_[0], address(), sizeof(address_)) == 0 && ::listen(fds_[0], 0) == 0;
    for (int i = 0; is_open_ && i < 4; ++i) {
      fds_.push_back(::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
      (void)::connect(fds_.back(), address(), sizeof(address_));
    }
  }
  ~DeafPort() {
    for (const int fd : fds_) ::close(fd);
  }
  DeafPort(const DeafPort&) = delete;
  DeafPort& operator=(const DeafPort&) = delete;
  [[nodiscard]] bool is_open() const { return is_open_; }

 private:
  [[nodiscard]] const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&address_); }
  sockaddr_in6 address_{};
  std::vector<int> fds_;
  bool is_open_ = false;
};

// Its watch lived on: a later socket of that number was never watched, or libuv aborted the process.
TEST_F(CurlTransportTest, TheLoserOfARaceBetweenAddressesLeavesNoWatch) {
  const Server server(echo());
  const DeafPort deaf(server.port());
  if (!deaf.is_open()) GTEST_SKIP() << "no IPv6 loopback here";
  open_lenient();
  names_->addresses["both.example"] = {"::1", "127.0.0.1"};
  const HttpOutcome& outcome = run_one(post("http://both.example:" + server.port() + "/"));
  EXPECT_TRUE(outcome.status.is_ok()) << outcome.status.to_string();
  EXPECT_EQ(0, names_->stale_count());
}

TEST_F(CurlTransportTest, AConnectionThatIsRefusedLeavesNoWatch) {
  const Server server(echo());
  open_lenient();
  names_->addresses["both.example"] = {"::1", "127.0.0.1"};  // nobody listens at the first
  EXPECT_TRUE(run_one(post("http://both.example:" + server.port() + "/")).status.is_ok());
  EXPECT_EQ(0, names_->stale_count());
}

}  // namespace
}  // namespace stepwell
