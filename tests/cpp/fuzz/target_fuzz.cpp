// Fuzzes what users and the environment hand in for a request: URL, proxy, no_proxy, method and headers.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "http/target.h"

using namespace stepwell;          // NOLINT(google-build-using-namespace): a program of one function
using namespace stepwell::detail;  // NOLINT(google-build-using-namespace)

namespace {

bool is_plain(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  testing::FuzzInput input(bytes, count);
  const std::string no_proxy = input.text();
  HttpRequest request;
  request.method = input.text();
  request.headers.emplace_back(input.text(), input.text());
  const std::string prefix = input.byte() % 2 == 0 ? "https://" : "";
  request.url = prefix + input.rest();

  if (check_request(request).is_ok()) {
    const auto& [name, value] = request.headers[0];
    STEPWELL_CHECK(is_plain(request.method) && !request.method.empty(), "a method stays in its line");
    STEPWELL_CHECK(is_plain(name) && name.find(':') == std::string::npos, "a header's name stays a name");
    STEPWELL_CHECK(value.find_first_of(std::string("\r\n\0", 3)) == std::string::npos, "a value stays in its line");
  }
  for (auto target : {&parse_target, &parse_proxy}) {
    const auto parsed = target(request.url);
    if (!parsed) {
      STEPWELL_CHECK(parsed.error().code() == code::kHttpUrl, "a refusal says that it is the URL");
      continue;
    }
    STEPWELL_CHECK(!parsed->host.empty() && is_plain(parsed->host), "a host is printable ASCII");
    STEPWELL_CHECK(parsed->host.find_first_of("/?#@\\") == std::string::npos, "a host holds no other part");
    STEPWELL_CHECK(std::all_of(parsed->port.begin(), parsed->port.end(), [](char c) { return c >= '0' && c <= '9'; }),
                   "a port is a number");
    (void)is_numeric_host(parsed->host);
    (void)matches_no_proxy(no_proxy, parsed->host);
  }
  return 0;
}
