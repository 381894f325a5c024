// Random calls, the same to each store: their answers must be the same too.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "contract/store_asks.h"
#include "contract/store_subjects.h"
#include "contract/test_loop.h"

namespace stepwell::testing {
namespace {

// The memory store is the model: the same random calls must give the same answers from each store.
class TwinStores {
 public:
  TwinStores(const std::string& folder, uint64_t seed) : random_(seed) {
    for (const StoreCase& store_case : store_cases()) {
      subjects_.push_back(store_case.make(folder));
      stores_.push_back(subjects_.back()->open(loop_));
    }
  }

  void step() {
    const uint64_t choice = detail::next_random(random_) % 12;
    if (choice < 5) {
      commit();
    } else if (choice == 11) {
      QueueLimits limits;
      limits.in_flight_max = pick(3) == 0 ? 1 + pick(9) : -1;
      limits.group_in_flight_max = pick(2) == 0 ? pick(3) : -1;
      limits.is_fair = pick(3) == 0;
      limits.is_paused = pick(8) == 0;
      if (pick(4) == 0) limits.rate_count = limits.rate_period_ms = 1 + pick(9);
      compare([&](StoreAsks& asks) { return asks.set_limits(limits).to_string(); });
    } else if (choice == 10) {
      const WallMs now = 900'000'000 + pick(50);
      compare([&](StoreAsks& asks) {
        const DueAnswer answer = asks.due(now, 3);
        return std::to_string(answer.queued_count) + " " + std::to_string(answer.next_at);
      });
    } else if (choice < 8) {
      const int32_t count_max = pick(4);
      claim_at_ += pick(3);
      compare([&](StoreAsks& asks) {
        const ClaimAnswer claimed = asks.claim_at(claim_at_, count_max).value();
        std::string seen = std::to_string(claimed.more_at) + "\n";
        for (const RunHistory& history : claimed.runs) {
          seen += show(history);
          known_[history.row.run] = history.row.token;
        }
        return seen;
      });
    } else {
      FindRequest request;
      if (pick(2) == 0) request.run = 1 + pick(60);
      if (pick(2) == 0) request.workflow = "triage";
      if (pick(3) == 0) request.key = "k" + std::to_string(pick(5));
      request.count_max = pick(6);
      request.is_breached = pick(4) == 0;
      request.before = pick(60);
      request.with_events = pick(2) == 0;
      compare([&](StoreAsks& asks) {
        const QueueView view = asks.look().value();
        std::string seen = std::to_string(view.queued_count) + " " + std::to_string(view.held_count) + " " +
                           std::to_string(view.running_count) + "\n";
        for (const Document& each : asks.documents("plan")) seen += each.name + std::to_string(each.version);
        const std::vector<RunHistory> found = asks.find(request).value();
        for (const RunHistory& history : found) seen += show(history);
        return seen;
      });
    }
  }

 private:
  int32_t pick(int32_t bound) { return static_cast<int32_t>(detail::random_up_to(random_, bound - 1)); }

  void collapse(NewRun& run) {
    run.claimed_by = 0;
    run.collapse = {static_cast<CollapseKind>(1 + pick(3)), "c" + std::to_string(pick(2)), pick(40), 1 + pick(3)};
    if (run.collapse.kind == CollapseKind::kSingleton) return;
    run.wake_at = 900'000'000 + pick(50);
    run.input = "[" + std::to_string(pick(9)) + "]";
  }

  Transition draw() {
    const RunId run = 1 + pick(60);
    if (pick(3) == 0) {
      Transition created = creation(run, std::string(static_cast<size_t>(pick(3)), 'i'));
      if (pick(3) == 0) created.create->key = "k" + std::to_string(pick(5));
      created.create->fingerprint = static_cast<uint64_t>(created.create->input.size());
      created.create->claimed_by = pick(5) == 0 ? 1 : 0;
      created.create->priority = pick(3) - 1;
      if (pick(4) == 0) created.create->sla_at = 900'000'000 + (created.create->sla_ms = pick(50));
      if (pick(4) == 0) created.create->breach_flow = "told";
      if (pick(5) == 0) created.create->wake_at = 900'000'000 + pick(50);
      if (pick(2) == 0) created.create->group = "g" + std::to_string(pick(3));
      if (created.create->key.empty() && pick(4) == 0) collapse(*created.create);
      created.at = 900'000'000;
      return created;
    }
    if (pick(4) == 0) {
      const std::string topics[] = {"signal:a", "signal:b", "resume", "cancel"};
      const int64_t id = ++message_id_;
      return telling(message_to(run, id, topics[pick(4)], "p", pick(2) == 0 ? "k" : ""));
    }
    if (pick(9) == 0) {
      Transition kept;
      kept.at = 900'000'000;
      kept.document = std::make_unique<Document>(
          Document{"plan", "d" + std::to_string(pick(3)), pick(4) - 1, 0, pick(4) == 0 ? "" : "body"});
      return kept;
    }
    const LeaseToken token = pick(6) == 0 ? pick(3) : known_[run];
    Transition drawn = recording(run, token, pick(4), {});
    for (int i = pick(3); i > 0; --i) {
      const EventKind kind = pick(6) == 0 ? EventKind::kSlaBreached : EventKind::kStepSucceeded;
      drawn.events.push_back(step_event("s" + std::to_string(i), "v", kind));
    }
    if (pick(4) == 0)
      drawn.end = RunEnd{static_cast<RunStatus>(2 + pick(4)), std::string(static_cast<size_t>(pick(3)), 'r')};
    drawn.release = pick(6) == 0;
    if (pick(6) == 0) drawn.claims = pick(5);
    if (pick(4) == 0) drawn.park = Park{pick(2) == 0 ? -1 : 900'000'000 + pick(50), pick(3), pick(3) == 0};
    for (int i = pick(3); i > 0 && message_id_ > 0; --i)
      drawn.taken.push_back(1 + pick(static_cast<int32_t>(message_id_)));
    const RunId other = 1 + pick(60);
    if (pick(5) == 0) drawn.messages.push_back(message_to(other, ++message_id_, "signal:c", "q"));
    if (pick(5) == 0) drawn.creations.push_back(child_of(run, "c", other));
    return drawn;
  }

  void commit() {
    const int count = 1 + pick(6);
    const uint64_t drawing = random_;
    const int64_t message_id = message_id_;
    compare([&](StoreAsks& asks) {
      random_ = drawing;  // the same transitions for each store
      message_id_ = message_id;
      std::vector<Transition> transitions;
      transitions.reserve(static_cast<size_t>(count));
      for (int i = 0; i < count; ++i) transitions.push_back(draw());
      std::string seen;
      for (const CommitAnswer& answer : asks.commit(std::move(transitions))) {
        seen += answer.status.to_string() + ";";
        if (answer.is_known) seen += "known;";
        if (answer.attached) seen += "attached " + show_row(*answer.attached, false);
      }
      return seen;
    });
  }

  static std::string show_row(const RunRow& row, bool with_input) {
    std::string text = run_name(row.run);
    for (const int64_t number : {static_cast<int64_t>(row.status), row.token, static_cast<int64_t>(row.claims),
                                 row.event_count, row.created_at, row.finished_at, row.wake_at,
                                 static_cast<int64_t>(row.priority), row.parent, row.sla_at, row.sla_ms}) {
      text += " " + std::to_string(number);
    }
    text += " " + row.workflow + " " + row.queue + " " + row.key + " " + row.group + " " + row.breach_flow + " " +
            row.result;
    return text + (with_input ? " " + row.input : "") + "\n";
  }
  static std::string show(const RunHistory& history) {
    std::string text = show_row(history.row, true);
    for (const Event& event : history.events) text += "  " + event.step + "=" + event.payload + "\n";
    for (const Message& each : history.messages) text += "  " + std::to_string(each.id) + " " + each.topic + "\n";
    return text;
  }

  template <typename Ask>
  void compare(Ask ask) {
    std::vector<std::string> seen;
    for (const auto& store : stores_) {
      StoreAsks asks(loop_, *store);
      seen.push_back(ask(asks));
    }
    for (const std::string& other : seen) ASSERT_EQ(other, seen.front());
  }

  TestLoop loop_;
  uint64_t random_;
  std::vector<std::unique_ptr<StoreSubject>> subjects_;
  std::vector<std::unique_ptr<Store>> stores_;
  std::map<RunId, LeaseToken> known_;
  int64_t message_id_ = 0;
  WallMs claim_at_ = 10;
};

TEST(StoreTwins, RandomCallsGiveTheSameAnswers) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const std::string folder = new_folder();
    {
      TwinStores twins(folder, seed);
      for (int i = 0; i < 250 && !::testing::Test::HasFatalFailure(); ++i) twins.step();
    }
    std::filesystem::remove_all(folder);
  }
}

}  // namespace
}  // namespace stepwell::testing
