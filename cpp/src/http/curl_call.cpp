#include "http/curl_call.h"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <utility>

#include "http/target.h"

namespace stepwell::detail {

namespace {

// curl allocates the receive buffer per transfer, so it is what thousands of calls in flight cost. Small answers fit;
// large ones arrive in more reads.
constexpr long kReceiveBytes = 8 << 10;
constexpr long kSendBytes = 16 << 10;    // curl's least
constexpr long kPinnedSecondsMax = 300;  // longer than any pin is relied on

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string_view trim(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// RFC 9110, 9.2.2. Only these may be written a second time when a kept connection turns out to be dead.
bool is_idempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" || method == "OPTIONS" ||
         method == "TRACE";
}

bool is_streamed(CurlCall& call) {
  if (call.body_way == BodyWay::kUnknown) {
    long status = 0;
    curl_easy_getinfo(call.easy, CURLINFO_RESPONSE_CODE, &status);
    call.response.status = static_cast<int32_t>(status);
    call.body_way = call.body && is_event_stream(call.response) ? BodyWay::kStreamed : BodyWay::kKept;
  }
  return call.body_way == BodyWay::kStreamed;
}

// Whether what has been unpacked so far is within the limits. What was received may be counted one read late.
bool is_body_bearable(CurlCall& call) {
  if (call.body_bytes > call.request.body_bytes_max) {
    call.too_large = TooLarge::kBody;
  } else if (call.body_bytes > kReceiveBytes * call.unpack_ratio_max) {
    curl_off_t received = 0;
    curl_easy_getinfo(call.easy, CURLINFO_SIZE_DOWNLOAD_T, &received);
    if (call.body_bytes > (received + kReceiveBytes) * call.unpack_ratio_max) call.too_large = TooLarge::kUnpacked;
  }
  return call.too_large == TooLarge::kNo;
}

size_t take_body(char* bytes, size_t, size_t count, void* user) {
  auto& call = *static_cast<CurlCall*>(user);
  if (is_streamed(call)) {
    call.is_unwanted = !call.body(call.response, {bytes, count});
    return call.is_unwanted ? 0 : count;
  }
  call.body_bytes += static_cast<int64_t>(count);
  if (!is_body_bearable(call)) return 0;
  call.response.body.append(bytes, count);
  return count;
}

void take_header_line(CurlCall& call, std::string_view line) {
  HttpHeaders& headers = call.response.headers;
  if (line.size() > 6 && line.substr(0, 5) == "HTTP/") {
    headers.clear();  // those of an interim answer
    call.listener->protocol_seen(call, line[5] == '2');
    return;
  }
  const bool continues = !line.empty() && (line.front() == ' ' || line.front() == '\t');
  const std::string_view text = trim(line);
  if (text.empty()) return;
  if (continues) {
    if (!headers.empty()) headers.back().second.append(" ").append(text);
    return;
  }
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return;
  std::string name(trim(text.substr(0, colon)));
  std::transform(name.begin(), name.end(), name.begin(), lower);
  const std::string_view value = trim(text.substr(colon + 1));
  if (name == "content-length") {
    // Two lengths are two answers to whoever reads the other one: what follows could be taken for the next call's.
    call.has_two_lengths = std::any_of(headers.begin(), headers.end(), [value](const auto& header) {
      return header.first == "content-length" && header.second != value;
    });
  }
  headers.emplace_back(std::move(name), value);
}

size_t take_header(char* bytes, size_t, size_t count, void* user) {
  auto& call = *static_cast<CurlCall*>(user);
  call.header_bytes += static_cast<int64_t>(count);
  if (call.header_bytes > call.request.header_bytes_max) {
    call.too_large = TooLarge::kHeaders;
    return 0;
  }
  take_header_line(call, {bytes, count});
  return call.has_two_lengths ? 0 : count;
}

curl_socket_t open_socket(void* user, curlsocktype, curl_sockaddr* address) {
  auto& call = *static_cast<CurlCall*>(user);
  return call.listener->open_socket(call, *address);
}

int on_connected(void* user, char*, char*, int, int) {
  auto& call = *static_cast<CurlCall*>(user);
  // curl writes a request again when a kept connection was closed before the first byte of an answer. The peer may have
  // worked on it all the same, so only the caller may decide that (promise 6).
  if (call.may_be_sent && !is_idempotent(call.request.method)) {
    call.is_resend_refused = true;
    return CURL_PREREQFUNC_ABORT;
  }
  call.may_be_sent = true;
  call.listener->connection_made(call);
  return CURL_PREREQFUNC_OK;
}

// The request's headers as curl's list. The nodes are ours and point into one text, which spares two allocations a
// header.
curl_slist* write_headers(CurlCall& call, bool has_body) {
  size_t bytes = 64;
  for (const auto& [name, value] : call.request.headers) bytes += name.size() + value.size() + 3;
  std::string& text = call.header_text;
  std::vector<curl_slist>& nodes = call.header_nodes;
  text.clear();
  nodes.clear();
  text.reserve(bytes);  // no reallocation below: the nodes point into it
  const auto add = [&text, &nodes](std::string_view name, std::string_view mark, std::string_view value) {
    nodes.push_back({text.data() + text.size(), nullptr});
    text.append(name).append(mark).append(value).push_back('\0');
  };
  add("Expect", ":", {});  // a name with nothing after the colon: curl leaves that header out
  bool has_type = !has_body;
  for (const auto& [name, value] : call.request.headers) {
    if (equals_ignoring_case(name, "content-length") || equals_ignoring_case(name, "expect")) continue;
    has_type = has_type || equals_ignoring_case(name, "content-type");
    // A semicolon is how curl is asked for a header without a value.
    trim(value).empty() ? add(name, ";", {}) : add(name, ": ", value);
  }
  if (!has_type) add("Content-Type", ":", {});  // curl would claim that it is a form
  for (size_t i = 0; i + 1 < nodes.size(); ++i) nodes[i].next = &nodes[i + 1];
  return nodes.data();
}

void set_method(const CurlCall& call, bool has_body) {
  const std::string& method = call.request.method;
  const char* custom = method.c_str();
  if (has_body) {
    curl_easy_setopt(call.easy, CURLOPT_POST, 1L);
    curl_easy_setopt(call.easy, CURLOPT_POSTFIELDS, call.request.body.data());
    curl_easy_setopt(call.easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(call.request.body.size()));
    if (method == "POST") custom = nullptr;
  } else if (method == "HEAD") {
    curl_easy_setopt(call.easy, CURLOPT_NOBODY, 1L);
    custom = nullptr;
  } else {
    curl_easy_setopt(call.easy, CURLOPT_HTTPGET, 1L);
    if (method == "GET") custom = nullptr;
  }
  curl_easy_setopt(call.easy, CURLOPT_CUSTOMREQUEST, custom);
}

bool is_tls_error(CURLcode result) {
  switch (result) {
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_USE_SSL_FAILED:
      return true;
    default:
      return false;
  }
}

bool is_connect_error(CURLcode result) {
  return result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST ||
         result == CURLE_COULDNT_RESOLVE_PROXY || result == CURLE_INTERFACE_FAILED || result == CURLE_PROXY;
}

}  // namespace

CURL* open_easy(const EasyOptions& options) {
  CURL* easy = curl_easy_init();
  if (easy == nullptr) return nullptr;
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, options.http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
  // Answers are small, and packed streams come in clumps: packed bodies are not asked for. Who sends one all the same
  // has it unpacked, within limits.
  curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "identity");
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "stepwell");
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBytes);
  curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, kSendBytes);
  curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, kPinnedSecondsMax);
  curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
  if (!options.ca_bundle.empty()) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, options.ca_bundle.c_str());
    curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, options.ca_bundle.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  return easy;
}

void fill_easy(CurlCall& call, const CallRoute& route) {
  CURL* easy = call.easy;
  const HttpRequest& request = call.request;
  const bool has_body =
      !request.body.empty() || request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  curl_easy_setopt(easy, CURLOPT_CURLU, route.url);
  curl_easy_setopt(easy, CURLOPT_PROXY, route.proxy.c_str());
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &call);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &call);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &call);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, &call);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &call);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call.error_text.data());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, write_headers(call, has_body));
  set_method(call, has_body);
  const int64_t connect_ms = std::clamp<int64_t>(request.connect_timeout_ms, 1, 1'000'000'000);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(connect_ms));
  curl_easy_setopt(easy, CURLOPT_RESOLVE, call.pin ? call.pin->list.get() : nullptr);
  curl_easy_setopt(easy, CURLOPT_PIPEWAIT, route.waits_for_multiplexing ? 1L : 0L);
  call.error_text[0] = '\0';
}

Status status_of(const CurlCall& call, CURLcode result, const std::string& place) {
  if (result == CURLE_OK) return Status::ok();
  const std::string at = place + ": ";
  // curl's own texts name hosts, ports and certificates, never headers or bodies.
  const std::string why = call.error_text[0] != '\0' ? call.error_text.data() : curl_easy_strerror(result);
  if (call.is_unwanted) return {StatusKind::kCancelled, code::kHttpBroken, at + "the rest of the stream is not wanted"};
  if (call.too_large == TooLarge::kBody) {
    return {StatusKind::kIo, code::kHttpTooLarge,
            at + "the answer's body is larger than " + std::to_string(call.request.body_bytes_max) + " bytes"};
  }
  if (call.too_large == TooLarge::kUnpacked) {
    return {StatusKind::kIo, code::kHttpTooLarge,
            at + "the answer's body unpacks to more than " + std::to_string(call.unpack_ratio_max) +
                " times what was sent"};
  }
  if (!call.refused.is_ok() && !call.may_be_sent) return call.refused;
  if (call.has_two_lengths) return {StatusKind::kIo, code::kHttpBroken, at + "the answer states two lengths"};
  // curl ends a header line of more than 100 KB as if it had no memory.
  if (call.too_large == TooLarge::kHeaders || (result == CURLE_OUT_OF_MEMORY && call.may_be_sent)) {
    return {StatusKind::kIo, code::kHttpTooLarge,
            at + "the answer's headers are larger than " + std::to_string(call.request.header_bytes_max) +
                " bytes, or one of them is larger than 100 KB"};
  }
  if (call.is_resend_refused) {
    return {StatusKind::kIo, code::kHttpBroken, at + "the connection was closed before an answer came"};
  }
  if (result == CURLE_OPERATION_TIMEDOUT) {
    return {StatusKind::kTimeout, code::kHttpTimeout,
            at + "no connection within " + std::to_string(call.request.connect_timeout_ms) + " ms"};
  }
  if (is_tls_error(result) && !call.may_be_sent) return {StatusKind::kIo, code::kHttpTls, at + why};
  if (!call.may_be_sent && is_connect_error(result)) {
    long error = 0;
    curl_easy_getinfo(call.easy, CURLINFO_OS_ERRNO, &error);
    const std::string reason = error != 0 ? std::generic_category().message(static_cast<int>(error)) : why;
    return {StatusKind::kIo, code::kHttpConnect, at + "no connection: " + reason};
  }
  return {StatusKind::kIo, call.may_be_sent ? code::kHttpBroken : code::kHttpConnect, at + why};
}

}  // namespace stepwell::detail
