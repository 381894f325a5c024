// StoreAsks: asks a store and waits for the answer, for tests. Short makers of transitions beside it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "contract/test_loop.h"
#include "stepwell/retention.h"
#include "stepwell/store.h"

namespace stepwell::testing {

inline Transition creation(RunId run, std::string input = "in", std::string key = "", uint64_t fingerprint = 0) {
  Transition transition;
  transition.run = run;
  transition.at = 1000 + run;
  transition.create = std::make_unique<NewRun>();
  transition.create->workflow = "triage";
  transition.create->queue = "default";
  transition.create->key = std::move(key);
  transition.create->fingerprint = fingerprint;
  transition.create->input = std::move(input);
  return transition;
}

inline Event step_event(std::string step, std::string payload, EventKind kind = EventKind::kStepSucceeded) {
  Event event;
  event.kind = kind;
  event.step = std::move(step);
  event.payload = std::move(payload);
  event.at = 5000;
  return event;
}

inline Transition recording(RunId run, LeaseToken token, int64_t first_seq, std::vector<Event> events) {
  Transition transition;
  transition.run = run;
  transition.token = token;
  transition.first_seq = first_seq;
  transition.at = 6000;
  transition.events = std::move(events);
  return transition;
}

inline Transition ending(RunId run, LeaseToken token, int64_t first_seq = 0, std::string result = "out",
                         RunStatus status = RunStatus::kSucceeded) {
  Transition transition = recording(run, token, first_seq, {});
  transition.at = 7000;
  transition.end = RunEnd{status, std::move(result)};
  return transition;
}

inline Transition parking(RunId run, LeaseToken token, WallMs wake_at = -1, int64_t message_count_known = 0,
                          bool is_paused = false) {
  Transition transition = recording(run, token, 0, {});
  transition.park = Park{wake_at, message_count_known, is_paused};
  return transition;
}

inline Creation child_of(RunId parent, std::string step, RunId child) {
  Creation made{child, std::move(*creation(child).create)};
  made.request.parent = parent;
  made.request.parent_step = std::move(step);
  return made;
}

inline Message message_to(RunId run, int64_t id, std::string topic, std::string payload = "", std::string key = "") {
  return Message{id, run, std::move(topic), std::move(key), std::move(payload), 8000};
}

inline Transition telling(Message message) {
  Transition transition;
  transition.run = message.to;
  transition.at = message.at;
  transition.message = std::make_unique<Message>(std::move(message));
  return transition;
}

template <typename... Transitions>
std::vector<Transition> batch(Transitions... transitions) {
  std::vector<Transition> many;
  (many.push_back(std::move(transitions)), ...);
  return many;
}

// Bytes that nothing compresses; the same for the same seed.
inline std::string noise(size_t bytes, uint64_t seed = 1) {
  std::string text(bytes, '\0');
  for (char& each : text) each = static_cast<char>(detail::next_random(seed) >> 32U);
  return text;
}

class StoreAsks {
 public:
  StoreAsks(TestLoop& loop, Store& store) : loop_(loop), store_(store) {}

  std::vector<CommitAnswer> commit(std::vector<Transition> transitions) {
    return wait<std::vector<CommitAnswer>>([&](auto done) { store_.commit(std::move(transitions), std::move(done)); });
  }
  CommitAnswer commit_one(Transition transition) { return std::move(commit(batch(std::move(transition))).front()); }
  Result<std::vector<RunHistory>> claim(ClaimRequest request) {
    auto answer = wait<Result<ClaimAnswer>>([&](auto done) { store_.claim(std::move(request), std::move(done)); });
    if (!answer) return answer.error();
    return std::move(answer->runs);
  }
  // Owner 1, at time 10'000, leased until 20'000.
  std::vector<RunHistory> claim(int32_t count_max, const std::string& queue = "default") {
    return claim(ClaimRequest{queue, count_max, 1, 10'000, 20'000}).value();
  }
  Result<RunHistory> load(RunId run) {
    return wait<Result<RunHistory>>([&](auto done) { store_.load(run, std::move(done)); });
  }
  Status renew(OwnerId owner, WallMs until) {
    return wait<Status>([&](auto done) { store_.renew(owner, until, std::move(done)); });
  }
  DueAnswer due(WallMs now, int64_t count_max = 100) {
    return wait<Result<DueAnswer>>([&](auto done) { store_.due(now, count_max, std::move(done)); }).value();
  }
  Result<QueueView> look(const std::string& queue = "default") {
    return wait<Result<QueueView>>([&](auto done) { store_.look(queue, std::move(done)); });
  }
  Result<int64_t> depth(const std::string& queue = "default") {
    const Result<QueueView> view = look(queue);
    return view ? Result<int64_t>(view.value().queued_count) : Result<int64_t>(view.error());
  }
  Status set_limits(const QueueLimits& limits, const std::string& queue = "default") {
    return wait<Status>([&](auto done) { store_.set_limits(queue, limits, std::move(done)); });
  }
  std::vector<Document> documents(const std::string& kind, const std::string& name = {}) {
    return wait<Result<std::vector<Document>>>([&](auto done) { store_.documents(kind, name, std::move(done)); })
        .value();
  }
  std::vector<BudgetRow> budgets(const std::string& name) {
    return wait<Result<std::vector<BudgetRow>>>([&](auto done) { store_.budgets(name, std::move(done)); }).value();
  }
  Result<ClaimAnswer> claim_at(WallMs now, int32_t count_max) {
    ClaimRequest request{"default", count_max, 1, now, now + 1'000'000};
    return wait<Result<ClaimAnswer>>([&](auto done) { store_.claim(std::move(request), std::move(done)); });
  }
  Result<std::vector<RunHistory>> find(FindRequest request) {
    return wait<Result<std::vector<RunHistory>>>([&](auto done) { store_.find(std::move(request), std::move(done)); });
  }
  Result<PruneAnswer> prune(const PruneRequest& request) {
    return wait<Result<PruneAnswer>>([&](auto done) { store_.prune(request, std::move(done)); });
  }
  Result<BackupProgress> backup(const BackupSlice& slice) {
    return wait<Result<BackupProgress>>([&](auto done) { store_.backup(slice, std::move(done)); });
  }
  Status close() {
    return wait<Status>([&](auto done) { store_.close(std::move(done)); });
  }

 private:
  template <typename Answer, typename Ask>
  Answer wait(Ask ask) {
    std::optional<Answer> answer;
    ask([&answer](Answer given) { answer.emplace(std::move(given)); });
    if (!loop_.run_until([&] { return answer.has_value(); })) std::abort();  // a store that never answers
    return std::move(*answer);
  }

  TestLoop& loop_;
  Store& store_;
};

}  // namespace stepwell::testing
