// SimWorld: a seed, a few engines over one store, workers that follow scripted workflows, and everything that can go
// wrong.
//
// Phase 1 breaks: engines are killed, paused past their leases, replies are lost, the server misbehaves. Phase 2 heals
// and demands progress. What must hold is checked as it goes; the first violation ends the world.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/dispatcher.h"
#include "sim/sim_http.h"
#include "sim/sim_loop.h"
#include "sim/sim_store.h"

namespace stepwell::sim {

inline constexpr const char* kTold = "told";  // the workflow that hears of breaches; nobody serves it

struct WorldReport {
  std::string violation;  // empty: all held
  uint64_t digest = 0;    // equal for equal seeds
  int64_t runs = 0, crashes = 0, pauses = 0, requests = 0, steps = 0;
  int64_t held = 0;       // calls that were not sent yet
  int64_t cancelled = 0;  // acknowledged
  int64_t refused = 0;    // writes that came after their lease had ended
};

enum class StepKind : uint8_t { kLocal, kCall, kSleep, kSignal, kChild };

class SimWorld {
 public:
  explicit SimWorld(uint64_t seed);
  ~SimWorld();
  WorldReport run();

 private:
  struct Engine;
  struct Script;
  struct Accepted {
    std::string input;
  };
  struct Untold {
    RunId run;
    std::string step;  // a signal step, or "resume"
  };

  void boot(int index);
  void kill(Engine& engine);
  void break_something();
  void start_some();
  void accept(RunId run, const std::string& input);
  void tell_one();
  void pause_one();
  void cancel_one();
  void limit_queue();
  void check_limits();
  void heal_and_demand_progress();
  void check_final();
  void check_agreed_times(const std::vector<RunHistory>& runs);
  // Budgets (sim_budgets.cpp).
  void limit_calls(detail::Dispatcher& dispatcher);
  void let_pass(RunId run, CallSpec& call);
  static void let_pay(RunId run, CallSpec& call);
  void raise_budget(Picodollars cap);
  void try_budgets();
  void check_caps();
  void check_ledger(const std::vector<RunHistory>& runs);
  void wait_for_room(Engine& engine, Item& item);
  void on_items(Engine& engine, std::vector<Item>& items);
  void on_finished(const Item& item);
  void advance(Engine& engine, RunId run);
  void begin_step(Engine& engine, RunId run, Script& script, StepKind kind, const std::string& step);
  void wait_for_call(Engine& engine, const Item& item);
  void ask_to_park(Engine& engine, RunId run);
  void execute_local(Engine& engine, RunId run, const std::string& step, int32_t attempt);
  void check_recorded(RunId run, const std::string& step);
  void check_not_recorded(RunId run, const std::string& step, LeaseToken token, const char* what);
  void fail(std::string what);

  const uint64_t seed_;
  SimClock clock_;
  std::shared_ptr<MemoryTable> table_;
  SimServer server_;
  StoreFaults store_faults_;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::map<RunId, Accepted> accepted_;
  std::vector<Untold> untold_;
  std::set<RunId> unwanted_;  // somebody cancels it, or tried to
  std::map<std::string, RunId> keys_;
  std::map<uint64_t, RunId> tickets_;
  QueueLimits limits_;
  bool has_steady_limits_ = false;  // set once, so that they hold at every moment
  int64_t step_fault_percent_ = 0;
  ProcessId next_process_ = 1;
  uint64_t next_ticket_ = 1;
  int next_key_ = 0;
  int64_t next_wake_id_ = int64_t{1} << 61;
  WorldReport report_;
};

}  // namespace stepwell::sim
