#include "engine/sse.h"

#include <algorithm>

namespace stepwell::detail {

namespace {

constexpr std::string_view kMark = "\xEF\xBB\xBF";

// Where the next `wanted` is, searched for only once that has been passed: a chunk without any is read once.
class NextOf {
 public:
  NextOf(std::string_view bytes, char wanted) : bytes_(bytes), wanted_(wanted) {}
  size_t from(size_t begin) {
    if (!is_known_ || at_ < begin) at_ = std::min(bytes_.find(wanted_, begin), bytes_.size());
    is_known_ = true;
    return at_;
  }

 private:
  const std::string_view bytes_;
  const char wanted_;
  bool is_known_ = false;
  size_t at_ = 0;
};

}  // namespace

// One byte order mark may lead the stream, and may come in pieces.
std::string_view SseParser::without_mark(std::string_view bytes) {
  while (mark_bytes_seen_ < kMark.size() && !bytes.empty()) {
    if (bytes.front() != kMark[mark_bytes_seen_]) {
      partial_ = kMark.substr(0, mark_bytes_seen_);
      mark_bytes_seen_ = kMark.size();
      break;
    }
    ++mark_bytes_seen_;
    bytes.remove_prefix(1);
  }
  return bytes;
}

bool SseParser::take(std::string_view bytes, SseListener& listener) {
  if (is_too_large_) return false;
  bytes = without_mark(bytes);
  if (bytes.empty()) return true;
  size_t begin = is_after_cr_ && bytes.front() == '\n' ? 1 : 0;
  is_after_cr_ = false;
  NextOf feed(bytes, '\n');
  NextOf carriage(bytes, '\r');
  for (;;) {
    const size_t end = std::min(feed.from(begin), carriage.from(begin));
    const std::string_view line = bytes.substr(begin, end - begin);
    if (partial_.size() + line.size() > event_bytes_max_) is_too_large_ = true;
    if (is_too_large_) return false;
    if (end == bytes.size()) {
      partial_ += line;
      break;
    }
    if (partial_.empty()) {
      take_line(line, /*is_in_chunk=*/true, listener);
    } else {
      partial_ += line;
      take_line(partial_, /*is_in_chunk=*/false, listener);
      partial_.clear();
    }
    begin = end + 1;
    if (bytes[end] == '\r') {
      is_after_cr_ = begin == bytes.size();
      if (!is_after_cr_ && bytes[begin] == '\n') ++begin;
    }
  }
  if (is_data_in_chunk_) data_ = chunk_data_;
  is_data_in_chunk_ = false;
  return !is_too_large_;
}

void SseParser::take_line(std::string_view line, bool is_in_chunk, SseListener& listener) {
  if (line.empty()) {
    dispatch(listener);
    return;
  }
  const size_t colon = line.find(':');
  const std::string_view field = line.substr(0, colon);  // all of it, without a colon
  std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (field == "data") {
    add_data(value, is_in_chunk);
  } else if (field == "event") {
    name_ = value;
  } else if (field == "id" && value.find('\0') == std::string_view::npos) {
    id_ = value;
  }
}

void SseParser::add_data(std::string_view value, bool is_in_chunk) {
  if (!has_data_) {
    has_data_ = true;
    is_data_in_chunk_ = is_in_chunk;
    chunk_data_ = value;
    if (!is_in_chunk) data_ = value;
    return;
  }
  if (is_data_in_chunk_) data_ = chunk_data_;
  is_data_in_chunk_ = false;
  if (data_.size() + 1 + value.size() > event_bytes_max_) {
    is_too_large_ = true;
    return;
  }
  data_ += '\n';
  data_ += value;
}

void SseParser::dispatch(SseListener& listener) {
  if (has_data_) {
    const std::string_view name = name_.empty() ? std::string_view("message") : std::string_view(name_);
    listener.event_seen({name, is_data_in_chunk_ ? chunk_data_ : std::string_view(data_), id_});
  }
  has_data_ = is_data_in_chunk_ = false;
  name_.clear();
}

}  // namespace stepwell::detail
