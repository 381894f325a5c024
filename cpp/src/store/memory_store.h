// MemoryStore: runs in this process's memory; nothing survives it. For tests, notebooks and the simulator.
//
// The rows live in a MemoryTable, which several stores may share: then each store is one engine of a (simulated) world,
// a crashed engine's runs stay, and its leases end with time. No threads and no clock of its own: all stores of a table
// belong to one thread, and the same calls give the same answers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "stepwell/loop.h"
#include "stepwell/store.h"
#include "store/memory_budgets.h"
#include "store/queue_line.h"

namespace stepwell {

// A run created with NewRun::claimed_by is leased for this long from Transition::at, unless renewed.
inline constexpr int64_t kFirstLeaseMs = 30'000;

// The rows. Each function acts at once and completely.
class MemoryTable {
 public:
  CommitAnswer apply(Transition transition);
  ClaimAnswer claim(const ClaimRequest& request);
  [[nodiscard]] Result<RunHistory> load(RunId run) const;
  void renew(OwnerId owner, WallMs until);
  [[nodiscard]] DueAnswer due(WallMs now, int64_t count_max);
  [[nodiscard]] std::vector<Message> messages(OwnerId owner) const;
  [[nodiscard]] QueueView look(const std::string& queue) const;
  void set_limits(const std::string& queue, const QueueLimits& limits);
  [[nodiscard]] std::vector<Document> documents(const std::string& kind, const std::string& name) const;
  [[nodiscard]] std::vector<BudgetRow> budgets(const std::string& name) const { return budgets_.list(name); }
  [[nodiscard]] std::vector<RunHistory> find(const FindRequest& request) const;

  PruneAnswer prune(const PruneRequest& request);

  // `changed` runs inside apply whenever another writer than `watcher` queues a run or tells a leased one something.
  void watch(const void* watcher, MoveFunction<void()> changed);
  void unwatch(const void* watcher);
  // Says who writes until the next call, so that nobody is woken by their own work.
  void set_writer(const void* watcher) { writer_ = watcher; }

 private:
  struct Entry {
    RunHistory history;
    uint64_t fingerprint = 0;
    OwnerId owner = 0;
    WallMs lease_until = 0;
    int64_t turn = 0;                                            // in the ready line
    bool is_held = false;                                        // queued, but not in the ready line
    std::set<std::pair<std::string, std::string>> message_keys;  // (topic, key)
    bool is_trimmed = false;
  };
  struct Queue {
    std::set<std::tuple<int32_t, int64_t, RunId>> ready;  // by priority and turn
    std::set<std::pair<WallMs, RunId>> leased;
    std::map<std::string, std::set<std::pair<int32_t, RunId>>> held;  // by group
    std::unique_ptr<detail::QueueLine> line;                          // only with limits
  };
  struct Collapsed {
    RunId run = 0;
    int64_t count = 1;
  };

  CommitAnswer create(Transition& transition);
  bool collapse(Transition& transition, CommitAnswer& answer);
  Status keep(Document document);
  CommitAnswer deliver(Message message);
  void leave(Entry& entry);
  void park(Entry& entry, const Park& park);
  void tell_watchers();
  void lease(Entry& entry, OwnerId owner, WallMs until);
  void unlease(Entry& entry);
  void enqueue(Entry& entry);
  void stand_ready(Queue& queue, Entry& entry);
  void hold(Queue& queue, Entry& entry);
  // Lets runs of a group that are held into the ready line while there is room.
  void let_in(Queue& queue, const std::string& group);
  bool take_ready(Queue& queue, const ClaimRequest& request, size_t count_max, std::vector<RunId>& runs);
  static RunHistory copy(const Entry& entry, bool with_events);

  std::map<RunId, Entry> entries_;
  std::map<std::string, Queue> queues_;
  std::map<OwnerId, std::set<RunId>> owned_;
  std::set<std::pair<WallMs, RunId>> waiting_;                 // those with a wake time
  std::map<std::pair<std::string, std::string>, RunId> keys_;  // (workflow, key)
  std::map<std::string, std::set<RunId>> by_workflow_;
  std::map<std::tuple<std::string, CollapseKind, std::string>, Collapsed> collapsed_;  // (workflow, kind, key)
  std::map<std::pair<std::string, std::string>, Document> documents_;                  // (kind, name)
  detail::MemoryBudgets budgets_{
      [this](Message message) { (void)deliver(std::move(message)); },
      [this](RunId run, int64_t seq) { return entries_.at(run).history.events.at(static_cast<size_t>(seq)).kind; }};
  std::vector<std::pair<const void*, MoveFunction<void()>>> watchers_;
  const void* writer_ = nullptr;
};

std::unique_ptr<Store> open_memory_store(Loop& loop);
std::unique_ptr<Store> open_memory_store(Loop& loop, std::shared_ptr<MemoryTable> table);

}  // namespace stepwell
