// The dispatcher's part for streams: what Streams asks of it.
#include <algorithm>
#include <utility>

#include "runtime/dispatcher.h"

namespace stepwell::detail {

std::shared_ptr<LiveStream> Dispatcher::open_stream(RunId run, Active& active, const std::string& step,
                                                    const CallSpec& call) {
  if (!call.stream) return nullptr;
  const auto kept = std::find_if(active.kept_streams.begin(), active.kept_streams.end(),
                                 [&step](const KeptStream& each) { return each.step == step; });
  return streams_.open(run, active.token, step, *call.stream, kept == active.kept_streams.end() ? nullptr : &*kept);
}

bool Dispatcher::keep(const std::shared_ptr<LiveStream>& stream, StreamPart part) {
  const auto found = active_.find(stream->run);
  if (found == active_.end() || found->second->token != stream->token || found->second->machine.is_done()) return false;
  Transition transition;
  transition.run = stream->run;
  transition.token = stream->token;
  transition.first_seq = found->second->machine.next_seq();
  transition.at = loop_.wall_ms();
  Continuation continuation;
  continuation.run = stream->run;
  continuation.token = stream->token;
  continuation.stream = stream;
  continuation.stream_generation = part.generation;
  continuation.stream_end = part.offset + static_cast<int64_t>(part.text.size());
  transition.parts.push_back(std::move(part));
  transitions_.push_back(std::move(transition));
  continuations_.push_back(std::move(continuation));
  return true;
}

void Dispatcher::hand_out(Item item) {
  if (item.kind == ItemKind::kStreamPiece) {
    const auto found = active_.find(item.run);
    if (found == active_.end()) return;
    item.channel = found->second->queue->channel;
  }
  items_.push_back(std::move(item));
}

void Dispatcher::read_stream(StreamAsk ask) {
  streams_.read(std::move(ask));
  flush();
}

}  // namespace stepwell::detail
