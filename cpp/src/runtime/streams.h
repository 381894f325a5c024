// Streams: what the streams of this engine's runs bring, on its way to the workflow (at once), to the store (in
// batches, many streams a commit) and to readers outside (what is committed, from memory or from the store).
//
// Loop thread only. Nothing is pushed to readers: each asks for the next part, and a slow one asks later. The transport
// calls LiveStream::take from inside; all else follows in a turn of its own.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/stream_reader.h"
#include "engine/stream_text.h"
#include "stepwell/http.h"
#include "stepwell/loop.h"
#include "stepwell/runtime.h"
#include "stepwell/store.h"

namespace stepwell::detail {

class Streams;

// One step's stream, while its run is driven here.
struct LiveStream {
  // False when the rest of the body is not wanted.
  bool take(const HttpResponse& head, std::string_view bytes);

  Streams* owner = nullptr;  // null once the run has been let go
  RunId run = 0;
  LeaseToken token = 0;
  std::string step;
  StreamRule rule;
  StreamText text;
  std::unique_ptr<StreamReader> reader;  // of the attempt under way
  int64_t body_bytes = 0;
  int64_t heard_at_ms = 0;
  int64_t heard_count = 0;
  bool is_stirred = false;
  bool is_silent = false;  // given up: no event for too long
  bool is_keeping = false;
  TimerId watch = 0;
  HttpHeaders head;                                   // of the attempt's answer
  MoveFunction<void(const HttpHeaders& head)> begun;  // until its first event
  MoveFunction<void()> give_up;                       // ends the attempt's call
};

// What Streams needs of the dispatcher.
class StreamHost {
 public:
  // Puts the part into the next commit, and says Streams::commit_done when it is there.
  // False: the run takes nothing any more.
  virtual bool keep(const std::shared_ptr<LiveStream>& stream, StreamPart part) = 0;
  // For the run's worker, or (a ticket) for whoever asked.
  virtual void hand_out(Item item) = 0;
  virtual void flush_all() = 0;

 protected:
  ~StreamHost() = default;
};

class Streams {
 public:
  Streams(Loop& loop, Store& store, StreamHost& host);
  ~Streams();
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  // The step's stream; `kept` is what the store had of it when the run was taken up, if anything.
  std::shared_ptr<LiveStream> open(RunId run, LeaseToken token, const std::string& step, const StreamRule& rule,
                                   const KeptStream* kept);
  // An attempt's call was sent. `begun` hears when its first event is there, `give_up` ends it.
  void begin_attempt(LiveStream& stream, MoveFunction<void(const HttpHeaders& head)> begun,
                     MoveFunction<void()> give_up);
  // The attempt's outcome is known: takes in what is left. A success is answered with what the step is recorded with.
  Payload end_attempt(const std::shared_ptr<LiveStream>& stream, bool is_success);
  void stir(LiveStream& stream);
  // A part that was kept is committed up to `end`, or (not ok) is not.
  void commit_done(LiveStream& stream, bool ok, int64_t generation, int64_t end);

  // The step was recorded, and is committed.
  void recorded(RunId run, const std::string& step, bool ok, const Payload& payload);
  void run_ended(RunId run);
  // The run is driven here no longer.
  void let_go(RunId run);

  void read(StreamAsk ask);

 private:
  struct Waiting {
    StreamAsk ask;
    TimerId patience = 0;
  };

  LiveStream* find(RunId run, const std::string& step);
  std::shared_ptr<LiveStream> shared(LiveStream& stream);
  void schedule(bool is_urgent);
  void turn();
  void drain(LiveStream& stream);
  void tell(LiveStream& stream);
  void keep_what_is_due(bool is_tick);
  void arm_keeping();
  void watch_silence(LiveStream& stream, int64_t delay_ms);
  void end_soon(LiveStream& stream);
  bool answer_from(const LiveStream& stream, const StreamAsk& ask);
  void answer_from(const RunHistory& history, const StreamAsk& ask);
  void answer(const StreamAsk& ask, StreamStanding standing, StreamText::Piece piece);
  void wait(StreamAsk ask);
  void wake(const LiveStream& stream);
  std::vector<StreamAsk> take_waiting(RunId run, const std::string* step);

  Loop& loop_;
  Store& store_;
  StreamHost& host_;
  std::shared_ptr<Streams*> self_;
  std::map<std::pair<RunId, std::string>, std::shared_ptr<LiveStream>> live_;
  std::vector<std::shared_ptr<LiveStream>> stirred_;
  bool is_turn_posted_ = false;
  TimerId turn_timer_ = 0;
  TimerId keep_timer_ = 0;
  int64_t keeping_count_ = 0;  // commits under way
  std::unordered_map<RunId, std::vector<Waiting>> waiting_;
};

}  // namespace stepwell::detail
