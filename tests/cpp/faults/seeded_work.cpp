// Draws the calls: what a busy engine does with its store, in groups and one by one.
#include "faults/seeded_work.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/random.h"
#include "contract/store_asks.h"
#include "store/memory_store.h"

namespace stepwell::testing {

namespace {

constexpr WallMs kNow = 1'000'000;
constexpr WallMs kLeaseUntil = WallMs{1} << 50;  // here leases end with their engine only

Transition copy_of(const Transition& from) {
  Transition to;
  to.run = from.run;
  to.token = from.token;
  to.first_seq = from.first_seq;
  to.at = from.at;
  to.events = from.events;
  to.end = from.end;
  to.release = from.release;
  to.park = from.park;
  to.taken = from.taken;
  to.messages = from.messages;
  to.creations = from.creations;
  if (from.create) to.create = std::make_unique<NewRun>(*from.create);
  if (from.message) to.message = std::make_unique<Message>(*from.message);
  return to;
}

class Digest {
 public:
  Digest& add(int64_t number) {
    value_ = (value_ ^ static_cast<uint64_t>(number)) * 0x9E3779B97F4A7C15ULL;
    value_ ^= value_ >> 29U;
    return *this;
  }
  Digest& add(const std::string& bytes) {
    add(static_cast<int64_t>(bytes.size()));
    return add(static_cast<int64_t>(std::hash<std::string_view>()(bytes)));
  }
  [[nodiscard]] uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0x5357;
};

uint64_t digest_of(const RunHistory& history) {
  const RunRow& row = history.row;
  // Opening a store frees the leases of the engine before.
  const RunStatus status = row.status == RunStatus::kRunning ? RunStatus::kQueued : row.status;
  Digest digest;
  digest.add(row.run).add(static_cast<int64_t>(status)).add(row.token).add(row.claims).add(row.event_count);
  digest.add(row.workflow).add(row.queue).add(row.key).add(row.input).add(row.result);
  digest.add(row.created_at).add(row.finished_at).add(row.priority).add(row.wake_at).add(row.deadline_at);
  digest.add(row.parent).add(row.parent_step).add(row.version).add(row.sla_at).add(row.sla_ms).add(row.breach_flow);
  for (const Event& event : history.events) {
    digest.add(static_cast<int64_t>(event.kind)).add(event.attempt).add(event.step).add(event.at).add(event.payload);
  }
  for (const Message& message : history.messages) {
    digest.add(message.id).add(message.topic).add(message.key).add(message.at).add(message.payload);
  }
  return digest.value();
}

}  // namespace

std::vector<Transition> copy_of(const std::vector<Transition>& transitions) {
  std::vector<Transition> copies;
  copies.reserve(transitions.size());
  for (const Transition& each : transitions) copies.push_back(copy_of(each));
  return copies;
}

std::string describe(const std::vector<CommitAnswer>& answers) {
  std::string text;
  for (const CommitAnswer& answer : answers) {
    text += answer.status.to_string() + (answer.is_known ? " known;" : ";");
    if (answer.attached) text += "attached to " + run_name(answer.attached->run) + ";";
  }
  return text;
}

std::string describe(const std::vector<RunHistory>& claimed) {
  std::string text;
  for (const RunHistory& each : claimed) text += run_name(each.row.run) + " " + std::to_string(each.row.token) + ";";
  return text;
}

std::string describe(const DueAnswer& answer) {
  return std::to_string(answer.queued_count) + " " + std::to_string(answer.next_at);
}

uint64_t digest_of(const std::vector<RunHistory>& all) {
  uint64_t sum = 0;
  for (const RunHistory& each : all) sum += digest_of(each);
  return sum;
}

// Asks the model for everything it must know, so it keeps no books of its own.
class SeededWork::Drawing {
 public:
  Drawing(uint64_t seed, WorkShape shape) : random_(seed), shape_(std::move(shape)), next_run_(shape_.first_run) {}

  WorkCall next() {
    all_ = table_.find(FindRequest{0, "", "", 1'000'000, true});
    WorkCall call;
    const int64_t choice = pick(10);
    if (choice == 0 && table_.look(shape_.queue).queued_count > 0) {
      call.kind = WorkCall::Kind::kClaim;
      call.claim = ClaimRequest{shape_.queue, static_cast<int32_t>(1 + pick(5)), 1, kNow, kLeaseUntil};
      call.answer = describe(table_.claim(call.claim).runs);
      return call;
    }
    if (choice == 1 && shape_.has_due && is_somebody_due()) {
      call.kind = WorkCall::Kind::kDue;
      call.now = kNow + 50;
      call.answer = describe(table_.due(call.now, 3));
      return call;
    }
    // The first one writes for certain, so that each call is one SQL transaction of its own.
    touched_.clear();
    call.transitions.push_back(draw_writing());
    const int64_t more = pick(3) == 0 ? pick(10) : 0;
    for (int64_t i = 0; i < more; ++i) call.transitions.push_back(pick(3) == 0 ? draw_idle() : draw_writing());
    std::vector<CommitAnswer> answers;
    for (Transition& each : copy_of(call.transitions)) answers.push_back(table_.apply(std::move(each)));
    call.answer = describe(answers);
    return call;
  }

  [[nodiscard]] uint64_t digest() const { return digest_of(table_.find(FindRequest{0, "", "", 1'000'000, true})); }

  std::vector<std::string> keys;

 private:
  int64_t pick(int64_t bound) { return detail::random_up_to(random_, bound - 1); }

  // Mostly small, up to 20 kB.
  std::string payload() {
    int64_t bytes = 10 + pick(150);
    if (pick(4) == 0) bytes *= 1 + pick(10);
    if (pick(16) == 0) bytes = 4'000 + pick(16'000);
    std::string made(static_cast<size_t>(bytes), static_cast<char>('a' + pick(26)));
    made[made.size() / 2] = static_cast<char>(pick(256));
    return made;
  }

  bool is_somebody_due() const {
    return std::any_of(all_.begin(), all_.end(), [](const RunHistory& each) {
      return each.row.status == RunStatus::kWaiting && each.row.wake_at >= 0 && each.row.wake_at <= kNow + 50;
    });
  }

  // A run that fits and that this call has not touched; each transition is drawn for the state before the call.
  template <typename Fits>
  const RunHistory* find(Fits fits) {
    std::vector<const RunHistory*> fitting;
    for (const RunHistory& each : all_) {
      if (fits(each.row) && std::find(touched_.begin(), touched_.end(), each.row.run) == touched_.end()) {
        fitting.push_back(&each);
      }
    }
    if (fitting.empty()) return nullptr;
    const RunHistory* found = fitting[static_cast<size_t>(pick(static_cast<int64_t>(fitting.size())))];
    touched_.push_back(found->row.run);
    return found;
  }

  static bool is_leased(const RunRow& row) { return row.status == RunStatus::kRunning; }
  static bool is_alive(const RunRow& row) { return !is_final(row.status); }

  Transition draw_writing() {
    const RunHistory* run = pick(4) == 0 ? nullptr : find(is_leased);
    if (run != nullptr) return draw_step(*run);
    if (pick(3) == 0) {
      if (const RunHistory* other = find(is_alive)) return telling(draw_message(other->row.run, pick(2) == 0));
    }
    return draw_creation();
  }

  // Refused, or known already: it must not disturb the others of its group.
  Transition draw_idle() {
    if (const RunHistory* run = pick(2) == 0 ? find(is_leased) : nullptr) {
      return recording(run->row.run, run->row.token + 1, run->row.event_count, {step_event("late", "x")});
    }
    if (const RunHistory* run = find([](const RunRow& row) { return !row.key.empty(); })) {
      Transition again = draw_creation();
      again.create->key = run->row.key;
      again.create->fingerprint = static_cast<uint64_t>(pick(2));
      return again;
    }
    return recording(shape_.first_run + 900'000, 1, 0, {step_event("nobody's", "x")});
  }

  Transition draw_creation() {
    Transition made = creation(next_run_++, payload());
    touched_.push_back(made.run);
    NewRun& asked = *made.create;
    asked.queue = shape_.queue;
    asked.priority = static_cast<int32_t>(pick(3));
    if (pick(3) == 0) asked.key = "key " + std::to_string(made.run);
    if (pick(5) == 0) asked.version = "v" + std::to_string(pick(3));
    if (pick(8) == 0) asked.deadline_at = kNow + 5'000;
    if (pick(8) == 0) asked.sla_at = kNow + (asked.sla_ms = 4'000);
    if (asked.sla_at >= 0 && pick(2) == 0) asked.breach_flow = "told";
    if (pick(6) == 0) {
      asked.wake_at = kNow + pick(100);
    } else if (pick(2) == 0) {
      asked.claimed_by = 1;
      made.at = kLeaseUntil;  // the model reckons the first lease from here
    }
    if (!asked.key.empty() && keys.size() < 3) keys.push_back(asked.key);
    return made;
  }

  Message draw_message(RunId to, bool has_key) {
    const int64_t id = shape_.first_run * 100 + ++message_count_;
    const std::string topic = pick(4) == 0 ? "resume" : "signal:go";
    return message_to(to, id, topic, payload(), has_key ? "once " + std::to_string(id) : "");
  }

  Transition draw_step(const RunHistory& history) {
    const RunRow& row = history.row;
    Transition step = recording(row.run, row.token, row.event_count, {});
    for (int64_t i = 1 + pick(3); i > 0; --i) {
      step.events.push_back(step_event("step " + std::to_string(row.event_count + i), payload()));
    }
    for (const Message& message : history.messages) {
      if (pick(2) == 0) step.taken.push_back(message.id);
    }
    if (pick(4) == 0) {
      const RunHistory* other = find(is_alive);
      if (other != nullptr) step.messages.push_back(draw_message(other->row.run, false));
    }
    if (pick(5) == 0) {
      Creation child = child_of(row.run, "child", next_run_++);
      child.request.queue = shape_.queue;
      child.request.input = payload();
      step.creations.push_back(std::move(child));
    }
    const int64_t what_then = pick(10);
    if (what_then < 3) {
      step.end = RunEnd{static_cast<RunStatus>(2 + pick(4)), payload()};
    } else if (what_then == 3) {
      step.park = Park{pick(2) == 0 ? -1 : kNow + pick(100), pick(2), pick(3) == 0};
    } else if (what_then == 4) {
      step.release = true;
    }
    return step;
  }

  uint64_t random_;
  const WorkShape shape_;
  RunId next_run_;
  int64_t message_count_ = 0;
  MemoryTable table_;
  std::vector<RunHistory> all_;
  std::vector<RunId> touched_;
};

SeededWork::SeededWork(uint64_t seed, const WorkShape& shape) {
  Drawing drawing(seed, shape);
  digests_.push_back(0);
  for (int i = 0; i < shape.call_count; ++i) {
    calls_.push_back(drawing.next());
    digests_.push_back(drawing.digest());
  }
  keys_ = std::move(drawing.keys);
}

SeededWork::~SeededWork() = default;

}  // namespace stepwell::testing
