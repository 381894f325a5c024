#include "engine/stream_reader.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "base/json_scan.h"

namespace stepwell::detail {

namespace {

constexpr size_t kKeptCountMax = 100'000;
constexpr size_t kExcerptBytesMax = 300;
// What servers call an event that only says that they are still there.
constexpr std::string_view kPing = "ping";

std::string excerpt(std::string_view text) {
  std::string out(text.substr(0, kExcerptBytesMax));
  std::replace_if(out.begin(), out.end(), [](char c) { return static_cast<uint8_t>(c) < 0x20; }, ' ');
  return out;
}

bool has(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

StreamReader::StreamReader(const StreamRule& rule)
    : rule_(rule), parser_(static_cast<size_t>(std::max<int64_t>(rule.event_bytes_max, 0))) {
  for (const std::string& pointer : rule_.text_pointers) text_parts_.push_back(json_pointer_parts(pointer));
  for (const std::string& pointer : rule_.error_pointers) error_parts_.push_back(json_pointer_parts(pointer));
}

bool StreamReader::take(std::string_view bytes) {
  if (state_ == StreamState::kOpen && !parser_.take(bytes, *this) && state_ == StreamState::kOpen) {
    fail(code::kHttpTooLarge,
         "an event of the stream is larger than " + std::to_string(rule_.event_bytes_max) + " bytes");
  }
  return state_ == StreamState::kOpen;
}

void StreamReader::finish_body() {
  if (state_ != StreamState::kOpen) return;
  if (is_whole()) {
    end();
  } else {
    fail(code::kStreamCut, "the stream stopped without its end, after " + std::to_string(event_count_) +
                               " events and " + std::to_string(text_bytes_) + " bytes of text");
  }
}

bool StreamReader::is_whole() const {
  if (!rule_.end_events.empty() || !rule_.end_data.empty() || event_count_ == 0) return false;
  if (rule_.last_pointers.empty()) return true;
  const std::vector<std::string> events = kept_events();
  return std::any_of(events.rbegin(), events.rend(), [this](const std::string& event) {
    return std::any_of(rule_.last_pointers.begin(), rule_.last_pointers.end(),
                       [&event](const std::string& pointer) { return json_check(event, pointer) == JsonCheck::kGood; });
  });
}

std::string StreamReader::take_text() { return std::exchange(text_, {}); }

std::vector<std::string> StreamReader::kept_events() const {
  std::vector<std::string> all = kept_;
  if (!last_piece_.empty()) all.insert(all.begin() + static_cast<std::ptrdiff_t>(last_piece_at_), last_piece_);
  return all;
}

std::string StreamReader::events() const {
  std::string out = "[";
  for (const std::string& event : kept_events()) {
    if (out.size() > 1) out += ',';
    out += event;
  }
  return out + "]";
}

// Not every server names its events; the providers that name them say it in the data as well.
bool StreamReader::holds_text(const SseEvent& event) const {
  static const std::vector<std::string> kType = {"type"};
  return rule_.text_events.empty() || has(rule_.text_events, event.name) ||
         has(rule_.text_events, json_scan(event.data, kType).raw);
}

void StreamReader::event_seen(const SseEvent& event) {
  if (state_ != StreamState::kOpen || event.data.empty() || event.name == kPing) return;
  if (!rule_.end_data.empty() && event.data == rule_.end_data) {
    end();
    return;
  }
  ++event_count_;
  if (!holds_text(event) || !take_piece(event.data)) take_other(event.data);
  if (state_ == StreamState::kOpen && has(rule_.end_events, event.name)) end();
}

bool StreamReader::take_piece(std::string_view data) {
  for (size_t i = 0; i < text_parts_.size(); ++i) {
    const JsonSpot spot = json_scan(data, text_parts_[i]);
    if (spot.found == JsonFound::kUnsure) {
      const std::string text = json_string_at(data, rule_.text_pointers[i]);
      if (text.empty()) continue;
      add_piece(text, /*has_escapes=*/false);
      keep(data);
      return true;
    }
    if (spot.found != JsonFound::kString || spot.raw.empty()) continue;
    // The scan has not read the rest: a cut or wrong text must not pass for a good one.
    const size_t last = data.find_last_not_of(" \t\r\n");
    if (data[last] != '}' && data[last] != ']') return false;
    add_piece(spot.raw, spot.has_escapes);
    if (spot.has_more) {
      take_other(data);
    } else {
      last_piece_ = data;
      last_piece_at_ = kept_.size();
    }
    return true;
  }
  return false;
}

void StreamReader::add_piece(std::string_view raw, bool has_escapes) {
  const size_t before = text_.size();
  if (!pieces_.add(raw, has_escapes, text_)) {
    fail(code::kHttpBody, "an event of the stream is not JSON: " + excerpt(raw));
    return;
  }
  text_bytes_ += static_cast<int64_t>(text_.size() - before);
  if (text_bytes_ > rule_.text_bytes_max) {
    fail(code::kHttpTooLarge, "the stream's text is larger than " + std::to_string(rule_.text_bytes_max) + " bytes");
  }
}

void StreamReader::take_other(std::string_view data) {
  if (json_check(data, "") != JsonCheck::kGood) {
    fail(code::kHttpBody, "an event of the stream is not JSON: " + excerpt(data));
    return;
  }
  if (!is_error(data)) keep(data);
}

bool StreamReader::is_error(std::string_view data) {
  for (size_t i = 0; i < error_parts_.size(); ++i) {
    const std::string& pointer = rule_.error_pointers[i];
    const JsonSpot spot = json_scan(data, error_parts_[i]);
    if (spot.found == JsonFound::kNull) continue;
    if (spot.found == JsonFound::kUnsure && json_check(data, pointer) != JsonCheck::kGood) continue;
    fail_as_told(data, pointer, {"/type", "/code", "/status"});
    return true;
  }
  // OpenAI's responses say it in the event itself: {"type": "error", "code": ..., "message": ...}.
  static const std::vector<std::string> kType = {"type"};
  if (json_scan(data, kType).raw != "error") return false;
  fail_as_told(data, "", {"/code", "/status"});
  return true;
}

void StreamReader::fail_as_told(std::string_view data, const std::string& pointer,
                                std::initializer_list<const char*> kinds) {
  std::string words = json_string_at(data, pointer + "/message");
  if (words.empty() && !pointer.empty()) words = json_string_at(data, pointer);
  if (words.empty()) words = data;
  fail(code::kStreamError, "the peer reported an error in the stream: " + excerpt(words));
  for (const char* part : kinds) {
    if (failure_.kind.empty()) failure_.kind = excerpt(json_string_at(data, pointer + part));
  }
}

void StreamReader::keep(std::string_view data) {
  kept_bytes_ += static_cast<int64_t>(data.size());
  if (kept_bytes_ > rule_.text_bytes_max || kept_.size() >= kKeptCountMax) {
    fail(code::kHttpTooLarge, "the stream's events without text are more than " + std::to_string(kKeptCountMax) +
                                  ", or larger than " + std::to_string(rule_.text_bytes_max) + " bytes");
    return;
  }
  kept_.emplace_back(data);
}

void StreamReader::fail(ErrorCode code, std::string message) {
  state_ = StreamState::kFailed;
  failure_.code = code;
  failure_.message = std::move(message);
}

void StreamReader::end() {
  pieces_.finish(text_);
  if (json_check(last_piece_, "") != JsonCheck::kGood) last_piece_.clear();  // it was scanned only
  state_ = StreamState::kEnded;
}

}  // namespace stepwell::detail
