// Where a request goes: which hosts are spared the proxy.
#include "http/target.h"

#include <gtest/gtest.h>

namespace stepwell {
namespace {

TEST(NoProxy, MatchesHostsDomainsAndAddresses) {
  using detail::matches_no_proxy;
  EXPECT_TRUE(matches_no_proxy("a.example, .b.example,10.0.0.1 [::1]", "a.example"));
  EXPECT_TRUE(matches_no_proxy("a.example, .b.example", "x.B.example"));
  EXPECT_TRUE(matches_no_proxy("a.example, .b.example", "b.example"));
  EXPECT_TRUE(matches_no_proxy("::1", "[::1]"));
  EXPECT_TRUE(matches_no_proxy("*", "anything"));
  EXPECT_FALSE(matches_no_proxy("a.example", "ba.example"));
  EXPECT_FALSE(matches_no_proxy("a.example", "example"));
  EXPECT_FALSE(matches_no_proxy("", "example"));
}

}  // namespace
}  // namespace stepwell
