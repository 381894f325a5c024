#include "base/json.h"

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

// Looks for a pointer while the text is read: every answer passes here, and building its tree would cost the most.
class PointerFinder : public json::json_sax_t {
 public:
  // Of several members with one name the last counts. `tokens`: the pointer's parts, unescaped.
  explicit PointerFinder(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {}
  [[nodiscard]] bool has_found() const { return has_found_; }

  bool null() override { return scalar(false); }
  bool boolean(bool) override { return scalar(true); }
  bool number_integer(number_integer_t) override { return scalar(true); }
  bool number_unsigned(number_unsigned_t) override { return scalar(true); }
  bool number_float(number_float_t, const string_t&) override { return scalar(true); }
  bool string(string_t&) override { return scalar(true); }
  bool binary(binary_t&) override { return scalar(true); }
  bool start_object(size_t) override { return enter(/*is_array=*/false); }
  bool start_array(size_t) override { return enter(/*is_array=*/true); }
  bool key(string_t& name) override {
    is_key_wanted_ = levels_.back().is_wanted && name == tokens_[levels_.size() - 1];
    return true;
  }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }

 private:
  struct Level {
    bool is_array;
    bool is_wanted;  // the pointer leads through it
    size_t next_index = 0;
  };

  // Whether the value that begins here lies on the pointer's way.
  bool is_wanted() {
    if (levels_.empty()) return true;
    Level& level = levels_.back();
    if (!level.is_array) return is_key_wanted_;
    const size_t index = level.next_index++;
    return level.is_wanted && std::to_string(index) == tokens_[levels_.size() - 1];
  }
  bool scalar(bool is_something) {
    if (is_wanted() && levels_.size() == tokens_.size()) has_found_ = is_something;
    return true;
  }
  bool enter(bool is_array) {
    const bool wanted = is_wanted();
    const bool is_target = levels_.size() == tokens_.size();
    if (wanted && is_target) has_found_ = true;
    levels_.push_back({is_array, wanted && !is_target});
    return true;
  }
  bool leave() {
    levels_.pop_back();
    return true;
  }

  const std::vector<std::string> tokens_;
  std::vector<Level> levels_;
  bool is_key_wanted_ = false;
  bool has_found_ = false;
};

}  // namespace

std::string json_quote(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

JsonCheck json_check(std::string_view text, const std::string& pointer) {
  if (pointer.empty()) return json::accept(text) ? JsonCheck::kGood : JsonCheck::kNotJson;
  PointerFinder finder(json_pointer_parts(pointer));
  if (!json::sax_parse(text, &finder)) return JsonCheck::kNotJson;
  return finder.has_found() ? JsonCheck::kGood : JsonCheck::kPointerMissing;
}

std::string json_string_at(std::string_view text, const std::string& pointer) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return {};
  const json* found = find_at(document, pointer);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace stepwell::detail
