// StreamReader: what an answer of server-sent events comes to, by its rule: the text as it grows, the events that hold
// more than text, and how it ended.
//
// Pure; not thread-safe. One reader reads one attempt.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "engine/piece_text.h"
#include "engine/sse.h"
#include "stepwell/call.h"

namespace stepwell::detail {

enum class StreamState : uint8_t { kOpen, kEnded, kFailed };

struct StreamFailure {
  ErrorCode code = 0;
  std::string message;  // without the place; of the peer's own words at most 300 bytes
  std::string kind;     // the peer's word for it, if it gave one ("overloaded_error")
};

class StreamReader final : private SseListener {
 public:
  explicit StreamReader(const StreamRule& rule);

  // False once nothing more is of interest: the stream has ended or failed.
  bool take(std::string_view bytes);
  // The body was whole. A rule that names no end takes this for one; otherwise the stream was cut off.
  void finish_body();

  // Whatever else comes.
  void fail(ErrorCode code, std::string message);

  [[nodiscard]] StreamState state() const { return state_; }
  [[nodiscard]] const StreamFailure& failure() const { return failure_; }
  // What has been added to the text since this was asked last: whole characters.
  std::string take_text();
  // Events that were seen, pings aside: whether the peer still has something to say.
  [[nodiscard]] int64_t event_count() const { return event_count_; }
  // The kept events, in order: those without text, those with more than it, and the last with text.
  [[nodiscard]] std::vector<std::string> kept_events() const;
  // The same as a JSON array.
  [[nodiscard]] std::string events() const;

 private:
  void event_seen(const SseEvent& event) override;
  // Whether `data` holds text, which is then added.
  bool take_piece(std::string_view data);
  void add_piece(std::string_view raw, bool has_escapes);
  void take_other(std::string_view data);
  bool is_error(std::string_view data);
  // With the error's words, and the first of its `kinds` that is there.
  void fail_as_told(std::string_view data, const std::string& pointer, std::initializer_list<const char*> kinds);
  void keep(std::string_view data);
  void end();
  // Whether the connection's end may be the stream's.
  [[nodiscard]] bool is_whole() const;
  [[nodiscard]] bool holds_text(const SseEvent& event) const;

  const StreamRule rule_;
  std::vector<std::vector<std::string>> text_parts_;
  std::vector<std::vector<std::string>> error_parts_;
  SseParser parser_;
  PieceText pieces_;
  StreamState state_ = StreamState::kOpen;
  StreamFailure failure_;
  std::string text_;
  int64_t event_count_ = 0;
  int64_t text_bytes_ = 0;
  int64_t kept_bytes_ = 0;
  std::vector<std::string> kept_;
  std::string last_piece_;  // the event's data; empty: it is kept already, or there was none
  size_t last_piece_at_ = 0;
};

}  // namespace stepwell::detail
