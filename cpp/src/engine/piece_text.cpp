#include "engine/piece_text.h"

#include <algorithm>

namespace stepwell::detail {

namespace {

constexpr std::string_view kUnknown = "\xEF\xBF\xBD";

int hex_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Of the four digits at `at`; -1: they are none.
int64_t unit_at(std::string_view raw, size_t at) {
  if (at + 4 > raw.size()) return -1;
  int64_t unit = 0;
  for (size_t i = at; i < at + 4; ++i) {
    const int digit = hex_of(raw[i]);
    if (digit < 0) return -1;
    unit = unit * 16 + digit;
  }
  return unit;
}

void append_character(uint32_t code, std::string& out) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0U | code >> 6U);
    put(0x80U | (code & 0x3FU));
  } else if (code < 0x10000) {
    put(0xE0U | code >> 12U);
    put(0x80U | (code >> 6U & 0x3FU));
    put(0x80U | (code & 0x3FU));
  } else {
    put(0xF0U | code >> 18U);
    put(0x80U | (code >> 12U & 0x3FU));
    put(0x80U | (code >> 6U & 0x3FU));
    put(0x80U | (code & 0x3FU));
  }
}

// Unicode 15, table 3-7. `taken`: the bytes of the character, or of what looked like one up to where it went wrong.
enum class Character : uint8_t { kWhole, kCut, kWrong };
Character character_at(std::string_view bytes, size_t at, size_t& taken) {
  const auto byte = [&bytes](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t first = byte(at);
  taken = 1;
  if (first < 0x80) return Character::kWhole;
  if (first < 0xC2 || first > 0xF4) return Character::kWrong;
  const size_t count = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (; taken < count; ++taken) {
    if (at + taken == bytes.size()) return Character::kCut;
    if (byte(at + taken) < low || byte(at + taken) > high) return Character::kWrong;
    low = 0x80;
    high = 0xBF;
  }
  return Character::kWhole;
}

bool is_ascii(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

}  // namespace

bool PieceText::add(std::string_view raw, bool has_escapes, std::string& text) {
  if (!has_escapes && high_surrogate_ == 0) {
    add_bytes(raw, text);
    return true;
  }
  const uint32_t before = high_surrogate_;
  std::string plain;
  if (!unescape(raw, plain)) {
    high_surrogate_ = before;
    return false;
  }
  add_bytes(plain, text);
  return true;
}

void PieceText::finish(std::string& text) {
  if (!cut_.empty() || high_surrogate_ != 0) text += kUnknown;
  cut_.clear();
  high_surrogate_ = 0;
}

bool PieceText::unescape(std::string_view raw, std::string& plain) {
  static constexpr std::string_view kNames = "\"\\/bfnrt";
  static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  for (size_t at = 0; at < raw.size();) {
    if (raw[at] != '\\') {
      const size_t end = std::min(raw.find('\\', at), raw.size());
      if (high_surrogate_ != 0) plain += kUnknown;
      high_surrogate_ = 0;
      plain += raw.substr(at, end - at);
      at = end;
      continue;
    }
    if (at + 1 == raw.size()) return false;
    if (raw[at + 1] == 'u') {
      const int64_t unit = unit_at(raw, at + 2);
      if (unit < 0) return false;
      add_unit(static_cast<uint32_t>(unit), plain);
      at += 6;
      continue;
    }
    const size_t name = kNames.find(raw[at + 1]);
    if (name == std::string_view::npos) return false;
    add_unit(static_cast<uint8_t>(kMeanings[name]), plain);
    at += 2;
  }
  return true;
}

void PieceText::add_unit(uint32_t unit, std::string& plain) {
  const bool is_low = unit >= 0xDC00 && unit <= 0xDFFF;
  if (is_low && high_surrogate_ != 0) {
    append_character(0x10000 + ((high_surrogate_ - 0xD800) << 10U) + (unit - 0xDC00), plain);
    high_surrogate_ = 0;
    return;
  }
  if (high_surrogate_ != 0) plain += kUnknown;
  high_surrogate_ = unit >= 0xD800 && unit <= 0xDBFF ? unit : 0;
  if (is_low) {
    plain += kUnknown;
  } else if (high_surrogate_ == 0) {
    append_character(unit, plain);
  }
}

void PieceText::add_bytes(std::string_view bytes, std::string& text) {
  if (cut_.empty() && is_ascii(bytes)) {
    text += bytes;
    return;
  }
  cut_ += bytes;
  size_t at = 0;
  while (at < cut_.size()) {
    size_t taken = 0;
    const Character seen = character_at(cut_, at, taken);
    if (seen == Character::kCut) break;
    if (seen == Character::kWhole) {
      text.append(cut_, at, taken);
    } else {
      text += kUnknown;
    }
    at += taken;
  }
  cut_.erase(0, at);
}

}  // namespace stepwell::detail
