// The egress guard's decisions: what an address is, and which destinations a policy lets through.
#include "http/egress.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace stepwell::detail {
namespace {

TEST(Address, KnowsWhatIsNotPublic) {
  for (const char* text : {"0.0.0.0",
                           "0.1.2.3",
                           "10.0.0.1",
                           "10.255.255.255",
                           "100.64.0.1",
                           "100.127.255.255",
                           "127.0.0.1",
                           "127.9.9.9",
                           "169.254.0.1",
                           "169.254.169.254",
                           "172.16.0.1",
                           "172.31.255.255",
                           "192.0.0.1",
                           "192.0.2.1",
                           "192.88.99.1",
                           "192.168.0.1",
                           "198.18.0.1",
                           "198.19.255.255",
                           "198.51.100.7",
                           "203.0.113.7",
                           "224.0.0.1",
                           "239.1.1.1",
                           "240.0.0.1",
                           "255.255.255.255",
                           "::",
                           "::1",
                           "::8.8.8.8",
                           "::ffff:8.8.8.8",
                           "::ffff:127.0.0.1",
                           "64:ff9b::8.8.8.8",
                           "64:ff9b:1::1",
                           "100::1",
                           "2001::1",
                           "2001:2::1",
                           "2001:1ff::1",
                           "2001:db8::1",
                           "2002:808:808::1",
                           "3fff::1",
                           "fc00::1",
                           "fd00:ec2::254",
                           "fdff::1",
                           "fe80::1",
                           "febf::1",
                           "fec0::1",
                           "ff02::1",
                           "4000::1",
                           "5f00::1",
                           "8000::1",
                           "1::1"}) {
    EXPECT_NE("", *special_range(text)) << text;
  }
  for (const char* text :
       {"1.1.1.1",         "8.8.8.8",         "9.255.255.255",   "11.0.0.0",       "100.63.255.255", "100.128.0.0",
        "126.255.255.255", "128.0.0.0",       "169.253.255.255", "169.255.0.0",    "172.15.255.255", "172.32.0.0",
        "192.0.1.0",       "192.167.255.255", "192.169.0.0",     "198.17.255.255", "198.20.0.0",     "223.255.255.255",
        "2000::1",         "2001:200::1",     "2001:4860::8888", "2003::1",        "2606:4700::1",   "3ffe::1"}) {
    EXPECT_EQ("", *special_range(text)) << text;
  }
  EXPECT_EQ("a cloud's metadata service", *special_range("168.63.129.16")) << "registered as public";
}

TEST(Address, ReadsOnlyWhatIsAnAddressOrABlock) {
  for (const char* text : {"", "1.2.3", "1.2.3.4.5", "0x7f.0.0.1", "127.1", "2130706433", "1.2.3.256", "::1%lo", "[::1",
                           "fe80::1%25eth0", "localhost", " 1.2.3.4", "1.2.3.4 "}) {
    EXPECT_FALSE(parse_address(text)) << text;
    EXPECT_FALSE(special_range(text)) << text;
  }
  EXPECT_TRUE(parse_address("[2001:DB8::1]"));
  for (const char* text : {"10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/a", "10.0.0.0/-1", "10.0.0.0/0008",
                           "::/129", "fd00::1/8", "/8", "x/8"}) {
    EXPECT_FALSE(parse_block(text)) << text;
  }
  EXPECT_TRUE(parse_block("0.0.0.0/0")->holds(*parse_address("255.1.2.3")));
  EXPECT_FALSE(parse_block("0.0.0.0/0")->holds(*parse_address("::1")));
  EXPECT_TRUE(parse_block("172.16.0.0/12")->holds(*parse_address("172.31.0.1")));
  EXPECT_TRUE(parse_block("10.1.2.3")->is_single());
}

// What becomes of a URL whose host, if it is a name, resolves to `address`.
ErrorCode code_of(const EgressPolicy& policy, const std::string& url, const std::string& address = "8.8.8.8") {
  EXPECT_TRUE(check_policy(policy).is_ok());
  const EgressGuard guard(policy);
  const auto target = parse_target(url);
  EXPECT_TRUE(target) << url;
  const Destination destination = guard.destination_of(*target);
  Status status = guard.judge(*target, destination);
  if (status.is_ok() && !parse_address(destination.host)) status = guard.judge(destination, *parse_address(address));
  if (!status.is_ok()) {
    EXPECT_EQ(StatusKind::kInvalid, status.kind());
    EXPECT_EQ(0U, status.message().find(destination.place)) << status.message();
  }
  return status.code();
}

constexpr ErrorCode kOpen = 0;

TEST(Egress, TheDefaultIsHttpsToThePublicAndThisMachineByItsName) {
  const EgressPolicy policy;
  EXPECT_EQ(kOpen, code_of(policy, "https://api.example/v1"));
  EXPECT_EQ(kOpen, code_of(policy, "https://8.8.8.8/"));
  EXPECT_EQ(kOpen, code_of(policy, "https://[2606:4700::1]/"));
  EXPECT_EQ(code::kEgressScheme, code_of(policy, "http://api.example/v1"));
  EXPECT_EQ(code::kEgressScheme, code_of(policy, "http://10.0.0.1/"));
  for (const char* url : {"http://127.0.0.1:8000/", "http://127.9.9.9/", "http://[::1]:80/", "https://127.0.0.1/",
                          "http://2130706433/", "http://0x7f.1/"}) {  // curl reads the last two as 127.0.0.1
    EXPECT_EQ(kOpen, code_of(policy, url)) << url;
  }
  for (const char* url : {"http://localhost/", "http://LOCALHOST.:80/", "http://a.localhost/"}) {
    EXPECT_EQ(kOpen, code_of(policy, url, "127.0.0.1")) << url;
    EXPECT_EQ(kOpen, code_of(policy, url, "::1")) << url;
    EXPECT_EQ(code::kEgressAddress, code_of(policy, url, "8.8.8.8")) << "it does not stand for this machine: " << url;
    EXPECT_EQ(code::kEgressAddress, code_of(policy, url, "10.0.0.1")) << url;
  }
  for (const char* url : {"https://10.0.0.1/", "https://169.254.169.254/", "https://0.0.0.0/", "https://[::]/",
                          "https://[::ffff:127.0.0.1]/", "https://[::ffff:8.8.8.8]/", "https://[fd00:ec2::254]/",
                          "https://[64:ff9b::a00:1]/", "https://[2002:7f00:1::]/", "https://168.63.129.16/"}) {
    EXPECT_EQ(code::kEgressAddress, code_of(policy, url)) << url;
  }
  for (const char* address : {"127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "fd00::1", "::ffff:10.0.0.1"}) {
    EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://api.example/", address)) << "rebinding to " << address;
  }
}

TEST(Egress, AllowOpensBlocksAndNames) {
  EgressPolicy policy;
  policy.allow = {"10.0.0.0/8", "vLLM.internal", "*.corp.example", "fd00:1::/32"};
  EXPECT_EQ(kOpen, code_of(policy, "https://10.2.3.4/"));
  EXPECT_EQ(kOpen, code_of(policy, "https://x.example/", "10.2.3.4"));
  EXPECT_EQ(kOpen, code_of(policy, "https://x.example/", "fd00:1::7"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://x.example/", "192.168.0.1"));
  EXPECT_EQ(kOpen, code_of(policy, "https://VLLM.internal./", "192.168.0.1"));
  EXPECT_EQ(code::kEgressScheme, code_of(policy, "http://vllm.internal/", "192.168.0.1"));
  EXPECT_EQ(kOpen, code_of(policy, "https://a.b.corp.example/", "127.0.0.1"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://corp.example/", "127.0.0.1")) << "below, not itself";
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://evilcorp.example/", "127.0.0.1"));
  policy.plain_http = true;
  EXPECT_EQ(kOpen, code_of(policy, "http://vllm.internal:8000/", "192.168.0.1"));
  EXPECT_EQ(kOpen, code_of(policy, "http://api.example/"));
}

TEST(Egress, OnlyItsOwnAddressOpensAMetadataService) {
  EgressPolicy policy;
  policy.allow = {"0.0.0.0/0", "::/0", "metadata.google.internal"};
  policy.plain_http = true;
  EXPECT_EQ(kOpen, code_of(policy, "http://192.168.1.1/"));
  for (const char* url :
       {"http://169.254.169.254/latest", "http://[fd00:ec2::254]/", "http://100.100.100.200/",
        "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/", "http://168.63.129.16/"}) {
    EXPECT_EQ(code::kEgressAddress, code_of(policy, url)) << url;
  }
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "http://metadata.google.internal/", "169.254.169.254"));
  policy.allow = {"169.254.169.254"};
  EXPECT_EQ(kOpen, code_of(policy, "http://169.254.169.254/latest"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "http://169.254.170.2/"));
}

TEST(Egress, AnOpenTunnelDoesNotOpenWhatItLeadsTo) {
  EgressPolicy policy;
  policy.allow = {"64:ff9b::/96"};
  EXPECT_EQ(kOpen, code_of(policy, "https://[64:ff9b::808:808]/"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://[64:ff9b::a00:1]/"));
  policy.allow.emplace_back("10.0.0.0/8");
  EXPECT_EQ(kOpen, code_of(policy, "https://[64:ff9b::a00:1]/"));
  policy.allow = {"2001::/32"};  // Teredo holds the address with its bits turned around
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://[2001:0:1:1:0:0:f5ff:fffe]/")) << "10.0.0.1";
  EXPECT_EQ(kOpen, code_of(policy, "https://[2001:0:1:1:0:0:f7f7:f7f7]/")) << "8.8.8.8";
}

TEST(Egress, DenyAndHostsCloseWhatIsOpen) {
  EgressPolicy policy;
  policy.allow = {"10.0.0.0/8", "api.example"};
  policy.deny = {"10.1.0.0/16", "127.0.0.0/8", "::1", "*.bad.example", "8.8.4.4"};
  EXPECT_EQ(kOpen, code_of(policy, "https://10.2.0.1/"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://10.1.0.1/"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "http://localhost/", "::1"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "http://127.0.0.1/"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://x.bad.example/"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://api.example/", "8.8.4.4"));
  policy = {};
  policy.hosts = {"api.example", "9.9.9.0/24"};
  EXPECT_EQ(kOpen, code_of(policy, "https://api.example/"));
  EXPECT_EQ(kOpen, code_of(policy, "https://9.9.9.9/"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://other.example/"));
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "http://127.0.0.1/")) << "this machine too, when it is not listed";
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://api.example/", "10.0.0.1"))
      << "a listed name may be rebound";
  policy.hosts.emplace();
  EXPECT_EQ(code::kEgressAddress, code_of(policy, "https://api.example/"));
}

TEST(Egress, AProxyMayStandAnywhereButWhereItIsDenied) {
  EgressPolicy policy;
  policy.deny = {"10.0.0.0/8"};
  const EgressGuard guard(policy);
  const Destination proxy = EgressGuard::proxy_at(*parse_proxy("http://user:word@proxy.corp:3128"));
  EXPECT_TRUE(guard.judge(proxy, *parse_address("192.168.0.1")).is_ok());
  EXPECT_EQ(code::kEgressAddress, guard.judge(proxy, *parse_address("169.254.169.254")).code());
  const Status denied = guard.judge(proxy, *parse_address("10.0.0.1"));
  EXPECT_EQ(code::kEgressAddress, denied.code());
  EXPECT_EQ(std::string::npos, denied.message().find("word")) << denied.message();
}

TEST(Egress, ARefusalNamesAddressRangeAndFix) {
  const EgressGuard guard{EgressPolicy{}};
  const auto target = parse_target("https://vllm.internal:8000/v1?key=secret");
  const Status status = guard.judge(guard.destination_of(*target), *parse_address("10.0.0.5"));
  EXPECT_EQ(
      "vllm.internal:8000: it resolves to 10.0.0.5, which is a private network (10.0.0.0/8) and not the public "
      "internet; if you trust it, allow it with egress=sw.Egress(allow=[\"vllm.internal\"])",
      status.message());
}

TEST(Egress, APolicyThatMakesNoSenseIsRefused) {
  for (const char* entry :
       {"", "10.0.0.1/8", "10.0.0.256", "http://x", "a b", "*", "*.", "a..b", ".a", "x:80", "[::1"}) {
    for (auto list : {&EgressPolicy::allow, &EgressPolicy::deny}) {
      EgressPolicy policy;
      (policy.*list) = {"10.0.0.0/8", entry};
      EXPECT_EQ(code::kEgressPolicy, check_policy(policy).code()) << entry;
    }
  }
  EgressPolicy policy;
  policy.hosts = {"a/b"};
  EXPECT_EQ(code::kEgressPolicy, check_policy(policy).code());
  policy = {};
  policy.unpack_ratio_max = 0;
  EXPECT_EQ(code::kEgressPolicy, check_policy(policy).code());
}

}  // namespace
}  // namespace stepwell::detail
