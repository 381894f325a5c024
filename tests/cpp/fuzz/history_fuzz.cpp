// Fuzzes a run machine with histories that no engine wrote and inputs in any order: it decides or refuses, and a run
// that has ended says nothing more.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "stepwell/engine.h"

using namespace stepwell;  // NOLINT(google-build-using-namespace): a program of one function

namespace {

std::string topic_of(testing::FuzzInput& input) {
  constexpr const char* kTopics[] = {"cancel", "pause", "resume", "signal:go", "child:c", ""};
  return kTopics[input.byte() % 6];
}

std::string step_of(testing::FuzzInput& input) { return std::string(1, static_cast<char>('a' + input.byte() % 4)); }

RunHistory history_of(testing::FuzzInput& input) {
  RunHistory history;
  history.row.run = 7;
  history.row.status = static_cast<RunStatus>(input.byte() % 9);
  history.row.deadline_at = input.byte() % 2 == 0 ? -1 : input.byte();
  history.row.parent = input.byte() % 2;
  for (int left = input.byte() % 8; left > 0; --left) {
    Event& event = history.events.emplace_back();
    event.kind = static_cast<EventKind>(input.byte());
    event.attempt = input.byte();
    event.step = step_of(input);
    event.payload = input.text();
  }
  for (int64_t left = input.byte() % 4; left > 0; --left) {
    history.messages.push_back(Message{left, 7, topic_of(input), {}, input.text(), 0});
  }
  history.row.event_count = static_cast<int64_t>(history.events.size());
  return history;
}

Input input_of(testing::FuzzInput& input) {
  Input made;
  made.kind = static_cast<InputKind>(input.byte() % 19);
  made.attempt = input.byte();
  made.retryable = input.byte() % 2 == 0;
  made.retry_after_ms = input.byte() - 1;
  made.step = input.byte() % 4 == 0 ? std::string() : step_of(input);
  made.at = input.byte();
  made.due_at = input.byte() - 1;
  made.open_waits = input.byte() % 4;
  made.topic = topic_of(input);
  made.payload = input.text();
  if (made.kind == InputKind::kChildRequested) made.creation = Creation{50 + input.byte(), {}};
  if (made.kind == InputKind::kMessage) made.message = Message{input.byte(), 7, topic_of(input), {}, input.text(), 0};
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  testing::FuzzInput input(bytes, count);
  RunMachine machine(history_of(input), static_cast<uint64_t>(input.byte()));
  while (!input.is_empty()) {
    const bool was_done = machine.is_done();
    const int64_t seq = machine.next_seq();
    const Decision decision = machine.decide(input_of(input), input.byte());
    const bool is_silent = decision.events.empty() && !decision.end && !decision.park && decision.commands.empty();
    STEPWELL_CHECK(!was_done || (!decision.status.is_ok() && is_silent), "an ended run says nothing more");
    STEPWELL_CHECK(decision.status.is_ok() || is_silent, "a refusal decides nothing");
    STEPWELL_CHECK(machine.next_seq() == seq + static_cast<int64_t>(decision.events.size()), "events are counted");
    STEPWELL_CHECK(machine.is_done() == (was_done || decision.end || decision.park), "an end is an end");
  }
  return 0;
}
