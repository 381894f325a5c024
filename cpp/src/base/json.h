// The little JSON that the core itself needs. The only room that includes nlohmann/json; payloads stay opaque
// elsewhere. Any thread; nothing here throws.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stepwell::detail {

// `text` as a JSON string literal, quotes included. Bytes that are not UTF-8 become U+FFFD.
std::string json_quote(std::string_view text);

enum class JsonCheck { kGood, kNotJson, kPointerMissing };
// Whether `text` is one whole JSON text and, unless `pointer` is empty, holds a value other than null at that JSON
// pointer.
JsonCheck json_check(std::string_view text, const std::string& pointer);

// The same, reading in the same pass what whole numbers stand at further pointers; `numbers` gets one for each, -1
// where there is none, or a negative one.
JsonCheck json_check(std::string_view text, const std::string& pointer, const std::vector<std::string>& pointers,
                     std::vector<int64_t>& numbers);

// The string at `pointer`, or an empty one when there is none.
std::string json_string_at(std::string_view text, const std::string& pointer);

// The whole numbers at each of `pointers`, in one look; -1 for what is missing, no whole number or negative.
std::vector<int64_t> json_counts_at(std::string_view text, const std::vector<std::string>& pointers);

// The strings of the array at `pointer`; none when there is no array of strings.
std::vector<std::string> json_strings_at(std::string_view text, const std::string& pointer);

}  // namespace stepwell::detail
