#include "base/json.h"

#include <nlohmann/json.hpp>

namespace stepwell::detail {

using nlohmann::json;

namespace {

// Null when there is nothing there; a malformed pointer counts as nothing (it comes from our own call specs).
const json* find_at(const json& document, const std::string& pointer) {
  try {
    const json::json_pointer path(pointer);
    return document.contains(path) ? &document.at(path) : nullptr;
  } catch (const json::exception&) {
    return nullptr;
  }
}

}  // namespace

std::string json_quote(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

JsonCheck json_check(std::string_view text, const std::string& pointer) {
  if (pointer.empty()) return json::accept(text) ? JsonCheck::kGood : JsonCheck::kNotJson;
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return JsonCheck::kNotJson;
  const json* found = find_at(document, pointer);
  return found != nullptr && !found->is_null() ? JsonCheck::kGood : JsonCheck::kPointerMissing;
}

std::string json_string_at(std::string_view text, const std::string& pointer) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return {};
  const json* found = find_at(document, pointer);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace stepwell::detail
