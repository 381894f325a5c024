// Finds one string in a JSON text by walking along a pointer, without building or checking the rest: a tenth of what a
// parse costs. It is sure of what it finds only if the text is JSON; where it meets something odd it says so, and the
// caller parses. Of several members with one name the first counts. Any thread; nothing here throws.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stepwell::detail {

// The parts of a JSON pointer (RFC 6901), unescaped.
std::vector<std::string> json_pointer_parts(const std::string& pointer);

enum class JsonFound : uint8_t {
  kString,
  kOther,   // a value that is neither a string nor null
  kNull,    // or there is nothing at that pointer
  kUnsure,  // this is no JSON, or a key with an escape is in the way
};

struct JsonSpot {
  JsonFound found = JsonFound::kUnsure;
  std::string_view raw;      // of a string: what is between its quotes
  bool has_escapes = false;  // in raw
  bool has_more = false;     // the innermost array that the pointer leads through goes on after this element
};

JsonSpot json_scan(std::string_view text, const std::vector<std::string>& parts);

}  // namespace stepwell::detail
