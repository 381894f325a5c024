// MemoryTable's part for queues, for starts that become one run, and for documents.
#include <algorithm>
#include <utility>

#include "store/memory_store.h"
#include "store/refusals.h"

namespace stepwell {

ClaimAnswer MemoryTable::claim(const ClaimRequest& request) {
  ClaimAnswer answer;
  const auto found = queues_.find(request.queue);
  if (found == queues_.end() || request.count_max <= 0) return answer;
  Queue& queue = found->second;
  std::vector<RunId> runs;
  auto count_max = static_cast<size_t>(request.count_max);
  answer.is_limited = queue.line != nullptr;
  if (queue.line) {
    count_max = static_cast<size_t>(queue.line->claimable(request.count_max, request.now, answer.more_at));
  }
  // Runs whose owner fell silent come first: they have waited longer than any queued one. They have their place.
  for (auto lease_it = queue.leased.begin(); lease_it != queue.leased.end() && lease_it->first < request.now;
       ++lease_it) {
    if (runs.size() == static_cast<size_t>(request.count_max)) break;
    runs.push_back(lease_it->second);
  }
  for (const RunId run : runs) {
    Entry& entry = entries_.at(run);
    leave(entry);
    lease(entry, request.owner, request.lease_until);
  }
  const size_t late_count = runs.size();
  while (runs.size() < count_max && take_ready(queue, request, count_max, runs)) {
  }
  if (queue.line) queue.line->count_started(request.now, static_cast<int64_t>(runs.size() - late_count));
  for (const RunId run : runs) {
    Entry& entry = entries_.at(run);
    ++entry.history.row.token;
    ++entry.history.row.claims;
    answer.runs.push_back(copy(entry, true));
  }
  return answer;
}

// Takes what stands in the ready line; taking may let others in, so there may be more afterwards.
bool MemoryTable::take_ready(Queue& queue, const ClaimRequest& request, size_t count_max, std::vector<RunId>& runs) {
  std::vector<RunId> first;
  for (const auto& [priority, turn, run] : queue.ready) {
    if (first.size() + runs.size() == count_max) break;
    first.push_back(run);
  }
  for (const RunId run : first) {
    Entry& entry = entries_.at(run);
    const RunRow& row = entry.history.row;
    queue.ready.erase({row.priority, entry.turn, run});
    if (queue.line) queue.line->count_ready(row.group, -1);
    if (queue.line && !queue.line->may_lease(row.group)) {
      hold(queue, entry);
      continue;
    }
    lease(entry, request.owner, request.lease_until);
    runs.push_back(run);
  }
  if (queue.line) {
    for (const RunId run : first) let_in(queue, entries_.at(run).history.row.group);
  }
  return !first.empty();
}

void MemoryTable::stand_ready(Queue& queue, Entry& entry) {
  const RunRow& row = entry.history.row;
  entry.turn = queue.line ? queue.line->turn_of(row.run) : row.run;
  queue.ready.emplace(row.priority, entry.turn, row.run);
  if (queue.line) queue.line->count_ready(row.group, 1, entry.turn);
}

void MemoryTable::hold(Queue& queue, Entry& entry) {
  const RunRow& row = entry.history.row;
  entry.is_held = true;
  queue.held[row.group].emplace(row.priority, row.run);
  queue.line->count_held(row.group, 1);
}

void MemoryTable::let_in(Queue& queue, const std::string& group) {
  while (queue.line->is_held(group) && queue.line->has_room(group)) {
    const auto held = queue.held.find(group);
    Entry& entry = entries_.at(held->second.begin()->second);
    held->second.erase(held->second.begin());
    if (held->second.empty()) queue.held.erase(held);
    queue.line->count_held(group, -1);
    entry.is_held = false;
    stand_ready(queue, entry);
  }
}

QueueView MemoryTable::look(const std::string& queue) const {
  QueueView view;
  const auto found = queues_.find(queue);
  if (found == queues_.end()) return view;
  if (found->second.line) {
    view.limits = found->second.line->limits();
    view.held_count = found->second.line->held_count();
  }
  view.queued_count = static_cast<int64_t>(found->second.ready.size()) + view.held_count;
  view.running_count = static_cast<int64_t>(found->second.leased.size());
  return view;
}

// Everything that is queued lines up anew.
void MemoryTable::set_limits(const std::string& name, const QueueLimits& limits) {
  Queue& queue = queues_[name];
  std::set<RunId> queued;
  for (const auto& [priority, turn, run] : queue.ready) queued.insert(run);
  for (const auto& [group, held] : queue.held) {
    for (const auto& [priority, run] : held) queued.insert(run);
  }
  std::unique_ptr<detail::QueueLine> line;
  if (limits.is_any()) line = std::make_unique<detail::QueueLine>(limits);
  if (line && queue.line) line->keep_starts_of(*queue.line);
  queue.line = std::move(line);
  queue.ready.clear();
  queue.held.clear();
  if (queue.line) {
    for (const auto& [until, run] : queue.leased) queue.line->count_leased(entries_.at(run).history.row.group, 1);
  }
  for (const RunId run : queued) {
    Entry& entry = entries_.at(run);
    entry.is_held = false;
    enqueue(entry);
  }
  tell_watchers();
}

Status MemoryTable::keep(Document document) {
  const auto key = std::make_pair(document.kind, document.name);
  const auto found = documents_.find(key);
  const int64_t version = found == documents_.end() ? 0 : found->second.version;
  if (document.version >= 0 && document.version != version) return detail::document_changed(document, version);
  if (document.body.empty()) {
    documents_.erase(key);
    return Status::ok();
  }
  document.version = version + 1;
  documents_[key] = std::move(document);
  return Status::ok();
}

std::vector<Document> MemoryTable::documents(const std::string& kind, const std::string& name) const {
  std::vector<Document> found;
  for (const auto& [key, document] : documents_) {
    if (key.first == kind && (name.empty() || key.second == name)) found.push_back(document);
  }
  return found;
}

// True: the start was taken in by an earlier one.
bool MemoryTable::collapse(Transition& transition, CommitAnswer& answer) {
  NewRun& asked = *transition.create;
  Collapsed& known = collapsed_[{asked.workflow, asked.collapse.kind, asked.collapse.key}];
  const auto found = entries_.find(known.run);
  if (found == entries_.end() || !detail::takes_in(asked.collapse, found->second.history.row, known.count)) {
    known = {transition.run, 1};
    return false;
  }
  Entry& entry = found->second;
  RunRow& row = entry.history.row;
  if (asked.collapse.kind != CollapseKind::kSingleton) {
    const detail::TakenIn taken_in = detail::take_in(asked, row, ++known.count);
    entry.fingerprint = asked.fingerprint;
    leave(entry);
    row.input = taken_in.input;
    if (taken_in.is_due) {
      enqueue(entry);
    } else {
      park(entry, Park{taken_in.wake_at, static_cast<int64_t>(entry.history.messages.size()), false});
    }
  }
  answer.attached = std::make_unique<RunRow>(row);
  return true;
}

}  // namespace stepwell
