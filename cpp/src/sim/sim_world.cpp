#include "sim/sim_world.h"

#include <algorithm>
#include <deque>
#include <set>
#include <utility>

namespace stepwell::sim {

namespace {

constexpr int kEngineCount = 2;
constexpr int64_t kLeaseMs = 6'000;
constexpr int64_t kBreakMs = 60'000;
constexpr int64_t kHealMs = int64_t{2} * 3'600'000;
constexpr const char* kQueue = "scripts";
constexpr int64_t kStepSlaMs = 20;

constexpr int64_t kSleepMsMax = 20'000;
constexpr const char* kChildInput = "2:0:0";

// A scripted workflow is read off its input, "N:S:W": N steps; where W has a bit it waits, where S has one it calls.
int step_count(const std::string& input) { return input[0] - '0'; }
bool has_bit(char digit, int index) { return ((digit - '0') >> (index % 4) & 1) != 0; }
StepKind kind_of(const std::string& input, int index) {
  constexpr StepKind kWaits[] = {StepKind::kSleep, StepKind::kSignal, StepKind::kChild};
  if (has_bit(input[4], index)) return kWaits[(input[4] - '0' + index) % 3];
  return has_bit(input[2], index) ? StepKind::kCall : StepKind::kLocal;
}
std::string step_name(const std::string& input, int index) {
  constexpr const char* kNames[] = {"step#", "call#", "sleep#", "signal#", "child#"};
  return kNames[static_cast<int>(kind_of(input, index))] + std::to_string(index);
}
std::string input_of(int64_t one, int64_t two, int64_t three) {
  return std::to_string(one % 6) + ":" + std::to_string(two % 10) + ":" + std::to_string(three % 10);
}
std::string url_of(RunId run, const std::string& step) { return "http://sim/" + std::to_string(run) + "/" + step; }
std::string expected_result(RunId run, const std::string& input);
std::string value_of(RunId run, const std::string& step) {
  if (step.starts_with("call")) return SimServer::body_for(url_of(run, step));
  if (step.starts_with("sleep")) return "null";
  if (step.starts_with("child")) return expected_result(0, kChildInput);
  return "value of " + step;
}

std::string expected_result(RunId run, const std::string& input) {
  std::string all;
  for (int i = 0; i < step_count(input); ++i) all += value_of(run, step_name(input, i)) + ";";
  return all;
}

bool is_end(const Event& event) {
  return event.kind == EventKind::kStepSucceeded || event.kind == EventKind::kStepFailed;
}

const Event* final_event(const std::vector<Event>& events, const std::string& step) {
  const auto found = std::find_if(events.begin(), events.end(),
                                  [&](const Event& event) { return event.step == step && is_end(event); });
  return found == events.end() ? nullptr : &*found;
}

RetryPolicy patient() {
  RetryPolicy policy;
  policy.attempts_max = 50;
  policy.backoff_base_ms = 100;
  policy.backoff_cap_ms = 5'000;
  policy.elapsed_ms_max = 3'600'000;
  return policy;
}

}  // namespace

// One activation in a fake worker: what it knows of its run.
struct SimWorld::Script {
  std::string input;
  LeaseToken token = 0;
  int next = 0;
  int hold_count = 0;
  bool is_pausing = false;
  bool is_busy = false;  // a step is under way
  bool is_waiting = false;
  std::map<std::string, std::string> values;
};

struct SimWorld::Engine {
  Engine(SimWorld& world, int index_, ProcessId process_, uint64_t seed)
      : index(index_),
        process(process_),
        loop(world.clock_, process_),
        store(world.clock_, loop, world.table_, world.store_faults_),
        http(world.clock_, loop, world.server_),
        dispatcher(
            loop, store, http, [&world, this](std::vector<Item>& items) { world.on_items(*this, items); },
            detail::DispatcherOptions{Limits{.crashes_max = 1000, .crashes_alone_min = 1}, kLeaseMs, process_, seed}) {}
  const int index;
  const ProcessId process;
  bool is_dead = false;
  SimLoop loop;
  SimStore store;
  SimHttp http;
  std::map<RunId, Script> scripts;
  int64_t worker_free_at = 0;
  std::deque<std::vector<Item>> batches;  // worked off in order
  detail::Dispatcher dispatcher;
};

SimWorld::SimWorld(uint64_t seed)
    : seed_(seed), clock_(seed), table_(std::make_shared<MemoryTable>()), server_(clock_), engines_(kEngineCount) {
  server_.on_request = [this](const std::string& url) {
    ++report_.requests;
    const size_t cut = url.rfind('/');
    const RunId run = std::stoll(url.substr(11, cut - 11));
    check_not_recorded(run, url.substr(cut + 1), 0, "a call was sent");
  };
  server_.faults.percent = clock_.draw(60);
  store_faults_.slow_percent = clock_.draw(8);
  step_fault_percent_ = clock_.draw(40);
  has_steady_limits_ = clock_.chance(40);
  if (has_steady_limits_) limit_queue();
  for (int i = 0; i < kEngineCount; ++i) boot(i);
}

SimWorld::~SimWorld() = default;

void SimWorld::fail(std::string what) {
  if (report_.violation.empty()) report_.violation = std::move(what);
}

void SimWorld::boot(int index) {
  if (engines_[static_cast<size_t>(index)]) kill(*engines_[static_cast<size_t>(index)]);
  const ProcessId process = next_process_++;
  auto& slot = engines_[static_cast<size_t>(index)];
  slot = std::make_unique<Engine>(*this, index, process, seed_ * 31 + static_cast<uint64_t>(process));
  limit_calls(slot->dispatcher);
  slot->dispatcher.serve(kQueue, 1 + static_cast<int32_t>(clock_.draw(15)));
}

// SIGKILL: nothing of the process runs any more; what it had written stays.
void SimWorld::kill(Engine& engine) {
  engine.is_dead = true;
  report_.refused += engine.store.refused_count();
  clock_.kill(engine.process);
}

void SimWorld::limit_queue() {
  limits_ = {};
  if (clock_.chance(40)) limits_.in_flight_max = 1 + clock_.draw(5);
  if (clock_.chance(60)) limits_.group_in_flight_max = 1 + clock_.draw(1);
  limits_.is_fair = clock_.chance(40);
  if (clock_.chance(20)) {
    limits_.rate_count = 1 + clock_.draw(5);
    limits_.rate_period_ms = 1'000;
  }
  table_->set_limits(kQueue, limits_);
}

void SimWorld::start_some() {
  Engine& engine = *engines_[static_cast<size_t>(clock_.draw(kEngineCount - 1))];
  std::vector<StartRequest> requests(1 + static_cast<size_t>(clock_.draw(3)));
  std::vector<std::string> inputs;
  for (StartRequest& request : requests) {
    request.run.workflow = "script";
    request.run.queue = kQueue;
    std::string input = input_of(clock_.draw(5), clock_.draw(9), clock_.chance(50) ? clock_.draw(9) : 0);
    if (clock_.chance(50)) {
      // Some keys come back, as a client does that lost its answer; the input follows from the key.
      const bool is_repeat = next_key_ > 0 && clock_.chance(40);
      const int key = is_repeat ? static_cast<int>(clock_.draw(next_key_ - 1)) : next_key_++;
      request.run.key = "k" + std::to_string(key);
      input = input_of(key, key, key / 2);
    }
    request.run.fingerprint = std::hash<std::string>{}(input);
    request.run.input = input;
    request.run.priority = static_cast<int32_t>(clock_.draw(2)) - 1;
    if (clock_.chance(60)) request.run.group = "g" + std::to_string(clock_.draw(2));
    if (clock_.chance(30)) request.run.sla_at = engine.loop.wall_ms() + clock_.draw(kSleepMsMax);
    if (request.run.sla_at >= 0) request.run.sla_ms = kSleepMsMax;
    if (request.run.sla_at >= 0) request.run.breach_flow = kTold;
    if (clock_.chance(20)) request.run.wake_at = engine.loop.wall_ms() + clock_.draw(kSleepMsMax);
    request.ticket = next_ticket_++;
    inputs.push_back(input);
  }
  std::vector<std::pair<std::string, uint64_t>> asked;
  asked.reserve(requests.size());
  for (const StartRequest& request : requests) asked.emplace_back(request.run.key, request.ticket);
  engine.dispatcher.start(std::move(requests), [this, inputs, asked](std::vector<StartAnswer> answers) {
    for (size_t i = 0; i < answers.size(); ++i) {
      if (!answers[i].status.is_ok()) return fail("start refused: " + answers[i].status.to_string());
      const RunId run = answers[i].run;
      accept(run, inputs[i]);
      tickets_[asked[i].second] = run;
      if (asked[i].first.empty()) continue;
      const auto [known, is_new] = keys_.emplace(asked[i].first, run);
      if (!is_new && known->second != run) fail("key " + asked[i].first + " started two runs");
    }
  });
}

void SimWorld::accept(RunId run, const std::string& input) {
  if (accepted_.contains(run)) return;
  accepted_[run].input = input;
  for (int i = 0; i < step_count(input); ++i) {
    if (kind_of(input, i) == StepKind::kSignal) untold_.push_back({run, step_name(input, i)});
  }
}

// Somebody outside tells a run something through one of the engines, until it is acknowledged, and sometimes once more.
void SimWorld::tell_one() {
  if (untold_.empty()) return;
  const auto index = static_cast<size_t>(clock_.draw(static_cast<int64_t>(untold_.size()) - 1));
  const Untold told = untold_[index];
  Message message;
  message.to = told.run;
  const bool is_signal = told.step.starts_with("signal");
  message.topic = is_signal ? "signal:" + told.step : told.step;
  if (is_signal) message.key = "once";
  message.payload = value_of(told.run, told.step);
  Engine& engine = *engines_[static_cast<size_t>(clock_.draw(kEngineCount - 1))];
  engine.dispatcher.tell(std::move(message), [this, told](const Status& status) {
    if (!status.is_ok() && status.kind() != StatusKind::kConflict) return fail("told in vain: " + status.to_string());
    if (clock_.chance(20)) return;  // the answer was lost
    std::erase_if(untold_, [&told](const Untold& each) { return each.run == told.run && each.step == told.step; });
  });
}

void SimWorld::pause_one() {
  auto run = accepted_.begin();
  std::advance(run, clock_.draw(static_cast<int64_t>(accepted_.size()) - 1));
  Message message;
  message.to = run->first;
  message.topic = "pause";
  Engine& engine = *engines_[static_cast<size_t>(clock_.draw(kEngineCount - 1))];
  engine.dispatcher.tell(std::move(message), [](const Status&) {});
  untold_.push_back({run->first, "resume"});
}

// What was acknowledged has happened: the run has ended, and does not go on.
void SimWorld::cancel_one() {
  auto entry = accepted_.begin();
  std::advance(entry, clock_.draw(static_cast<int64_t>(accepted_.size()) - 1));
  const RunId run = entry->first;
  unwanted_.insert(run);
  Engine& engine = *engines_[static_cast<size_t>(clock_.draw(kEngineCount - 1))];
  engine.dispatcher.cancel(run, [this, run](const Status& status) {
    if (!status.is_ok()) return fail("cancelled in vain: " + status.to_string());
    ++report_.cancelled;
    const auto found = table_->load(run);
    if (!found || !is_final(found->row.status)) fail("run " + run_name(run) + " goes on after it was cancelled");
  });
}

void SimWorld::break_something() {
  for (int64_t left = clock_.draw(3); left > 0; --left) tell_one();
  if (!accepted_.empty() && clock_.chance(10)) pause_one();
  if (!accepted_.empty() && clock_.chance(10)) cancel_one();
  if (!has_steady_limits_ && clock_.chance(15)) limit_queue();
  try_budgets();
  check_limits();
  Engine& engine = *engines_[static_cast<size_t>(clock_.draw(kEngineCount - 1))];
  if (clock_.chance(25)) {
    ++report_.crashes;
    boot(engine.index);
  } else if (clock_.chance(25)) {
    ++report_.pauses;
    clock_.pause(engine.process, clock_.now_ms() + 1 + clock_.draw(4 * kLeaseMs));
  } else {
    start_some();
  }
}

WorldReport SimWorld::run() {
  start_some();
  const int64_t end = clock_.now_ms() + kBreakMs;
  while (clock_.now_ms() < end && report_.violation.empty()) {
    const int64_t until = clock_.now_ms() + 1 + clock_.draw(4'000);
    while (clock_.step(until) && report_.violation.empty()) {
    }
    break_something();
  }
  if (report_.violation.empty()) heal_and_demand_progress();
  if (report_.violation.empty()) check_final();
  report_.digest = clock_.digest();
  report_.runs = static_cast<int64_t>(accepted_.size());
  for (const auto& engine : engines_) report_.refused += engine->store.refused_count();
  return report_;
}

void SimWorld::heal_and_demand_progress() {
  server_.faults.percent = 0;
  store_faults_.slow_percent = 0;
  step_fault_percent_ = 0;
  raise_budget(1'000'000'000);
  const int64_t end = clock_.now_ms() + kHealMs;
  const auto is_unfinished = [this](const auto& entry) {
    const auto found = table_->load(entry.first);
    return !found || !is_final(found->row.status);
  };
  while (clock_.now_ms() < end && report_.violation.empty()) {
    if (std::none_of(accepted_.begin(), accepted_.end(), is_unfinished)) return;
    for (size_t left = untold_.size(); left > 0; --left) tell_one();
    for (const auto& [run, accepted] : accepted_) {
      const auto found = table_->load(run);
      // A pause may have been slower than the resume that followed it.
      if (found && found->row.status == RunStatus::kPaused) untold_.push_back({run, "resume"});
    }
    const int64_t until = clock_.now_ms() + 1'000;
    while (clock_.step(until) && report_.violation.empty()) {
    }
  }
  const auto stuck = std::find_if(accepted_.begin(), accepted_.end(), is_unfinished);
  if (stuck == accepted_.end()) return;
  const auto found = table_->load(stuck->first);
  std::string what = "run " + run_name(stuck->first) + ", script " + stuck->second.input + ", made no end: ";
  if (!found) return fail(what + "it is gone");
  what += "status " + std::to_string(static_cast<int>(found->row.status)) + ", token " +
          std::to_string(found->row.token) + ", wake_at " + std::to_string(found->row.wake_at) + "; events";
  for (const Event& event : found->events)
    what += " " + std::to_string(static_cast<int>(event.kind)) + ":" + event.step;
  what += "; untaken";
  for (const Message& message : found->messages) what += " " + message.topic;
  what += "; held by the engines";
  for (const auto& engine : engines_) what += " " + std::to_string(engine->dispatcher.counters().runs_in_flight);
  fail(what);
}

void SimWorld::check_final() {
  FindRequest everything;
  everything.count_max = 1'000'000;
  everything.with_events = true;
  check_agreed_times(table_->find(everything));
  check_ledger(table_->find(everything));
  for (const RunHistory& history : table_->find(everything)) {
    // Runs whose start was never answered may still go on, or wait for a signal that nobody knows to send.
    if (!accepted_.contains(history.row.parent) || is_final(history.row.status)) continue;
    return fail("run " + run_name(history.row.run) + ", child of " + run_name(history.row.parent) +
                ", made no end: status " + std::to_string(static_cast<int>(history.row.status)));
  }
  for (const auto& [run, accepted] : accepted_) {
    const auto found = table_->load(run);
    if (!found) return fail("accepted run " + run_name(run) + " is gone");
    if (found->row.status == RunStatus::kCancelled && unwanted_.contains(run)) continue;
    if (found->row.status != RunStatus::kSucceeded)
      return fail("run " + run_name(run) + " failed: " + found->row.result);
    if (found->row.result != expected_result(run, accepted.input)) {
      return fail("run " + run_name(run) + " has a wrong result: " + found->row.result);
    }
    for (int i = 0; i < step_count(accepted.input); ++i) {
      const std::string step = step_name(accepted.input, i);
      const auto ends = std::count_if(found->events.begin(), found->events.end(),
                                      [&](const Event& event) { return event.step == step && is_end(event); });
      if (ends != 1)
        return fail("run " + run_name(run) + ": " + step + " was recorded " + std::to_string(ends) + " times");
    }
    if (static_cast<size_t>(found->row.event_count) != found->events.size()) {
      return fail("run " + run_name(run) + ": event_count differs from the events kept");
    }
  }
}

void SimWorld::on_finished(const Item& item) {
  const auto known = tickets_.find(item.ticket);
  if (known != tickets_.end() && known->second != item.run) return fail("a ticket was answered with another run");
  const auto found = table_->load(item.run);
  if (!found || !is_final(found->row.status))
    return fail("run " + run_name(item.run) + " was announced before its end was kept");
  if (found->row.result != item.payload) fail("run " + run_name(item.run) + " was announced with another result");
}

// The fake worker: takes its time, then does what a real one does.
void SimWorld::on_items(Engine& engine, std::vector<Item>& items) {
  engine.batches.push_back(std::move(items));
  items.clear();
  engine.worker_free_at = std::max(engine.worker_free_at, clock_.now_ms()) + 1 + clock_.draw(30);
  engine.loop.after(engine.worker_free_at - clock_.now_ms(), [this, &engine] {
    // The oldest one: after a pause of the process, timers that are all due fire in any order.
    std::vector<Item> batch = std::move(engine.batches.front());
    engine.batches.pop_front();
    for (Item& item : batch) {
      const auto script = engine.scripts.find(item.run);
      switch (item.kind) {
        case ItemKind::kActivate: {
          if (clock_.chance(10)) check_limits();
          Script fresh;
          fresh.input = item.payload;
          fresh.token = item.token;
          for (const Event& event : item.history) {
            if (event.kind == EventKind::kStepSucceeded) fresh.values[event.step] = event.payload;
            if (event.step.starts_with("held")) ++fresh.hold_count;
          }
          engine.scripts[item.run] = std::move(fresh);
          advance(engine, item.run);
          break;
        }
        case ItemKind::kStepAnswer:
          if (script == engine.scripts.end()) break;
          if (!item.ok) return fail("step " + item.text + " gave up: " + item.payload);
          check_recorded(item.run, item.text);
          script->second.values[item.text] = item.payload;
          script->second.is_busy = script->second.is_waiting = false;
          advance(engine, item.run);
          break;
        case ItemKind::kAttempt:
          if (script != engine.scripts.end()) execute_local(engine, item.run, item.text, item.attempt);
          break;
        case ItemKind::kStop:
          engine.scripts.erase(item.run);
          break;
        case ItemKind::kCallHeld:
          if (script != engine.scripts.end()) wait_for_room(engine, item);
          break;
        case ItemKind::kPause:
          if (script == engine.scripts.end()) break;
          script->second.is_pausing = item.ok;
          if (item.ok) {
            ask_to_park(engine, item.run);
          } else if (!script->second.is_busy) {
            advance(engine, item.run);
          }
          break;
        case ItemKind::kRunFinished:
          on_finished(item);
          break;
        default:
          break;
      }
    }
  });
}

void SimWorld::advance(Engine& engine, RunId run) {
  Script& script = engine.scripts.at(run);
  if (script.is_pausing) return ask_to_park(engine, run);
  while (script.next < step_count(script.input)) {
    const std::string step = step_name(script.input, script.next);
    if (!script.values.contains(step)) return begin_step(engine, run, script, kind_of(script.input, script.next), step);
    ++script.next;
  }
  std::vector<Report> reports(1);
  reports[0].run = run;
  reports[0].token = script.token;
  for (int i = 0; i < step_count(script.input); ++i)
    reports[0].payload += script.values[step_name(script.input, i)] + ";";
  engine.scripts.erase(run);
  engine.dispatcher.report(std::move(reports));
}

void SimWorld::begin_step(Engine& engine, RunId run, Script& script, StepKind kind, const std::string& step) {
  script.is_busy = true;
  script.is_waiting = kind != StepKind::kLocal && kind != StepKind::kCall;
  if (kind == StepKind::kLocal) return execute_local(engine, run, step, 1);
  std::vector<Report> reports(1);
  Report& report = reports[0];
  report.run = run;
  report.token = script.token;
  report.step = step;
  switch (kind) {
    case StepKind::kCall:
      report.kind = ReportKind::kCall;
      report.call = std::make_unique<CallSpec>();
      report.call->request.url = url_of(run, step);
      report.call->judge = JudgeRule{true, "/value"};
      report.call->retry = patient();
      report.call->repeatable = true;
      if (clock_.chance(30)) report.call->retry.hedge_ms = 1 + clock_.draw(600);
      let_pass(run, *report.call);
      let_pay(run, *report.call);
      break;
    case StepKind::kChild:
      report.kind = ReportKind::kChild;
      report.child = std::make_unique<NewRun>();
      report.child->workflow = "script";
      report.child->queue = kQueue;
      report.child->input = kChildInput;
      break;
    case StepKind::kSleep:
      report.kind = ReportKind::kWait;
      report.due_at = engine.loop.wall_ms() + clock_.draw(clock_.chance(50) ? 500 : kSleepMsMax);
      break;
    default:
      report.kind = ReportKind::kWait;
      report.topic = "signal:" + step;
  }
  engine.dispatcher.report(std::move(reports));
  if (kind == StepKind::kCall) return;
  if (clock_.chance(70)) return ask_to_park(engine, run);
  engine.loop.after(clock_.draw(2'000), [this, &engine, run] { ask_to_park(engine, run); });
}

// As for a signal; then the call is asked for anew.
void SimWorld::wait_for_room(Engine& engine, Item& item) {
  Script& script = engine.scripts.at(item.run);
  std::vector<Report> reports(1);
  reports[0].kind = ReportKind::kWait;
  reports[0].run = item.run;
  reports[0].token = script.token;
  reports[0].step = "held#" + std::to_string(++script.hold_count);
  reports[0].topic = item.payload;
  reports[0].due_at = item.due_at;
  reports[0].then_park = clock_.chance(70);
  ++report_.held;
  script.is_waiting = true;
  engine.dispatcher.report(std::move(reports));
}

void SimWorld::ask_to_park(Engine& engine, RunId run) {
  const auto script = engine.scripts.find(run);
  if (script == engine.scripts.end()) return;
  std::vector<Report> reports(1);
  reports[0].kind = ReportKind::kPark;
  reports[0].open_waits = script->second.is_waiting ? 1 : 0;
  reports[0].run = run;
  reports[0].token = script->second.token;
  engine.dispatcher.report(std::move(reports));
}

void SimWorld::execute_local(Engine& engine, RunId run, const std::string& step, int32_t attempt) {
  check_not_recorded(run, step, engine.scripts.at(run).token, "a step ran");
  ++report_.steps;
  std::vector<Report> reports(1);
  reports[0].run = run;
  reports[0].step = step;
  reports[0].attempt = attempt;
  if (clock_.chance(step_fault_percent_)) {
    reports[0].kind = ReportKind::kStepFailed;
    reports[0].payload = "{}";
    reports[0].retryable = true;
    reports[0].retry = patient();
  } else {
    reports[0].kind = ReportKind::kStepSucceeded;
    reports[0].payload = value_of(run, step);
  }
  const int64_t took_ms = clock_.draw(2 * kStepSlaMs);
  // Some workers report twice; the second must change nothing.
  const bool twice = clock_.chance(10);
  for (int i = 0; i < (twice ? 2 : 1); ++i) {
    std::vector<Report> copy(1);
    copy[0].kind = reports[0].kind;
    copy[0].run = run;
    copy[0].token = engine.scripts.at(run).token;
    copy[0].step = step;
    copy[0].attempt = attempt;
    copy[0].payload = reports[0].payload;
    copy[0].retryable = reports[0].retryable;
    copy[0].retry = reports[0].retry;
    copy[0].took_ms = took_ms;
    copy[0].sla_ms = kStepSlaMs;
    copy[0].breach_flow = kTold;
    engine.dispatcher.report(std::move(copy));
  }
}

// Promise 3: what a worker is told, it may act upon.
void SimWorld::check_recorded(RunId run, const std::string& step) {
  const auto found = table_->load(run);
  if (!found || final_event(found->events, step) == nullptr) {
    fail("run " + run_name(run) + ": " + step + " was answered before it was recorded");
  }
}

// Promise 2. An owner that lost its lease without knowing may still try (its write is refused), so only the present
// owner is held to it; token 0 asks whoever drives the run.
void SimWorld::check_not_recorded(RunId run, const std::string& step, LeaseToken token, const char* what) {
  const auto found = table_->load(run);
  if (!found || final_event(found->events, step) == nullptr) return;
  if (token != 0 && token != found->row.token) return;
  if (token == 0) {
    // Somebody who has been replaced may have sent it; then a later owner exists.
    const bool is_stale = std::any_of(engines_.begin(), engines_.end(), [&](const auto& engine) {
      const auto script = engine ? engine->scripts.find(run) : decltype(engine->scripts.end()){};
      return engine && script != engine->scripts.end() && script->second.token != found->row.token;
    });
    if (is_stale || found->row.claims > 1) return;
  }
  fail(std::string(what) + " although it was recorded: " + run_name(run) + " " + step);
}

}  // namespace stepwell::sim
