#include "base/json.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/json_scan.h"

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

// Looks for pointers while the text is read: every answer passes here, and building its tree would cost the most.
class PointerFinder : public json::json_sax_t {
 public:
  // What stands at one pointer; of several members with one name the last counts.
  struct Place {
    explicit Place(const std::string& pointer) : tokens(json_pointer_parts(pointer)) {}
    std::vector<std::string> tokens;
    size_t open_count = 0;  // of the containers that are open, so many lie on the way
    bool is_key_wanted = false;
    bool is_something = false;
    int64_t number = -1;
  };

  PointerFinder(const std::string& pointer, const std::vector<std::string>& pointers) {
    places_.reserve(pointers.size() + 1);
    places_.emplace_back(pointer);
    for (const std::string& each : pointers) places_.emplace_back(each);
  }
  [[nodiscard]] const std::vector<Place>& places() const { return places_; }

  bool null() override { return scalar(false, -1); }
  bool boolean(bool) override { return scalar(true, -1); }
  bool number_integer(number_integer_t number) override { return scalar(true, number); }
  bool number_unsigned(number_unsigned_t number) override {
    return scalar(true, static_cast<int64_t>(std::min<number_unsigned_t>(number, kNumberMax)));
  }
  bool number_float(number_float_t, const string_t&) override { return scalar(true, -1); }
  bool string(string_t&) override { return scalar(true, -1); }
  bool binary(binary_t&) override { return scalar(true, -1); }
  bool start_object(size_t) override { return enter(/*is_array=*/false); }
  bool start_array(size_t) override { return enter(/*is_array=*/true); }
  bool key(string_t& name) override {
    const size_t depth = levels_.size();
    for (Place& place : places_) {
      place.is_key_wanted =
          place.open_count == depth && depth <= place.tokens.size() && place.tokens[depth - 1] == name;
    }
    return true;
  }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }

 private:
  static constexpr number_unsigned_t kNumberMax = INT64_MAX;
  struct Level {
    bool is_array;
    size_t next_index = 0;
  };

  // Whether the value that begins here lies on the way to the place, the place itself included.
  bool is_wanted(const Place& place) const {
    const size_t depth = levels_.size();
    if (depth == 0) return true;
    if (place.open_count != depth || depth > place.tokens.size()) return false;
    const Level& level = levels_.back();
    return level.is_array ? place.tokens[depth - 1] == std::to_string(level.next_index) : place.is_key_wanted;
  }
  bool scalar(bool is_something, int64_t number) {
    for (Place& place : places_) {
      if (levels_.size() != place.tokens.size() || !is_wanted(place)) continue;
      place.is_something = is_something;
      place.number = std::max<int64_t>(number, -1);
    }
    return next();
  }
  bool enter(bool is_array) {
    const size_t depth = levels_.size();
    for (Place& place : places_) {
      if (!is_wanted(place)) continue;
      if (place.tokens.size() > depth) {
        place.open_count = depth + 1;
      } else {
        place.is_something = true;
        place.number = -1;
      }
    }
    levels_.push_back({is_array});
    return true;
  }
  bool leave() {
    levels_.pop_back();
    for (Place& place : places_) place.open_count = std::min(place.open_count, levels_.size());
    return next();
  }
  // After a value.
  bool next() {
    if (!levels_.empty()) ++levels_.back().next_index;
    return true;
  }

  std::vector<Place> places_;
  std::vector<Level> levels_;
};

}  // namespace

std::string json_quote(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

JsonCheck json_check(std::string_view text, const std::string& pointer) {
  std::vector<int64_t> numbers;
  return json_check(text, pointer, {}, numbers);
}

JsonCheck json_check(std::string_view text, const std::string& pointer, const std::vector<std::string>& pointers,
                     std::vector<int64_t>& numbers) {
  numbers.assign(pointers.size(), -1);
  // The parser takes a NUL for the end of its input, and what follows unseen; no JSON text holds one (RFC 8259, section
  // 7).
  if (text.find('\0') != std::string_view::npos) return JsonCheck::kNotJson;
  if (pointer.empty() && pointers.empty()) return json::accept(text) ? JsonCheck::kGood : JsonCheck::kNotJson;
  PointerFinder finder(pointer, pointers);
  if (!json::sax_parse(text, &finder)) return JsonCheck::kNotJson;
  for (size_t i = 0; i < pointers.size(); ++i) numbers[i] = finder.places()[i + 1].number;
  return pointer.empty() || finder.places().front().is_something ? JsonCheck::kGood : JsonCheck::kPointerMissing;
}

std::string json_string_at(std::string_view text, const std::string& pointer) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return {};
  const json* found = find_at(document, pointer);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

std::vector<int64_t> json_counts_at(std::string_view text, const std::vector<std::string>& pointers) {
  std::vector<int64_t> counts(pointers.size(), -1);
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return counts;
  for (size_t i = 0; i < pointers.size(); ++i) {
    const json* found = find_at(document, pointers[i]);
    if (found == nullptr || !found->is_number_integer()) continue;
    const auto number = found->get<int64_t>();
    if (number >= 0) counts[i] = number;  // what exceeds 63 bits has become negative
  }
  return counts;
}

std::vector<std::string> json_strings_at(std::string_view text, const std::string& pointer) {
  std::vector<std::string> strings;
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return strings;
  const json* found = find_at(document, pointer);
  if (found == nullptr || !found->is_array()) return strings;
  for (const json& each : *found) {
    if (!each.is_string()) return {};
    strings.push_back(each.get<std::string>());
  }
  return strings;
}

}  // namespace stepwell::detail
