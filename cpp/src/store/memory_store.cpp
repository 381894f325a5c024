#include "store/memory_store.h"

#include <algorithm>

#include "store/refusals.h"

namespace stepwell {

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
  if (!row.key.empty()) keys_.emplace(std::make_pair(row.workflow, row.key), row.run);
  by_workflow_[row.workflow].insert(row.run);
  if (asked.claimed_by != 0) {
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
  std::move(transition.events.begin() + static_cast<std::ptrdiff_t>(events_known), transition.events.end(),
            std::back_inserter(entry.history.events));
  row.event_count = static_cast<int64_t>(entry.history.events.size());
  if (transition.end) {
    unlease(entry);
    queues_[row.queue].ready.erase(row.run);
    row.status = transition.end->status;
    row.result = std::move(transition.end->payload);
    row.finished_at = transition.at;
  } else if (transition.release) {
    unlease(entry);
    row.status = RunStatus::kQueued;
    enqueue(entry);
  }
  return answer;
}

void MemoryTable::lease(Entry& entry, OwnerId owner, WallMs until) {
  RunRow& row = entry.history.row;
  row.status = RunStatus::kRunning;
  entry.owner = owner;
  entry.lease_until = until;
  queues_[row.queue].leased.emplace(until, row.run);
  owned_[owner].insert(row.run);
}

void MemoryTable::unlease(Entry& entry) {
  const RunRow& row = entry.history.row;
  if (row.status != RunStatus::kRunning) return;
  queues_[row.queue].leased.erase({entry.lease_until, row.run});
  const auto owned = owned_.find(entry.owner);
  owned->second.erase(row.run);
  if (owned->second.empty()) owned_.erase(owned);
}

void MemoryTable::enqueue(const Entry& entry) {
  queues_[entry.history.row.queue].ready.insert(entry.history.row.run);
  for (auto& [watcher, queued] : watchers_) {
    if (watcher != writer_) queued();
  }
}

std::vector<RunHistory> MemoryTable::claim(const ClaimRequest& request) {
  std::vector<RunHistory> claimed;
  const auto found = queues_.find(request.queue);
  if (found == queues_.end() || request.count_max <= 0) return claimed;
  Queue& queue = found->second;
  std::vector<RunId> runs;
  const auto count_max = static_cast<size_t>(request.count_max);
  // Runs whose owner fell silent come first: they have waited longer than any queued one.
  for (auto lease_it = queue.leased.begin(); lease_it != queue.leased.end() && lease_it->first < request.now;
       ++lease_it) {
    if (runs.size() == count_max) break;
    runs.push_back(lease_it->second);
  }
  for (auto ready_it = queue.ready.begin(); ready_it != queue.ready.end() && runs.size() < count_max; ++ready_it) {
    runs.push_back(*ready_it);
  }
  for (const RunId run : runs) {
    Entry& entry = entries_.at(run);
    unlease(entry);
    queue.ready.erase(run);
    ++entry.history.row.token;
    ++entry.history.row.claims;
    lease(entry, request.owner, request.lease_until);
    claimed.push_back(copy(entry, true));
  }
  return claimed;
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

int64_t MemoryTable::depth(const std::string& queue) const {
  const auto found = queues_.find(queue);
  return found == queues_.end() ? 0 : static_cast<int64_t>(found->second.ready.size());
}

std::vector<RunHistory> MemoryTable::find(const FindRequest& request) const {
  std::vector<RunHistory> found;
  const auto add = [&](RunId run) {
    if (const auto entry = entries_.find(run); entry != entries_.end()) {
      found.push_back(copy(entry->second, request.with_events));
    }
  };
  const auto count_max = static_cast<size_t>(std::max<int64_t>(request.count_max, 0));
  if (request.run != 0) {
    add(request.run);
  } else if (!request.key.empty()) {
    if (const auto known = keys_.find({request.workflow, request.key}); known != keys_.end()) add(known->second);
  } else if (!request.workflow.empty()) {
    const auto runs = by_workflow_.find(request.workflow);
    if (runs == by_workflow_.end()) return found;
    for (auto run = runs->second.rbegin(); run != runs->second.rend() && found.size() < count_max; ++run) add(*run);
  } else {
    for (auto entry = entries_.rbegin(); entry != entries_.rend() && found.size() < count_max; ++entry)
      add(entry->first);
  }
  return found;
}

RunHistory MemoryTable::copy(const Entry& entry, bool with_events) {
  if (with_events) return entry.history;
  RunHistory history;
  history.row = entry.history.row;
  return history;
}

void MemoryTable::watch(const void* watcher, MoveFunction<void()> queued) {
  unwatch(watcher);
  watchers_.emplace_back(watcher, std::move(queued));
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
      answers.push_back(is_closed_ ? CommitAnswer{detail::store_closed(), nullptr}
                                   : table_->apply(std::move(transition)));
    }
    answer(std::move(done), std::move(answers));
  }

  void claim(ClaimRequest request, ClaimDone done) override {
    answer_found(std::move(done), is_closed_ ? std::vector<RunHistory>() : table_->claim(request));
  }

  void load(RunId run, MoveFunction<void(Result<RunHistory>)> done) override {
    answer(std::move(done), is_closed_ ? Result<RunHistory>(detail::store_closed()) : table_->load(run));
  }

  void renew(OwnerId owner, WallMs until, StatusDone done) override {
    if (!is_closed_) table_->renew(owner, until);
    answer(std::move(done), is_closed_ ? detail::store_closed() : Status::ok());
  }

  void depth(const std::string& queue, MoveFunction<void(Result<int64_t>)> done) override {
    answer(std::move(done),
           is_closed_ ? Result<int64_t>(detail::store_closed()) : Result<int64_t>(table_->depth(queue)));
  }

  void find(FindRequest request, FindDone done) override {
    answer_found(std::move(done), is_closed_ ? std::vector<RunHistory>() : table_->find(request));
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
  void answer_found(ClaimDone done, std::vector<RunHistory> found) {
    answer(std::move(done), is_closed_ ? Result<std::vector<RunHistory>>(detail::store_closed())
                                       : Result<std::vector<RunHistory>>(std::move(found)));
  }

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
