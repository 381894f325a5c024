// SseParser: server-sent events out of bytes as they come (WHATWG HTML, section 9.2.6).
//
// Pure; not thread-safe. An event is handed out at its blank line; one that the stream's end cuts off never is.
// "retry" lines are ignored: who reconnects, and when, is decided elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace stepwell::detail {

// Valid while it is handed out.
struct SseEvent {
  std::string_view name;  // "message" if the stream gives none
  std::string_view data;  // its lines, joined by line feeds
  std::string_view id;    // the last one that the stream gave
};

class SseListener {
 public:
  virtual void event_seen(const SseEvent& event) = 0;

 protected:
  ~SseListener() = default;
};

class SseParser {
 public:
  // `event_bytes_max` bounds a line, and the data of one event.
  explicit SseParser(size_t event_bytes_max) : event_bytes_max_(event_bytes_max) {}

  // Hands the events that end in `bytes` to `listener`. False once a line or an event was larger than allowed; what
  // comes after that is ignored.
  bool take(std::string_view bytes, SseListener& listener);
  [[nodiscard]] bool is_too_large() const { return is_too_large_; }

 private:
  std::string_view without_mark(std::string_view bytes);
  void take_line(std::string_view line, bool is_in_chunk, SseListener& listener);
  void add_data(std::string_view value, bool is_in_chunk);
  void dispatch(SseListener& listener);

  const size_t event_bytes_max_;
  size_t mark_bytes_seen_ = 0;  // of the byte order mark that may come first
  bool is_after_cr_ = false;    // a line feed that follows belongs to the same line end
  bool is_too_large_ = false;
  std::string partial_;  // the beginning of a line
  std::string name_;
  std::string id_;
  // The data so far: in the chunk that is being read, which spares a copy, or else in data_.
  bool has_data_ = false;
  bool is_data_in_chunk_ = false;
  std::string_view chunk_data_;
  std::string data_;
};

}  // namespace stepwell::detail
