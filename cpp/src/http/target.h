// Target: where a request goes, read from its URL. The checks that keep a request from meaning more than it says.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <string>
#include <string_view>

#include "stepwell/http.h"
#include "stepwell/status.h"

namespace stepwell::detail {

struct UrlDelete {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using UrlHandle = std::unique_ptr<CURLU, UrlDelete>;

struct Target {
  UrlHandle url;
  std::string scheme;  // lower case
  std::string host;    // lower case; IPv6 addresses in brackets
  std::string port;

  // "host:port": what error texts name. The path and query may hold secrets.
  [[nodiscard]] std::string place() const { return host + ":" + port; }
};

// kInvalid (kHttpUrl) for what is not an http or https URL, holds control characters, or a user name or password.
Result<Target> parse_target(const std::string& url);
// A proxy's URL: http, https or socks5h; user names are allowed.
Result<Target> parse_proxy(const std::string& url);

// kInvalid (kHttpUrl) when the method or a header could break out of its line, or frames the body, which the transport
// does.
Status check_request(const HttpRequest& request);

// Whether `host` is an address already, so that there is no name to resolve.
bool is_numeric_host(const std::string& host);

// Whether `no_proxy` names `host`: "*", an address, or a domain with all that is below it.
bool matches_no_proxy(std::string_view no_proxy, std::string_view host);

bool equals_ignoring_case(std::string_view a, std::string_view b);

}  // namespace stepwell::detail
