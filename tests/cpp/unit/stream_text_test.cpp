// One stream's text over attempts and lives: every address keeps its text.
#include "engine/stream_text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace stepwell::detail {
namespace {

void attempt(StreamText& text, const std::vector<std::string>& pieces, bool is_whole) {
  text.begin_attempt();
  for (const std::string& piece : pieces) text.add(piece);
  if (is_whole) text.end_attempt();
}

std::string told(StreamText& text) {
  const StreamText::Piece piece = text.take_untold();
  return piece.text.empty() ? ""
                            : std::to_string(piece.generation) + ":" + std::to_string(piece.offset) + ":" + piece.text;
}

std::string kept(StreamText& text) {
  const StreamText::Piece piece = text.take_unkept();
  if (piece.text.empty()) return "";
  text.commit_done(piece.generation, piece.offset + static_cast<int64_t>(piece.text.size()));
  return std::to_string(piece.generation) + ":" + std::to_string(piece.offset) + ":" + piece.text;
}

TEST(StreamText, GoesOnAfterTheAttemptBefore) {
  StreamText text;
  attempt(text, {"Hel", "lo "}, false);
  EXPECT_EQ("1:0:Hello ", told(text));
  EXPECT_EQ("1:0:Hello ", kept(text));
  text.begin_attempt();
  text.add("H");
  EXPECT_EQ("", told(text));
  EXPECT_EQ("", kept(text)) << "it is not clear yet whether this is the same answer";
  text.add("ello world");
  EXPECT_EQ("1:6:world", told(text));
  EXPECT_EQ("1:6:world", kept(text));
  text.end_attempt();
  EXPECT_EQ("Hello world", text.text());
  EXPECT_EQ(1, text.generation());
}

TEST(StreamText, AnotherAnswerBeginsAGeneration) {
  StreamText text;
  attempt(text, {"Hello"}, false);
  EXPECT_EQ("1:0:Hello", told(text));
  EXPECT_EQ("1:0:Hello", kept(text));
  attempt(text, {"Hey"}, false);
  EXPECT_EQ("", text.shown(1, 0, 100).text) << "what was shown has lost its place, and the new text is not committed";
  EXPECT_EQ("2:0:Hey", told(text));
  EXPECT_EQ("2:0:Hey", kept(text));
  EXPECT_EQ("Hey", text.shown(1, 3, 100).text) << "from its beginning";
  EXPECT_EQ("y", text.shown(2, 2, 100).text);
  EXPECT_EQ("y", text.shown(0, 2, 100).text);
}

TEST(StreamText, APartOfTheLastAnswerIsAnotherAnswer) {
  StreamText text;
  attempt(text, {"Yes, of course"}, false);
  attempt(text, {"Yes"}, true);
  EXPECT_EQ(2, text.generation());
  EXPECT_EQ("Yes", text.text());
  attempt(text, {}, true);
  EXPECT_EQ(3, text.generation());
  EXPECT_EQ("", text.text());
}

TEST(StreamText, AnotherLifeIsToldEverythingAndShowsWhatItFound) {
  StreamText text(4, "Hello");
  EXPECT_EQ("lo", text.shown(4, 3, 100).text);
  EXPECT_EQ("", text.shown(4, 5, 100).text);
  text.begin_attempt();
  text.add("Hel");
  EXPECT_EQ("4:0:Hel", told(text));
  EXPECT_EQ("", kept(text));
  text.add("lo!");
  EXPECT_EQ("4:3:lo!", told(text));
  EXPECT_EQ("4:5:!", kept(text));
}

TEST(StreamText, AnOldCommitSaysNothingOfANewGeneration) {
  StreamText text;
  attempt(text, {"Hello"}, false);
  EXPECT_EQ("Hello", text.take_unkept().text);
  attempt(text, {"Hey you all"}, false);
  text.commit_done(1, 5);
  EXPECT_EQ("", text.shown(0, 0, 100).text);
  EXPECT_EQ("Hey you all", text.take_unkept().text);
  text.commit_done(2, 11);
  text.commit_done(1, 5);
  EXPECT_EQ("Hey you all", text.shown(0, 0, 100).text);
}

TEST(StreamText, NoCharacterIsSplitForReaders) {
  const std::string text = "a\xF0\x9F\x98\x80z";
  EXPECT_EQ("a", StreamText::part_of(1, text, 0, 0, 3).text);
  const StreamText::Piece inside = StreamText::part_of(1, text, 1, 2, 100);
  EXPECT_EQ("z", inside.text);
  EXPECT_EQ(5, inside.offset);
  EXPECT_EQ("", StreamText::part_of(1, text, 1, 99, 100).text);
  EXPECT_EQ(text, StreamText::part_of(1, text, 2, 99, 100).text) << "an offset of another generation";
}

}  // namespace
}  // namespace stepwell::detail
