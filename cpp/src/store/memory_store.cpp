#include "store/memory_store.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "store/refusals.h"
#include "store/retention.h"

namespace stepwell {

namespace {

// The events from `first` on are new.
void keep_parts(RunHistory& history, std::vector<StreamPart> parts, size_t first) {
  for (StreamPart& part : parts) {
    auto kept = std::find_if(history.streams.begin(), history.streams.end(),
                             [&part](const KeptStream& each) { return each.step == part.step; });
    if (kept == history.streams.end()) kept = history.streams.insert(kept, KeptStream{part.step, part.generation, {}});
    kept->generation = part.generation;
    kept->text.resize(static_cast<size_t>(part.offset));
    kept->text += part.text;
  }
  for (size_t i = first; i < history.events.size() && !history.streams.empty(); ++i) {
    const Event& event = history.events[i];
    if (event.kind != EventKind::kStepSucceeded) continue;
    std::erase_if(history.streams, [&event](const KeptStream& each) { return each.step == event.step; });
  }
}

}  // namespace

CommitAnswer MemoryTable::create(Transition& transition) {
  NewRun& asked = *transition.create;
  CommitAnswer answer;
  if (!asked.key.empty()) {
    const auto known = keys_.find({asked.workflow, asked.key});
    if (known != keys_.end()) {
      const Entry& entry = entries_.at(known->second);
      if (entry.fingerprint != asked.fingerprint) {
        answer.status = detail::key_conflict(asked, known->second);
      } else if (known->second != transition.run) {
        answer.attached = std::make_unique<RunRow>(entry.history.row);
      }
      return answer;
    }
  }
  if (asked.collapse.kind != CollapseKind::kNone && collapse(transition, answer)) return answer;
  if (const auto taken = entries_.find(transition.run); taken != entries_.end()) {
    // The same creation once more, its answer was lost: it has been done. Anything else is a mistake.
    const RunRow& row = taken->second.history.row;
    if (row.workflow != asked.workflow || row.key != asked.key || row.input != asked.input) {
      answer.status = detail::run_id_taken(transition.run);
    }
    return answer;
  }
  Entry& entry = entries_[transition.run];
  entry.fingerprint = asked.fingerprint;
  RunRow& row = entry.history.row;
  row.run = transition.run;
  row.workflow = std::move(asked.workflow);
  row.queue = std::move(asked.queue);
  row.key = std::move(asked.key);
  row.input = std::move(asked.input);
  row.created_at = transition.at;
  row.priority = asked.priority;
  row.deadline_at = asked.deadline_at;
  row.sla_at = asked.sla_at;
  row.sla_ms = asked.sla_ms;
  row.breach_flow = std::move(asked.breach_flow);
  row.budgets = std::move(asked.budgets);
  row.parent = asked.parent;
  row.parent_step = std::move(asked.parent_step);
  row.version = std::move(asked.version);
  row.group = std::move(asked.group);
  row.event_count = static_cast<int64_t>(asked.events.size());
  entry.history.events = std::move(asked.events);
  if (!row.key.empty()) keys_.emplace(std::make_pair(row.workflow, row.key), row.run);
  by_workflow_[row.workflow].insert(row.run);
  if (asked.wake_at >= 0) {
    park(entry, Park{asked.wake_at, 0, false});
  } else if (asked.claimed_by != 0 && queues_[row.queue].line) {
    answer.is_queued = true;
    enqueue(entry);
  } else if (asked.claimed_by != 0) {
    row.token = 1;
    row.claims = 1;
    lease(entry, asked.claimed_by, transition.at + kFirstLeaseMs);
  } else {
    enqueue(entry);
  }
  return answer;
}

CommitAnswer MemoryTable::apply(Transition transition) {
  if (transition.create) return create(transition);
  CommitAnswer answer;
  if (transition.message) return deliver(std::move(*transition.message));
  if (transition.document) {
    answer.status = keep(std::move(*transition.document));
    return answer;
  }
  if (transition.budget) {
    const Status kept = budgets_.change(*transition.budget, transition.at, transition.wake_id, answer);
    if (answer.status.is_ok()) answer.status = kept;
    return answer;
  }
  const auto found = entries_.find(transition.run);
  if (found == entries_.end()) {
    answer.status = detail::run_missing(transition.run);
    return answer;
  }
  Entry& entry = found->second;
  RunRow& row = entry.history.row;
  size_t events_known = 0;
  answer.status = detail::check_fence(transition, {row.status, row.token, row.event_count}, events_known);
  if (!answer.status.is_ok()) return answer;
  const size_t events_added = transition.events.size() - events_known;
  if (!transition.spends.empty() && events_known == 0) {
    (void)budgets_.spend(transition, answer);
    if (!answer.refusal.budget.empty()) transition.events.front().kind = EventKind::kCallHeld;
  }
  std::move(transition.events.begin() + static_cast<std::ptrdiff_t>(events_known), transition.events.end(),
            std::back_inserter(entry.history.events));
  keep_parts(entry.history, std::move(transition.parts), entry.history.events.size() - events_added);
  row.event_count = static_cast<int64_t>(entry.history.events.size());
  std::erase_if(entry.history.messages, [&](const Message& message) {
    return std::find(transition.taken.begin(), transition.taken.end(), message.id) != transition.taken.end();
  });
  for (Message& message : transition.messages) (void)deliver(std::move(message));
  for (Creation& creation : transition.creations) {
    Transition child;
    child.run = creation.run;
    child.at = transition.at;
    child.create = std::make_unique<NewRun>(std::move(creation.request));
    (void)create(child);
  }
  if (transition.end) {
    leave(entry);
    entry.history.messages.clear();
    row.status = transition.end->status;
    row.result = std::move(transition.end->payload);
    row.finished_at = transition.at;
    (void)budgets_.forget(transition, answer);
  } else if (transition.release) {
    leave(entry);
    row.claims = 0;  // given back in good order: closing an engine is no crash
    enqueue(entry);
  } else if (transition.park) {
    leave(entry);
    row.claims = 0;  // it was laid aside in good order
    park(entry, *transition.park);
  } else if (transition.claims >= 0 && row.status == RunStatus::kRunning) {
    row.claims = transition.claims;
  }
  return answer;
}

CommitAnswer MemoryTable::deliver(Message message) {
  CommitAnswer answer;
  const auto found = entries_.find(message.to);
  if (found == entries_.end()) {
    answer.status = detail::run_missing(message.to);
    return answer;
  }
  Entry& entry = found->second;
  RunRow& row = entry.history.row;
  std::vector<Message>& waiting = entry.history.messages;
  if (is_final(row.status)) {
    answer.status = detail::run_ended(message);
  } else if (static_cast<int64_t>(waiting.size()) >= Limits().messages_per_run_max) {
    answer.status = detail::inbox_full(message);
  } else if (!message.key.empty()) {
    answer.is_known = !entry.message_keys.emplace(message.topic, message.key).second;
  }
  if (!answer.status.is_ok() || answer.is_known) return answer;
  const bool is_woken = detail::wakes(row.status, row.token, message.topic);
  waiting.push_back(std::move(message));
  if (is_woken) {
    leave(entry);
    enqueue(entry);
  } else if (row.status == RunStatus::kRunning) {
    tell_watchers();
  }
  return answer;
}

// Out of whichever line the run stands in.
void MemoryTable::leave(Entry& entry) {
  RunRow& row = entry.history.row;
  Queue& queue = queues_[row.queue];
  unlease(entry);
  if (entry.is_held) {
    entry.is_held = false;
    std::set<std::pair<int32_t, RunId>>& held = queue.held[row.group];
    held.erase({row.priority, row.run});
    if (held.empty()) queue.held.erase(row.group);
    queue.line->count_held(row.group, -1);
  } else if (queue.ready.erase({row.priority, entry.turn, row.run}) > 0 && queue.line) {
    queue.line->count_ready(row.group, -1);
    let_in(queue, row.group);
  }
  if (row.wake_at >= 0) waiting_.erase({row.wake_at, row.run});
  row.wake_at = -1;
}

void MemoryTable::park(Entry& entry, const Park& park) {
  RunRow& row = entry.history.row;
  const std::vector<Message>& waiting = entry.history.messages;
  const bool is_wanted = park.is_paused
                             ? std::any_of(waiting.begin(), waiting.end(),
                                           [](const Message& each) { return detail::ends_a_pause(each.topic); })
                             : static_cast<int64_t>(waiting.size()) > park.message_count_known;
  if (is_wanted) {
    enqueue(entry);
    return;
  }
  row.status = park.is_paused ? RunStatus::kPaused : RunStatus::kWaiting;
  if (park.is_paused || park.wake_at < 0) return;
  row.wake_at = park.wake_at;
  waiting_.emplace(row.wake_at, row.run);
}

DueAnswer MemoryTable::due(WallMs now, int64_t count_max) {
  DueAnswer answer;
  while (!waiting_.empty() && waiting_.begin()->first <= now && answer.queued_count < count_max) {
    Entry& entry = entries_.at(waiting_.begin()->second);
    leave(entry);
    enqueue(entry);
    ++answer.queued_count;
  }
  if (!waiting_.empty()) answer.next_at = waiting_.begin()->first;
  return answer;
}

std::vector<Message> MemoryTable::messages(OwnerId owner) const {
  std::vector<Message> all;
  const auto owned = owned_.find(owner);
  if (owned == owned_.end()) return all;
  for (const RunId run : owned->second) {
    const std::vector<Message>& waiting = entries_.at(run).history.messages;
    all.insert(all.end(), waiting.begin(), waiting.end());
  }
  return all;
}

void MemoryTable::lease(Entry& entry, OwnerId owner, WallMs until) {
  RunRow& row = entry.history.row;
  row.status = RunStatus::kRunning;
  entry.owner = owner;
  entry.lease_until = until;
  Queue& queue = queues_[row.queue];
  queue.leased.emplace(until, row.run);
  if (queue.line) queue.line->count_leased(row.group, 1);
  owned_[owner].insert(row.run);
}

void MemoryTable::unlease(Entry& entry) {
  const RunRow& row = entry.history.row;
  if (row.status != RunStatus::kRunning) return;
  Queue& queue = queues_[row.queue];
  queue.leased.erase({entry.lease_until, row.run});
  if (queue.line) {
    queue.line->count_leased(row.group, -1);
    let_in(queue, row.group);
    tell_watchers();  // there is a place
  }
  const auto owned = owned_.find(entry.owner);
  owned->second.erase(row.run);
  if (owned->second.empty()) owned_.erase(owned);
}

void MemoryTable::enqueue(Entry& entry) {
  RunRow& row = entry.history.row;
  row.status = RunStatus::kQueued;
  Queue& queue = queues_[row.queue];
  if (queue.line && !queue.line->has_room(row.group)) {
    hold(queue, entry);
  } else {
    stand_ready(queue, entry);
  }
  tell_watchers();
}

void MemoryTable::tell_watchers() {
  for (auto& [watcher, changed] : watchers_) {
    if (watcher != writer_) changed();
  }
}

Result<RunHistory> MemoryTable::load(RunId run) const {
  const auto found = entries_.find(run);
  if (found == entries_.end()) return detail::run_missing(run);
  return copy(found->second, true);
}

void MemoryTable::renew(OwnerId owner, WallMs until) {
  const auto owned = owned_.find(owner);
  if (owned == owned_.end()) return;
  for (const RunId run : owned->second) {
    Entry& entry = entries_.at(run);
    Queue& queue = queues_[entry.history.row.queue];
    queue.leased.erase({entry.lease_until, run});
    entry.lease_until = until;
    queue.leased.emplace(until, run);
  }
}

std::vector<RunHistory> MemoryTable::find(const FindRequest& request) const {
  std::vector<RunHistory> found;
  const auto add = [&](RunId run) {
    if (const auto entry = entries_.find(run); entry != entries_.end()) {
      found.push_back(copy(entry->second, request.with_events));
      if (!request.with_payloads) found.back().row.input = found.back().row.result = {};
    }
  };
  const auto count_max = static_cast<size_t>(std::max<int64_t>(request.count_max, 0));
  const RunId before = request.before > 0 ? request.before : std::numeric_limits<RunId>::max();
  if (request.run != 0) {
    add(request.run);
  } else if (!request.key.empty()) {
    if (const auto known = keys_.find({request.workflow, request.key}); known != keys_.end()) add(known->second);
  } else if (request.is_failed || request.is_breached) {
    for (auto entry = entries_.rbegin(); entry != entries_.rend() && found.size() < count_max; ++entry) {
      if (detail::is_looked_for(request, entry->second.history)) add(entry->first);
    }
  } else if (!request.workflow.empty()) {
    const auto runs = by_workflow_.find(request.workflow);
    if (runs == by_workflow_.end()) return found;
    auto run = std::make_reverse_iterator(runs->second.lower_bound(before));
    for (; run != runs->second.rend() && found.size() < count_max; ++run) add(*run);
  } else {
    auto entry = std::make_reverse_iterator(entries_.lower_bound(before));
    for (; entry != entries_.rend() && found.size() < count_max; ++entry) add(entry->first);
  }
  return found;
}

RunHistory MemoryTable::copy(const Entry& entry, bool with_events) {
  if (with_events) return entry.history;
  RunHistory history;
  history.row = entry.history.row;
  return history;
}

PruneAnswer MemoryTable::prune(const PruneRequest& request) {
  PruneAnswer answer;
  answer.after = request.after;
  const WallMs youngest = request.now - detail::shortest_ms(*request.policy);
  answer.is_over = true;
  int64_t rows_left = request.rows_max;
  for (auto next = entries_.upper_bound(request.after); next != entries_.end();) {
    const auto here = next++;
    Entry& entry = here->second;
    const RunRow& row = entry.history.row;
    if (row.created_at > youngest) break;
    answer.is_over = rows_left-- > 0;
    if (!answer.is_over) break;
    answer.after = row.run;
    const detail::Fate fate =
        is_final(row.status) ? detail::fate_of(*request.policy, row, request.now) : detail::Fate::kKeep;
    if (fate == detail::Fate::kTrim && !entry.is_trimmed) {
      entry.is_trimmed = true;
      entry.history.row.input.clear();
      entry.history.events.clear();
      entry.history.streams.clear();
      entry.message_keys.clear();
      ++answer.trimmed_count;
    } else if (fate == detail::Fate::kDelete) {
      if (!row.key.empty()) keys_.erase({row.workflow, row.key});
      by_workflow_[row.workflow].erase(row.run);
      budgets_.drop(row.run);
      entries_.erase(here);
      ++answer.deleted_count;
    }
  }
  if (answer.deleted_count > 0) {
    std::erase_if(collapsed_, [this](const auto& each) { return !entries_.contains(each.second.run); });
  }
  return answer;
}

void MemoryTable::watch(const void* watcher, MoveFunction<void()> changed) {
  unwatch(watcher);
  watchers_.emplace_back(watcher, std::move(changed));
}

void MemoryTable::unwatch(const void* watcher) {
  std::erase_if(watchers_, [watcher](const auto& entry) { return entry.first == watcher; });
}

namespace {

class MemoryStore final : public Store {
 public:
  MemoryStore(Loop& loop, std::shared_ptr<MemoryTable> table) : loop_(loop), table_(std::move(table)) {}
  ~MemoryStore() override {
    table_->unwatch(this);
    *is_alive_ = false;
  }
  MemoryStore(const MemoryStore&) = delete;
  MemoryStore& operator=(const MemoryStore&) = delete;

  void commit(std::vector<Transition> transitions, CommitDone done) override {
    std::vector<CommitAnswer> answers;
    answers.reserve(transitions.size());
    table_->set_writer(this);
    for (Transition& transition : transitions) {
      if (is_closed_) {
        answers.emplace_back().status = detail::store_closed();
      } else {
        answers.push_back(table_->apply(std::move(transition)));
      }
    }
    answer(std::move(done), std::move(answers));
  }

  void claim(ClaimRequest request, ClaimDone done) override {
    answer(std::move(done),
           is_closed_ ? Result<ClaimAnswer>(detail::store_closed()) : Result<ClaimAnswer>(table_->claim(request)));
  }

  void load(RunId run, MoveFunction<void(Result<RunHistory>)> done) override {
    answer(std::move(done), is_closed_ ? Result<RunHistory>(detail::store_closed()) : table_->load(run));
  }

  void renew(OwnerId owner, WallMs until, StatusDone done) override {
    if (!is_closed_) table_->renew(owner, until);
    answer(std::move(done), is_closed_ ? detail::store_closed() : Status::ok());
  }

  void look(const std::string& queue, MoveFunction<void(Result<QueueView>)> done) override {
    answer(std::move(done),
           is_closed_ ? Result<QueueView>(detail::store_closed()) : Result<QueueView>(table_->look(queue)));
  }

  void set_limits(const std::string& queue, QueueLimits limits, StatusDone done) override {
    table_->set_writer(this);
    if (!is_closed_) table_->set_limits(queue, limits);
    answer(std::move(done), is_closed_ ? detail::store_closed() : Status::ok());
  }

  void documents(const std::string& kind, const std::string& name, DocumentsDone done) override {
    answer(std::move(done), is_closed_ ? Result<std::vector<Document>>(detail::store_closed())
                                       : Result<std::vector<Document>>(table_->documents(kind, name)));
  }

  void due(WallMs now, int64_t count_max, DueDone done) override {
    answer(std::move(done), is_closed_ ? Result<DueAnswer>(detail::store_closed()) : table_->due(now, count_max));
  }

  void messages(OwnerId owner, MessagesDone done) override {
    answer(std::move(done),
           is_closed_ ? Result<std::vector<Message>>(detail::store_closed()) : table_->messages(owner));
  }

  void budgets(const std::string& name, BudgetsDone done) override {
    answer(std::move(done), is_closed_ ? Result<std::vector<BudgetRow>>(detail::store_closed())
                                       : Result<std::vector<BudgetRow>>(table_->budgets(name)));
  }

  void find(FindRequest request, FindDone done) override {
    answer(std::move(done), is_closed_ ? Result<std::vector<RunHistory>>(detail::store_closed())
                                       : Result<std::vector<RunHistory>>(table_->find(request)));
  }

  void prune(PruneRequest request, PruneDone done) override {
    answer(std::move(done), is_closed_ ? Result<PruneAnswer>(detail::store_closed()) : table_->prune(request));
  }

  void backup(BackupSlice, BackupDone done) override {
    answer(std::move(done), Result<BackupProgress>(detail::store_has_no_file()));
  }

  // Many runs queued at once wake a watcher once.
  void watch(MoveFunction<void()> changed) override {
    changed_ = std::move(changed);
    table_->watch(this, [this] {
      if (is_wake_posted_ || is_closed_) return;
      is_wake_posted_ = true;
      loop_.post([this, is_alive = is_alive_] {
        if (!*is_alive) return;
        is_wake_posted_ = false;
        if (!is_closed_) changed_();
      });
    });
  }

  void close(StatusDone done) override {
    is_closed_ = true;
    answer(std::move(done), Status::ok());
  }

 private:
  template <typename Done, typename Answer>
  void answer(Done done, Answer answer) {
    loop_.post([is_alive = is_alive_, done = std::move(done), answer = std::move(answer)]() mutable {
      if (*is_alive) done(std::move(answer));
    });
  }

  Loop& loop_;
  const std::shared_ptr<MemoryTable> table_;
  const std::shared_ptr<bool> is_alive_ = std::make_shared<bool>(true);
  MoveFunction<void()> changed_;
  bool is_wake_posted_ = false;
  bool is_closed_ = false;
};

}  // namespace

std::unique_ptr<Store> open_memory_store(Loop& loop) {
  return open_memory_store(loop, std::make_shared<MemoryTable>());
}

std::unique_ptr<Store> open_memory_store(Loop& loop, std::shared_ptr<MemoryTable> table) {
  return std::make_unique<MemoryStore>(loop, std::move(table));
}

}  // namespace stepwell
