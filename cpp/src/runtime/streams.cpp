#include "runtime/streams.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "engine/judge.h"

namespace stepwell::detail {

namespace {

// Text waits so long for company on its way to the store, unless there is much of it.
constexpr int64_t kKeepMs = 50;
constexpr size_t kKeepBytes = 4 << 10;
// On its way to the workflow it waits only when there are so many streams that each turn costs more than it brings.
constexpr size_t kQuietStreams = 64;
constexpr int64_t kTellMsMax = 50;
// A peer has said its last word; so long its connection may take to end well, and be used again.
constexpr int64_t kEndMs = 250;
constexpr size_t kAnswerBytesMax = 64 << 10;

}  // namespace

bool LiveStream::take(const HttpResponse& answer, std::string_view bytes) {
  if (owner == nullptr || !reader) return false;
  if (body_bytes == 0) head = answer.headers;
  body_bytes += static_cast<int64_t>(bytes.size());
  reader->take(bytes);
  if (body_bytes > rule.body_bytes_max) {
    reader->fail(code::kHttpTooLarge, "the stream is larger than " + std::to_string(rule.body_bytes_max) + " bytes");
  }
  owner->stir(*this);
  return reader->state() != StreamState::kFailed;
}

Streams::Streams(Loop& loop, Store& store, StreamHost& host)
    : loop_(loop), store_(store), host_(host), self_(std::make_shared<Streams*>(this)) {}

Streams::~Streams() {
  *self_ = nullptr;
  for (auto& [key, stream] : live_) {
    stream->owner = nullptr;
    stream->begun = {};
    stream->give_up = {};
  }
}

std::shared_ptr<LiveStream> Streams::open(RunId run, LeaseToken token, const std::string& step, const StreamRule& rule,
                                          const KeptStream* kept) {
  std::shared_ptr<LiveStream>& stream = live_[{run, step}];
  if (!stream || stream->token != token) {
    stream = std::make_shared<LiveStream>();
    stream->owner = this;
    stream->run = run;
    stream->token = token;
    stream->step = step;
    if (kept != nullptr) stream->text = StreamText(kept->generation, kept->text);
  }
  stream->rule = rule;
  return stream;
}

void Streams::begin_attempt(LiveStream& stream, MoveFunction<void(const HttpHeaders& head)> begun,
                            MoveFunction<void()> give_up) {
  stream.reader = std::make_unique<StreamReader>(stream.rule);
  stream.text.begin_attempt();
  stream.body_bytes = 0;
  stream.heard_count = 0;
  stream.is_silent = false;
  stream.begun = std::move(begun);
  stream.give_up = std::move(give_up);
  stream.heard_at_ms = loop_.now_ms();
  watch_silence(stream, stream.rule.idle_ms_max);
}

Payload Streams::end_attempt(const std::shared_ptr<LiveStream>& stream, bool is_success) {
  if (stream->watch != 0) loop_.cancel(std::exchange(stream->watch, 0));
  stream->give_up = {};
  if (stream->owner == nullptr || !stream->reader) return {};
  drain(*stream);
  const std::unique_ptr<StreamReader> reader = std::move(stream->reader);
  stream->begun = {};
  if (!is_success) return {};
  stream->text.end_attempt();
  return R"({"text":)" + json_quote(stream->text.text()) + R"(,"generation":)" +
         std::to_string(stream->text.generation()) + R"(,"events":)" + reader->events() + "}";
}

LiveStream* Streams::find(RunId run, const std::string& step) {
  const auto found = live_.find({run, step});
  return found == live_.end() ? nullptr : found->second.get();
}

std::shared_ptr<LiveStream> Streams::shared(LiveStream& stream) {
  const auto found = live_.find({stream.run, stream.step});
  return found == live_.end() || found->second.get() != &stream ? nullptr : found->second;
}

// -- from the transport -----------------------------------------------------------------------------------------------

void Streams::stir(LiveStream& stream) {
  if (std::exchange(stream.is_stirred, true)) return;
  if (auto kept = shared(stream)) {
    stirred_.push_back(std::move(kept));
    schedule(!stream.text.has_told() || stream.reader->state() != StreamState::kOpen);
  }
}

void Streams::schedule(bool is_urgent) {
  if (is_turn_posted_) return;
  if (is_urgent || live_.size() <= kQuietStreams) {
    is_turn_posted_ = true;
    if (turn_timer_ != 0) loop_.cancel(std::exchange(turn_timer_, 0));
    loop_.post([this, self = self_] {
      if (*self == nullptr) return;
      is_turn_posted_ = false;
      turn();
    });
  } else if (turn_timer_ == 0) {
    const auto delay_ms = std::min(kTellMsMax, static_cast<int64_t>(live_.size() / 4));
    turn_timer_ = loop_.after(delay_ms, [this, self = self_] {
      if (*self == nullptr) return;
      turn_timer_ = 0;
      turn();
    });
  }
}

void Streams::turn() {
  for (const std::shared_ptr<LiveStream>& stream : std::exchange(stirred_, {})) {
    stream->is_stirred = false;
    if (stream->owner == nullptr || !stream->reader) continue;
    drain(*stream);
    if (stream->reader->state() == StreamState::kEnded) end_soon(*stream);
  }
  keep_what_is_due(/*is_tick=*/false);
  host_.flush_all();
}

void Streams::drain(LiveStream& stream) {
  const bool is_heard = stream.reader->event_count() > stream.heard_count;
  if (is_heard) {
    stream.heard_count = stream.reader->event_count();
    stream.heard_at_ms = loop_.now_ms();
  }
  const std::string piece = stream.reader->take_text();
  if (!piece.empty()) {
    stream.text.add(piece);
    tell(stream);
  }
  if (is_heard && stream.begun) std::exchange(stream.begun, {})(stream.head);
}

void Streams::tell(LiveStream& stream) {
  StreamText::Piece piece = stream.text.take_untold();
  if (piece.text.empty()) return;
  Item item;
  item.kind = ItemKind::kStreamPiece;
  item.run = stream.run;
  item.text = stream.step;
  item.generation = piece.generation;
  item.offset = piece.offset;
  item.payload = std::move(piece.text);
  host_.hand_out(std::move(item));
}

// The call is ended from the loop, never from inside the transport. Its outcome comes in any case.
void Streams::end_soon(LiveStream& stream) {
  if (stream.watch != 0) loop_.cancel(stream.watch);
  stream.watch = loop_.after(kEndMs, [weak = std::weak_ptr<LiveStream>(shared(stream))] {
    const auto held = weak.lock();
    if (!held) return;
    held->watch = 0;
    if (held->give_up) held->give_up();
  });
}

// Bytes are no sign of life: a peer that only keeps the connection open sends comments.
void Streams::watch_silence(LiveStream& stream, int64_t delay_ms) {
  if (stream.watch != 0) loop_.cancel(stream.watch);
  stream.watch = loop_.after(delay_ms, [this, self = self_, weak = std::weak_ptr<LiveStream>(shared(stream))] {
    const auto held = weak.lock();
    if (*self == nullptr || !held) return;
    held->watch = 0;
    if (!held->reader || !held->give_up) return;
    const int64_t left = held->heard_at_ms + held->rule.idle_ms_max - loop_.now_ms();
    if (left > 0 || held->is_stirred) {
      watch_silence(*held, std::max<int64_t>(left, 1));
      return;
    }
    held->is_silent = true;
    held->give_up();
  });
}

// -- to the store -----------------------------------------------------------------------------------------------------

// A stream's first text and a large one go at once; the rest waits for the tick, and for the commit before.
void Streams::keep_what_is_due(bool is_tick) {
  bool is_any_left = false;
  for (auto& [key, stream] : live_) {
    const size_t bytes = stream->text.unkept_bytes();
    if (bytes == 0 || !stream->reader) continue;  // between attempts, or about to be recorded
    const bool is_due = is_tick || !stream->text.has_kept() || bytes >= kKeepBytes;
    if (!is_due || stream->is_keeping) {
      is_any_left = true;
      continue;
    }
    StreamText::Piece piece = stream->text.take_unkept();
    stream->is_keeping = host_.keep(stream, {stream->step, piece.generation, piece.offset, std::move(piece.text)});
    keeping_count_ += stream->is_keeping ? 1 : 0;
  }
  if (is_any_left) arm_keeping();
}

void Streams::arm_keeping() {
  if (keep_timer_ != 0) return;
  keep_timer_ = loop_.after(kKeepMs, [this, self = self_] {
    if (*self == nullptr) return;
    keep_timer_ = 0;
    if (keeping_count_ > 0) {  // the disk is slower than the tick: larger batches
      arm_keeping();
      return;
    }
    keep_what_is_due(/*is_tick=*/true);
    host_.flush_all();
  });
}

void Streams::commit_done(LiveStream& stream, bool ok, int64_t generation, int64_t end) {
  --keeping_count_;
  stream.is_keeping = false;
  if (stream.owner == nullptr || !ok) return;
  stream.text.commit_done(generation, end);
  wake(stream);
}

// -- to readers outside -----------------------------------------------------------------------------------------------

void Streams::recorded(RunId run, const std::string& step, bool ok, const Payload& payload) {
  if (live_.empty() && waiting_.empty()) return;
  if (LiveStream* stream = find(run, step)) {
    stream->owner = nullptr;
    live_.erase({run, step});
  }
  for (const StreamAsk& ask : take_waiting(run, &step)) {
    answer(ask, ok ? StreamStanding::kRecorded : StreamStanding::kFailed, {0, 0, payload});
  }
}

void Streams::run_ended(RunId run) {
  for (StreamAsk& ask : take_waiting(run, nullptr)) read(std::move(ask));
}

void Streams::let_go(RunId run) {
  for (auto next = live_.lower_bound({run, {}}); next != live_.end() && next->first.first == run;) {
    LiveStream& stream = *next->second;
    stream.owner = nullptr;
    stream.begun = {};
    stream.give_up = {};
    if (stream.watch != 0) loop_.cancel(std::exchange(stream.watch, 0));
    next = live_.erase(next);
  }
}

void Streams::read(StreamAsk ask) {
  if (const LiveStream* stream = find(ask.run, ask.step)) {
    if (!answer_from(*stream, ask)) wait(std::move(ask));
    return;
  }
  // Completions come in order: if the step is recorded after this look, `recorded` comes after the ask is in place.
  const RunId run = ask.run;
  store_.load(run, [this, self = self_, ask = std::move(ask)](Result<RunHistory> found) mutable {
    if (*self == nullptr) return;
    if (!found) {
      answer(ask, StreamStanding::kNoRun, {});
    } else if (find(ask.run, ask.step) != nullptr) {
      read(std::move(ask));
    } else if (const Status& damage = found->row.damage; !damage.is_ok()) {
      answer(ask, StreamStanding::kFailed, {0, 0, error_payload(damage.code(), damage.message(), 0, false)});
    } else {
      answer_from(*found, ask);
    }
    host_.flush_all();
  });
}

bool Streams::answer_from(const LiveStream& stream, const StreamAsk& ask) {
  StreamText::Piece piece = stream.text.shown(ask.generation, ask.offset, kAnswerBytesMax);
  if (piece.text.empty()) return false;
  answer(ask, StreamStanding::kText, std::move(piece));
  return true;
}

void Streams::answer_from(const RunHistory& history, const StreamAsk& ask) {
  for (const Event& event : history.events) {
    const bool ok = event.kind == EventKind::kStepSucceeded;
    if (event.step != ask.step || (!ok && event.kind != EventKind::kStepFailed)) continue;
    if (ok) {
      answer(ask, StreamStanding::kRecorded, {0, 0, event.payload});
      return;
    }
  }
  for (const KeptStream& kept : history.streams) {
    if (kept.step != ask.step) continue;
    StreamText::Piece piece =
        StreamText::part_of(kept.generation, kept.text, ask.generation, ask.offset, kAnswerBytesMax);
    if (piece.text.empty()) continue;
    answer(ask, StreamStanding::kText, std::move(piece));
    return;
  }
  for (const Event& event : history.events) {
    if (event.step != ask.step || event.kind != EventKind::kStepFailed) continue;
    answer(ask, StreamStanding::kFailed, {0, 0, event.payload});
    return;
  }
  if (is_final(history.row.status)) {
    answer(ask, StreamStanding::kRunEnded, {0, 0, history.row.result});
  } else {
    wait(ask);
  }
}

void Streams::answer(const StreamAsk& ask, StreamStanding standing, StreamText::Piece piece) {
  Item item;
  item.kind = ItemKind::kStreamText;
  item.channel = channel_of(ask.ticket);
  item.ticket = ask.ticket;
  item.standing = standing;
  item.generation = piece.generation;
  item.offset = piece.offset;
  item.payload = std::move(piece.text);
  host_.hand_out(std::move(item));
}

void Streams::wait(StreamAsk ask) {
  Waiting waiting;
  const RunId run = ask.run;
  const uint64_t ticket = ask.ticket;
  waiting.ask = std::move(ask);
  waiting.patience = loop_.after(std::max<int64_t>(waiting.ask.patience_ms, 1), [this, self = self_, run, ticket] {
    if (*self == nullptr) return;
    const auto found = waiting_.find(run);
    if (found == waiting_.end()) return;
    std::vector<Waiting>& all = found->second;
    const auto each =
        std::find_if(all.begin(), all.end(), [ticket](const Waiting& w) { return w.ask.ticket == ticket; });
    if (each == all.end()) return;
    answer(each->ask, StreamStanding::kNothing, {});
    all.erase(each);
    if (all.empty()) waiting_.erase(found);
    host_.flush_all();
  });
  waiting_[run].push_back(std::move(waiting));
}

void Streams::wake(const LiveStream& stream) {
  for (StreamAsk& ask : take_waiting(stream.run, &stream.step)) {
    if (!answer_from(stream, ask)) wait(std::move(ask));
  }
}

std::vector<StreamAsk> Streams::take_waiting(RunId run, const std::string* step) {
  std::vector<StreamAsk> taken;
  const auto found = waiting_.find(run);
  if (found == waiting_.end()) return taken;
  std::erase_if(found->second, [&](Waiting& waiting) {
    if (step != nullptr && waiting.ask.step != *step) return false;
    loop_.cancel(waiting.patience);
    taken.push_back(std::move(waiting.ask));
    return true;
  });
  if (found->second.empty()) waiting_.erase(found);
  return taken;
}

}  // namespace stepwell::detail
