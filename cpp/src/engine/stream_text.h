// StreamText: the text of one step's stream over all its attempts and lives.
//
// An attempt that begins as the one before it goes on where that one stopped; one that does not begins a generation, at
// offset 0. So (generation, offset) is an address whose text never changes. Offsets count bytes of UTF-8; pieces are
// whole characters. Pure; not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace stepwell::detail {

class StreamText {
 public:
  struct Piece {
    int64_t generation = 0;
    int64_t offset = 0;
    std::string text;
  };

  StreamText() = default;
  // What a former life had committed.
  StreamText(int64_t generation, std::string text);

  void begin_attempt() { matched_ = 0; }
  void add(std::string_view piece);
  // The attempt's text is whole. One that is a part of what was seen before is another text.
  void end_attempt();

  [[nodiscard]] int64_t generation() const { return generation_; }
  [[nodiscard]] const std::string& text() const { return text_; }

  // What the workflow has not been told yet. Empty: nothing.
  Piece take_untold();
  [[nodiscard]] bool has_told() const { return has_told_; }
  // What is to be committed next, if anything; `commit_done` says that it was.
  Piece take_unkept();
  [[nodiscard]] size_t unkept_bytes() const { return is_matching() ? 0 : text_.size() - kept_; }
  [[nodiscard]] bool has_kept() const { return kept_ > 0; }
  void commit_done(int64_t generation, int64_t end);

  // What readers outside may see: from `offset` of `generation` (0: any) on at most `bytes_max`, or from the beginning
  // if that generation is not the present one. Empty text: nothing new.
  [[nodiscard]] Piece shown(int64_t generation, int64_t offset, size_t bytes_max) const;
  // The same of a text that is not under way.
  static Piece part_of(int64_t generation, std::string_view text, int64_t asked, int64_t offset, size_t bytes_max);

 private:
  [[nodiscard]] bool is_matching() const { return matched_ < text_.size(); }
  void begin_generation();

  int64_t generation_ = 1;
  std::string text_;
  size_t matched_ = 0;  // bytes of text_ that this attempt has brought
  size_t told_ = 0;
  bool has_told_ = false;
  size_t kept_ = 0;   // handed to the store
  size_t shown_ = 0;  // committed
  int64_t shown_generation_ = 0;
};

}  // namespace stepwell::detail
