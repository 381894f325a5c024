// CurlCall: one request on its way through curl. Fills an easy handle, takes in what curl reads, and names curl's
// errors. Loop thread only.
#pragma once

#include <curl/curl.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "http/pinned_name.h"
#include "stepwell/http.h"
#include "stepwell/loop.h"

namespace stepwell::detail {

struct CurlHost;
struct ParsedUrl;
struct CurlCall;

class CallListener {
 public:
  // The first line of an answer: which protocol the host speaks. Inside curl: must not call it.
  virtual void protocol_seen(CurlCall& call, bool is_http2) = 0;
  // curl wants to connect to `address`. CURL_SOCKET_BAD if it must not.
  virtual curl_socket_t open_socket(CurlCall& call, const curl_sockaddr& address) = 0;
  // A connection stands and curl is about to write the request on it.
  virtual void connection_made(CurlCall& call) = 0;

 protected:
  ~CallListener() = default;
};

// Where the body of an answer goes: known when its first bytes arrive.
enum class BodyWay : uint8_t { kUnknown, kKept, kStreamed };

enum class TooLarge : uint8_t { kNo, kHeaders, kBody, kUnpacked };

struct CurlCall {
  CallId id = 0;  // 0: a free slot
  uint32_t slot = 0;
  uint32_t generation = 0;
  HttpRequest request;
  HttpDone done;
  HttpBody body;  // for an event stream, if the caller takes one
  HttpResponse response;
  std::shared_ptr<const ParsedUrl> url;
  CurlHost* host = nullptr;
  CallListener* listener = nullptr;
  TimerId deadline = 0;
  int64_t sent_at_ns = 0;
  int64_t header_bytes = 0;
  int64_t body_bytes = 0;        // unpacked
  int32_t unpack_ratio_max = 0;  // see EgressPolicy
  int64_t window_at_ms = -1;     // when the last look was taken whether the answer stalls; -1: not yet
  int64_t window_bytes = 0;      // what had come by then

  // While curl has it.
  CURL* easy = nullptr;
  uint32_t pool = 0;                      // of its host
  std::shared_ptr<const AddressPin> pin;  // what this handle was told, if anything
  bool may_be_sent = false;
  bool is_resend_refused = false;
  bool is_unwanted = false;  // the rest of the stream
  BodyWay body_way = BodyWay::kUnknown;
  bool has_two_lengths = false;
  TooLarge too_large = TooLarge::kNo;
  Status refused;  // by the egress guard, when curl was about to connect

  // What curl points into; kept from call to call for its capacity.
  std::string header_text;
  std::vector<curl_slist> header_nodes;
  std::array<char, CURL_ERROR_SIZE> error_text{};
};

struct EasyOptions {
  std::string ca_bundle;
  bool http2 = true;
};

// An easy handle with all that is the same for every request; null without memory.
CURL* open_easy(const EasyOptions& options);

// What differs from request to request.
struct CallRoute {
  CURLU* url = nullptr;
  std::string proxy;  // empty: none
  bool waits_for_multiplexing = false;
};
void fill_easy(CurlCall& call, const CallRoute& route);

// What curl's `result` means for `call`; ok when the response is whole. `place` is "host:port".
Status status_of(const CurlCall& call, CURLcode result, const std::string& place);

}  // namespace stepwell::detail
