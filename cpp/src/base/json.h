// The little JSON that the core itself needs. The only room that includes nlohmann/json; payloads stay opaque
// elsewhere. Any thread; nothing here throws.
#pragma once

#include <string>
#include <string_view>

namespace stepwell::detail {

// `text` as a JSON string literal, quotes included. Bytes that are not UTF-8 become U+FFFD.
std::string json_quote(std::string_view text);

enum class JsonCheck { kGood, kNotJson, kPointerMissing };
// Whether `text` is one whole JSON text and, unless `pointer` is empty, holds a value other than null at that JSON
// pointer.
JsonCheck json_check(std::string_view text, const std::string& pointer);

// The string at `pointer`, or an empty one when there is none.
std::string json_string_at(std::string_view text, const std::string& pointer);

}  // namespace stepwell::detail
