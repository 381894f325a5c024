// The dispatcher's part for runs that wait in the store: what they are told, and when their time has come.
#include <algorithm>
#include <utility>

#include "runtime/dispatcher.h"

namespace stepwell::detail {

namespace {
constexpr int64_t kDueCountMax = 1'000;
}  // namespace

void Dispatcher::read_wait(Report& report, Input& input) {
  switch (report.kind) {
    case ReportKind::kWait:
      input.kind = InputKind::kWaitRequested;
      input.topic = std::move(report.topic);
      input.due_at = report.due_at;
      return;
    case ReportKind::kChild:
      input.kind = InputKind::kChildRequested;
      input.creation = Creation{next_run_id(), std::move(*report.child)};
      return;
    case ReportKind::kPark:
      input.kind = InputKind::kParkRequested;
      input.open_waits = report.open_waits;
      return;
    default:
      input.kind = InputKind::kWaitDropped;
  }
}

void Dispatcher::tell(Message message, StatusDone done) {
  message.id = next_run_id();
  message.at = loop_.wall_ms();
  Transition transition;
  transition.run = message.to;
  transition.at = message.at;
  Continuation continuation;
  continuation.run = message.to;
  continuation.done = std::move(done);
  continuation.messages.push_back(message);
  transition.message = std::make_unique<Message>(std::move(message));
  transitions_.push_back(std::move(transition));
  continuations_.push_back(std::move(continuation));
  flush();
}

// After the commit: whoever is in memory hears it now; the others are queued and claimed.
void Dispatcher::pass_on(std::vector<Message>& messages) {
  bool is_elsewhere = false;
  for (Message& message : messages) {
    const auto found = active_.find(message.to);
    if (found == active_.end()) {
      is_elsewhere = true;
      continue;
    }
    Input input;
    input.kind = InputKind::kMessage;
    input.message = std::move(message);
    feed(found->first, *found->second, std::move(input));
  }
  if (is_elsewhere) look_everywhere();
  schedule_flush();
}

// Another engine may have told one of our runs something.
void Dispatcher::look_for_messages() {
  if (active_.empty() || is_closing_) return;
  store_.messages(options_.owner, [this, self = self_](Result<std::vector<Message>> found) {
    if (*self == nullptr || !found) return;
    std::erase_if(*found, [this](const Message& message) { return !active_.contains(message.to); });
    if (!found->empty()) pass_on(*found);
  });
}

void Dispatcher::look_everywhere() {
  for (auto& [name, queue] : queues_) {
    queue->has_backlog = true;
    claim_more(*queue);
  }
}

void Dispatcher::wake_by(WallMs at) {
  if (at < 0 || (wake_at_ >= 0 && wake_at_ <= at)) return;
  if (wake_timer_ != 0) loop_.cancel(wake_timer_);
  wake_at_ = at;
  wake_timer_ = loop_.after(std::max<int64_t>(at - loop_.wall_ms(), 0), [this, self = self_] {
    if (*self == nullptr) return;
    wake_timer_ = 0;
    wake_at_ = -1;
    look_for_due();
  });
}

void Dispatcher::look_for_due() {
  if (is_looking_for_due_ || is_closing_) return;
  is_looking_for_due_ = true;
  store_.due(loop_.wall_ms(), kDueCountMax, [this, self = self_](Result<DueAnswer> answer) {
    if (*self == nullptr) return;
    is_looking_for_due_ = false;
    if (!answer) return;  // the store is poisoned; every later write says so
    if (answer->queued_count > 0) look_everywhere();
    if (answer->queued_count == kDueCountMax) {
      look_for_due();
    } else {
      wake_by(answer->next_at);
    }
  });
}

}  // namespace stepwell::detail
