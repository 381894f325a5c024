// CurlTransport: the HTTP transport of a process, on libcurl's multi interface. One thread, thousands of requests in
// flight.
//
// Connections are kept open and used again; HTTP/2 is spoken over TLS where the server offers it. Redirects are not
// followed, cookies are not kept, the environment is not read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "stepwell/egress.h"
#include "stepwell/http.h"
#include "stepwell/loop.h"
#include "stepwell/status.h"

namespace stepwell {

struct CurlOptions {
  std::string ca_bundle;  // PEM file; empty: the first of the places where Linux systems keep theirs
  std::string proxy;      // http://, https:// or socks5h://, with user:password@ if need be; empty: none
  std::string no_proxy;   // hosts that are reached directly, by commas: names with their subdomains, addresses, or *
  int32_t connections_per_host_max = 8192;  // further requests wait; the descriptor limit of the process bounds it too
  int32_t connections_per_shard = 64;       // curl searches its pool linearly, so each multi handle gets few
  bool http2 = true;
  EgressPolicy egress = {};
};

// `loop` and `poller` must outlive the transport. Opened on any thread before the loop runs, else on the loop thread;
// destroyed on the loop thread, or on any once the loop has stopped. Requests in flight then end without an outcome,
// connections close. kInvalid: the proxy, the policy, the bundle or a number cannot be used.
Result<std::unique_ptr<HttpTransport>> open_curl_transport(Loop& loop, Poller& poller, CurlOptions options);

}  // namespace stepwell
