// Items: what an engine hands out to its host, in batches, and the questions that some of them answer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "stepwell/history.h"
#include "stepwell/http.h"
#include "stepwell/status.h"
#include "stepwell/types.h"

namespace stepwell {

// Where items go: 0 is taken from with poll by one thread that waits; the others wake an event loop of the host. A
// ticket names its channel in its upper 8 bits.
using ChannelId = uint8_t;
constexpr ChannelId channel_of(uint64_t ticket) { return static_cast<ChannelId>(ticket >> 56U); }

struct StartAnswer {
  Status status;
  RunId run = 0;
  bool attached = false;  // the key was known; below is that run as it stands
  RunStatus run_status = RunStatus::kQueued;
  Payload result;
};

enum class ItemKind : uint8_t {
  kActivate = 0,     // drive this run: workflow, payload (input), history
  kStepAnswer = 1,   // run, step, ok, payload, attempt: recorded; hand it to whoever awaits it
  kAttempt = 2,      // run, step, attempt: try the step again now
  kStop = 3,         // run: drop the activation, its result is no longer wanted
  kRunFinished = 4,  // ticket, run, run_status, payload; ok: it ended now, not before it was asked for
  kStarted = 5,      // ticket of start_async: answers
  kHttp = 6,         // ticket of send: outcome
  kPause = 7,        // run; ok: begin no further step, and report kPark when all that is under way has been answered;
                     // not ok: go on after all
  kCallHeld = 8,     // run, step, due_at (-1: none), payload (topic): the call was not sent; wait for either in the
                     // store, then report kCall anew
  kStreamPiece = 9,  // run, step, generation, offset, payload: text of a stream that goes on
  kStreamText = 10,  // ticket of read_stream: standing, generation, offset, payload
};

// Where the stream of a step stands for one who reads it from outside.
enum class StreamStanding : uint8_t {
  kText = 0,      // generation, offset, payload: committed text from there on
  kRecorded = 1,  // payload: what the step was recorded with
  kFailed = 2,    // payload: the step's error
  kRunEnded = 3,  // and this step was never recorded
  kNoRun = 4,     // there is no such run
  kNothing = 5,   // nothing new within the reader's patience
};

// A reader's question: what is there of a stream from `offset` on? Answered when there is something.
struct StreamAsk {
  RunId run = 0;
  std::string step;
  int64_t generation = 0;  // that the offset is of; 0: whichever there is
  int64_t offset = 0;      // in bytes of UTF-8
  int64_t patience_ms = 15'000;
  uint64_t ticket = 0;
};

struct Item {
  ItemKind kind = ItemKind::kActivate;
  ChannelId channel = 0;
  bool ok = true;
  RunStatus run_status = RunStatus::kRunning;
  int32_t attempt = 1;
  RunId run = 0;
  uint64_t ticket = 0;
  LeaseToken token = 0;  // kActivate: the claim it belongs to
  std::string text;      // workflow, or step
  std::string budgets;   // kActivate: see NewRun
  WallMs due_at = -1;
  StreamStanding standing = StreamStanding::kText;
  int64_t generation = 0;
  int64_t offset = 0;
  Payload payload;
  std::vector<Event> history;
  std::unique_ptr<std::vector<StartAnswer>> answers;
  std::unique_ptr<HttpOutcome> outcome;
};

}  // namespace stepwell
