#include "engine/stream_text.h"

#include <algorithm>
#include <utility>

namespace stepwell::detail {

namespace {
bool is_inside(char c) { return (static_cast<uint8_t>(c) & 0xC0U) == 0x80U; }
}  // namespace

StreamText::StreamText(int64_t generation, std::string text)
    : generation_(generation),
      text_(std::move(text)),
      kept_(text_.size()),
      shown_(text_.size()),
      shown_generation_(text_.empty() ? 0 : generation) {}

void StreamText::begin_generation() {
  text_.resize(matched_);
  ++generation_;
  told_ = kept_ = 0;
}

void StreamText::add(std::string_view piece) {
  const size_t known = std::min(text_.size() - matched_, piece.size());
  if (std::string_view(text_).substr(matched_, known) != piece.substr(0, known)) {
    begin_generation();
    text_ += piece;
  } else {
    text_ += piece.substr(known);
  }
  matched_ += piece.size();
}

void StreamText::end_attempt() {
  if (is_matching()) begin_generation();
}

StreamText::Piece StreamText::take_untold() {
  if (told_ >= matched_) return {};
  Piece piece{generation_, static_cast<int64_t>(told_), text_.substr(told_, matched_ - told_)};
  told_ = matched_;
  has_told_ = true;
  return piece;
}

StreamText::Piece StreamText::take_unkept() {
  if (unkept_bytes() == 0) return {};
  Piece piece{generation_, static_cast<int64_t>(kept_), text_.substr(kept_)};
  kept_ = text_.size();
  return piece;
}

void StreamText::commit_done(int64_t generation, int64_t end) {
  if (generation < shown_generation_) return;
  shown_generation_ = generation;
  shown_ = static_cast<size_t>(end);
}

StreamText::Piece StreamText::shown(int64_t generation, int64_t offset, size_t bytes_max) const {
  // A generation of which nothing is committed yet has taken the place of what was shown.
  if (shown_generation_ != generation_) return {};
  return part_of(generation_, std::string_view(text_).substr(0, shown_), generation, offset, bytes_max);
}

StreamText::Piece StreamText::part_of(int64_t generation, std::string_view text, int64_t asked, int64_t offset,
                                      size_t bytes_max) {
  if (asked != 0 && asked != generation) offset = 0;
  size_t begin = std::min(static_cast<size_t>(std::max<int64_t>(offset, 0)), text.size());
  while (begin < text.size() && is_inside(text[begin])) ++begin;
  size_t end = std::min(begin + bytes_max, text.size());
  while (end < text.size() && is_inside(text[end])) --end;
  return {generation, static_cast<int64_t>(begin), std::string(text.substr(begin, end - begin))};
}

}  // namespace stepwell::detail
