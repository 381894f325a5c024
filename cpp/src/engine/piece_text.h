// PieceText: the pieces of a stream's text, made whole. Each arrives as a JSON string's raw contents; a character may
// be cut between two of them, as bytes or as an escaped surrogate pair. What is no Unicode becomes U+FFFD.
//
// Pure; not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace stepwell::detail {

class PieceText {
 public:
  // Adds a piece to `text`: whole characters only, the rest waits for the next piece. False, and nothing is added, for
  // an escape that JSON does not know.
  bool add(std::string_view raw, bool has_escapes, std::string& text);
  // The stream has ended: what waits is no character any more.
  void finish(std::string& text);

 private:
  bool unescape(std::string_view raw, std::string& plain);
  void add_unit(uint32_t unit, std::string& plain);
  void add_bytes(std::string_view bytes, std::string& text);

  uint32_t high_surrogate_ = 0;
  std::string cut_;  // up to three bytes that begin a character
};

}  // namespace stepwell::detail
