#include "base/json_scan.h"

#include <algorithm>

namespace stepwell::detail {

namespace {

bool is_index(const std::string& part) {
  return !part.empty() && part.find_first_not_of("0123456789") == std::string::npos && (part[0] != '0' || part == "0");
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  JsonSpot find(const std::vector<std::string>& parts) {
    size_t objects_inside = 0;  // those opened since the innermost array
    bool is_in_array = false;
    for (const std::string& part : parts) {
      const char opening = next();
      if (opening != '{' && opening != '[') return {is_odd_ ? JsonFound::kUnsure : JsonFound::kNull, {}, false, false};
      ++at_;
      const bool is_array = opening == '[';
      const bool is_there = is_array ? is_index(part) && enter_element(part) : enter_member(part);
      if (is_odd_) return {};
      if (!is_there) return {JsonFound::kNull, {}, false, false};
      is_in_array = is_in_array || is_array;
      objects_inside = is_array ? 0 : objects_inside + 1;
    }
    JsonSpot spot;
    const char first = next();
    if (first == '"') {
      spot.raw = string(spot.has_escapes);
      spot.found = JsonFound::kString;
      if (is_in_array) spot.has_more = closes_into_more(objects_inside);
    } else {
      spot.found = first == 'n' ? JsonFound::kNull : JsonFound::kOther;
    }
    return is_odd_ ? JsonSpot() : spot;
  }

 private:
  // The next character that is not blank, which stays; 0 at the end.
  char next() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      ++at_;
    if (at_ < text_.size()) return text_[at_];
    is_odd_ = true;
    return 0;
  }
  bool takes(char wanted) {
    if (next() != wanted) is_odd_ = true;
    if (!is_odd_) ++at_;
    return !is_odd_;
  }

  // From the opening quote to after the closing one.
  std::string_view string(bool& has_escapes) {
    const size_t begin = at_ + 1;
    size_t end = text_.find('"', begin);
    if (end == std::string_view::npos) {
      is_odd_ = true;
      return {};
    }
    const size_t escape = text_.substr(begin, end - begin).find('\\');
    has_escapes = escape != std::string_view::npos;
    if (has_escapes) {
      for (end = begin + escape; end < text_.size() && text_[end] != '"'; ++end) end += text_[end] == '\\' ? 1 : 0;
    }
    if (end >= text_.size()) {
      is_odd_ = true;
      return {};
    }
    at_ = end + 1;
    return text_.substr(begin, end - begin);
  }

  // Past a value of any kind. Without recursion: nobody's nesting can exhaust the stack.
  void skip() {
    bool ignored = false;
    int64_t depth = 0;
    do {
      const char first = next();
      if (is_odd_) return;
      if (first == '"') {
        string(ignored);
      } else if (first == '{' || first == '[') {
        ++depth;
        ++at_;
      } else if (first == '}' || first == ']') {
        --depth;
        ++at_;
      } else if (depth > 0) {
        at_ = std::min(text_.find_first_of("\"{}[]", at_), text_.size());
      } else {
        at_ = std::min(text_.find_first_of(",}] \n\r\t", at_), text_.size());
      }
      if (depth < 0) is_odd_ = true;
    } while (depth > 0 && !is_odd_);
  }

  // To the value of the member; false when the object has none of that name.
  bool enter_member(const std::string& name) {
    if (next() == '}') return false;
    for (;;) {
      if (next() != '"') {
        is_odd_ = true;
        return false;
      }
      bool has_escapes = false;
      const std::string_view key = string(has_escapes);
      if (has_escapes) is_odd_ = true;
      if (is_odd_ || !takes(':')) return false;
      if (key == name) return true;
      skip();
      if (is_odd_ || next() == '}' || !takes(',')) return false;
    }
  }

  bool enter_element(const std::string& index) {
    if (next() == ']') return false;
    size_t left = 0;
    for (const char digit : index) left = std::min<size_t>(left * 10 + static_cast<size_t>(digit - '0'), 1'000'000);
    for (; left > 0; --left) {
      skip();
      if (is_odd_ || next() == ']' || !takes(',')) return false;
    }
    return true;
  }

  // After the value: leaves the objects and says whether the array goes on.
  bool closes_into_more(size_t objects) {
    for (; objects > 0; --objects) {
      while (next() == ',') {
        ++at_;
        if (next() != '"') is_odd_ = true;
        bool ignored = false;
        if (!is_odd_) string(ignored);
        if (is_odd_ || !takes(':')) return false;
        skip();
      }
      if (!takes('}')) return false;
    }
    return next() == ',';
  }

  const std::string_view text_;
  size_t at_ = 0;
  bool is_odd_ = false;
};

}  // namespace

std::vector<std::string> json_pointer_parts(const std::string& pointer) {
  std::vector<std::string> parts;
  for (size_t begin = 1; begin <= pointer.size();) {
    const size_t end = std::min(pointer.find('/', begin), pointer.size());
    std::string& part = parts.emplace_back();
    for (size_t i = begin; i < end; ++i) {
      const bool is_escape = pointer[i] == '~' && i + 1 < end;
      part.push_back(!is_escape ? pointer[i] : pointer[++i] == '1' ? '/' : '~');
    }
    begin = end + 1;
  }
  return parts;
}

JsonSpot json_scan(std::string_view text, const std::vector<std::string>& parts) { return Scanner(text).find(parts); }

}  // namespace stepwell::detail
