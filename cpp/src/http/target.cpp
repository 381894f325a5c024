#include "http/target.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <utility>

namespace stepwell::detail {

namespace {

Status refuse(std::string why) { return {StatusKind::kInvalid, code::kHttpUrl, std::move(why)}; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

void make_lower(std::string& text) { std::transform(text.begin(), text.end(), text.begin(), lower); }

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

// RFC 9110, 5.6.2: what methods and header names are made of.
bool is_token(std::string_view text) {
  static constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || kMarks.find(c) != std::string_view::npos;
  });
}

// The part, or an empty text when the URL has none.
std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  std::string copy(text);
  curl_free(text);
  return copy;
}

bool has_part(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  const CURLUcode found = curl_url_get(url, part, &text, 0);
  curl_free(text);
  return found == CURLUE_OK;
}

Result<Target> parse(const std::string& text, unsigned flags, const char* what) {
  if (std::any_of(text.begin(), text.end(), is_control)) {
    return refuse(std::string(what) + " holds a control character; encode it as %XX");
  }
  Target target;
  target.url.reset(curl_url());
  if (!target.url) return Status(StatusKind::kIo, code::kInternal, "out of memory");
  const CURLUcode error = curl_url_set(target.url.get(), CURLUPART_URL, text.c_str(), flags);
  if (error != CURLUE_OK) return refuse(std::string(what) + " cannot be read: " + curl_url_strerror(error));
  target.scheme = part_of(target.url.get(), CURLUPART_SCHEME);
  target.host = part_of(target.url.get(), CURLUPART_HOST);
  target.port = part_of(target.url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  make_lower(target.scheme);
  make_lower(target.host);
  if (target.host.empty()) return refuse(std::string(what) + " has no host");
  if (std::any_of(target.host.begin(), target.host.end(),
                  [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    return refuse(std::string(what) + " has a host that is not ASCII; write it as punycode (xn--...)");
  }
  return target;
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

Result<Target> parse_target(const std::string& url) {
  auto target = parse(url, 0, "the URL");
  if (!target) return target;
  if (target->scheme != "http" && target->scheme != "https") {
    return refuse("the URL must begin with http:// or https://; its scheme is " + target->scheme);
  }
  CURLU* parsed = target->url.get();
  if (has_part(parsed, CURLUPART_USER) || has_part(parsed, CURLUPART_PASSWORD) || has_part(parsed, CURLUPART_OPTIONS)) {
    return refuse("the URL of host " + target->host + " holds a user name; send an authorization header");
  }
  return target;
}

Result<Target> parse_proxy(const std::string& url) {
  auto target = parse(url, CURLU_DEFAULT_SCHEME | CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME, "the proxy's URL");
  if (!target) return target;
  const bool is_http = target->scheme == "http" || target->scheme == "https";
  if (!is_http && target->scheme != "socks5h") {
    return refuse("the proxy's URL must begin with http://, https:// or socks5h://; its scheme is " + target->scheme);
  }
  char* port = nullptr;
  if (curl_url_get(target->url.get(), CURLUPART_PORT, &port, 0) != CURLUE_OK) {
    target->port = target->scheme == "https" ? "443" : "1080";  // curl's defaults for proxies
  }
  curl_free(port);
  return target;
}

Status check_request(const HttpRequest& request) {
  if (!is_token(request.method)) return refuse("the method is empty or holds a character that methods cannot have");
  for (const auto& [name, value] : request.headers) {
    if (!is_token(name)) return refuse("a header's name is empty or holds a character that names cannot have");
    const bool is_broken =
        std::any_of(value.begin(), value.end(), [](char c) { return c == '\0' || c == '\r' || c == '\n'; });
    if (is_broken) return refuse("the value of header " + name + " holds a line end or a NUL");
    if (equals_ignoring_case(name, "transfer-encoding"))
      return refuse("header transfer-encoding is set by the transport");
  }
  return Status::ok();
}

bool is_numeric_host(const std::string& host) {
  if (!host.empty() && host.front() == '[') return true;
  in_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1;
}

bool matches_no_proxy(std::string_view no_proxy, std::string_view host) {
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  while (!no_proxy.empty()) {
    const size_t end = std::min(no_proxy.find_first_of(", \t"), no_proxy.size());
    std::string_view name = no_proxy.substr(0, end);
    no_proxy.remove_prefix(std::min(end + 1, no_proxy.size()));
    if (name == "*") return true;
    if (!name.empty() && name.front() == '.') name.remove_prefix(1);
    if (name.size() > 2 && name.front() == '[') name = name.substr(1, name.size() - 2);
    if (name.empty() || name.size() > host.size()) continue;
    const bool is_suffix = equals_ignoring_case(host.substr(host.size() - name.size()), name);
    if (is_suffix && (name.size() == host.size() || host[host.size() - name.size() - 1] == '.')) return true;
  }
  return false;
}

}  // namespace stepwell::detail
