#include "runtime/admission.h"

#include <algorithm>
#include <set>

#include "base/random.h"
#include "stepwell/engine.h"

namespace stepwell::detail {

namespace {

constexpr int64_t kLineMax = 10'000;  // calls that wait in memory for one bucket
constexpr int64_t kFullMs = 30'000;   // a full line is asked again after this, and up to as much again
// A held call comes back this long before its turn, so that the line does not run empty.
constexpr int64_t kLeadMs = kHoldMsMin / 2;
// Estimates are far above what calls use, and a line that runs empty wastes a limit: so many are given each turn, and
// who finds the line long again is given another.
constexpr int64_t kOverbooked = 4;
constexpr int64_t kRetryMsMin = 1'000;
// Above so many, those that nobody has used for a while are forgotten.
constexpr size_t kNamesMax = 4'096;
constexpr int64_t kIdleMs = 600'000;

std::string without_key(const std::string& name) { return name.substr(0, name.rfind('#')); }

}  // namespace

struct WaitingCall {
  CallRef call;
  Circuit* circuit;
  int64_t tokens;
};

struct Circuit {
  std::string name;
  Breaker breaker;
  RetryBudget retries;
  int64_t retry_booked_ms = 0;
  int64_t user_count = 0;  // calls in line and in flight
  int64_t used_at_ms = 0;
  int64_t held = 0;
  int64_t retries_held = 0;
};

enum class TenantState : uint8_t { kIdle, kReady, kLimited, kFull };

struct Tenant {
  using Key = std::pair<int64_t, PlaceId>;  // higher priority first, then whoever came first
  int64_t id = 0;
  Limiter limiter;
  std::map<Key, WaitingCall> line;
  int64_t line_tokens = 0;
  TenantState state = TenantState::kIdle;
  int64_t served = 0;       // tokens, in the bucket's virtual time
  int64_t ready_at_ms = 0;  // when limited
  int64_t booked_ms = 0;
  int64_t used_at_ms = 0;
};

struct Bucket {
  Bucket(std::string name_, int64_t now_ms) : name(std::move(name_)), limiter(now_ms) {}
  // Ids and not addresses decide between equals, so that a seed repeats a simulation.
  struct LeastServed {
    bool operator()(const Tenant* a, const Tenant* b) const {
      return std::pair(a->served, a->id) < std::pair(b->served, b->id);
    }
  };
  struct SoonestReady {
    bool operator()(const Tenant* a, const Tenant* b) const {
      return std::pair(a->ready_at_ms, a->id) < std::pair(b->ready_at_ms, b->id);
    }
  };
  std::string name;
  BucketLimiter limiter;
  CallLimits limits;
  std::unordered_map<std::string, std::unique_ptr<Tenant>> tenants;
  std::set<Tenant*, LeastServed> ready;
  std::set<Tenant*, SoonestReady> limited;
  int64_t served = 0;  // where the tenant stood that was served last: who comes now begins there
  int64_t next_tenant = 0;
  int64_t waiting = 0;
  int64_t waiting_tokens = 0;
  int64_t booked_ms = 0;  // the turn of the last call that was held
  TimerId timer = 0;
  int64_t timer_at_ms = 0;
  int64_t used_at_ms = 0;
  int64_t sent = 0, held = 0, throttled = 0, tokens_used = 0;

  void set_state(Tenant& tenant, TenantState state, int64_t ready_at_ms = 0) {
    if (tenant.state == TenantState::kReady) ready.erase(&tenant);
    if (tenant.state == TenantState::kLimited) limited.erase(&tenant);
    // Who had nothing to ask for has saved nothing up.
    if (state == TenantState::kReady) tenant.served = std::max(tenant.served, served);
    tenant.state = state;
    tenant.ready_at_ms = ready_at_ms;
    if (state == TenantState::kReady) ready.insert(&tenant);
    if (state == TenantState::kLimited) limited.insert(&tenant);
  }
};

// --- names ---

AdmissionStage::AdmissionStage(Loop& loop, uint64_t seed, Rule rule)
    : loop_(loop), rule_(std::move(rule)), random_state_(seed) {}

AdmissionStage::~AdmissionStage() {
  for (auto& [name, bucket] : buckets_) {
    if (bucket->timer != 0) loop_.cancel(bucket->timer);
  }
}

Bucket& AdmissionStage::bucket_of(const std::string& name) {
  const int64_t now = loop_.now_ms();
  auto found = buckets_.find(name);
  if (found == buckets_.end()) {
    if (buckets_.size() >= kNamesMax) {
      std::erase_if(buckets_, [now](const auto& each) {
        const Bucket& bucket = *each.second;
        return bucket.waiting == 0 && bucket.limiter.in_flight() == 0 && now - bucket.used_at_ms > kIdleMs;
      });
    }
    found = buckets_.emplace(name, std::make_unique<Bucket>(name, now)).first;
    found->second->limits = limits_for(name);
    found->second->limiter.set_limits(found->second->limits, now);
  }
  found->second->used_at_ms = now;
  return *found->second;
}

Circuit& AdmissionStage::circuit_of(const std::string& name) {
  const int64_t now = loop_.now_ms();
  auto found = circuits_.find(name);
  if (found == circuits_.end()) {
    if (circuits_.size() >= kNamesMax) {
      std::erase_if(circuits_, [now](const auto& each) {
        return each.second->user_count == 0 && now - each.second->used_at_ms > kIdleMs;
      });
    }
    found = circuits_.emplace(name, std::make_unique<Circuit>()).first;
    found->second->name = name;
    const BreakerPolicy policy = policy_for(name);
    found->second->breaker.set_policy(policy);
    found->second->retries.set_policy(policy, now);
  }
  found->second->used_at_ms = now;
  return *found->second;
}

Tenant& AdmissionStage::tenant_of(Bucket& bucket, const std::string& name) {
  const int64_t now = loop_.now_ms();
  auto found = bucket.tenants.find(name);
  if (found == bucket.tenants.end()) {
    if (bucket.tenants.size() >= kNamesMax) {
      std::erase_if(bucket.tenants, [now](const auto& each) {
        const Tenant& tenant = *each.second;
        return tenant.line.empty() && tenant.limiter.in_flight() == 0 && now - tenant.used_at_ms > kIdleMs;
      });
    }
    found = bucket.tenants.emplace(name, std::make_unique<Tenant>()).first;
    found->second->id = bucket.next_tenant++;
    found->second->limiter.set_rates(bucket.limits.tenant, bucket.limits.burst_ms, now);
  }
  found->second->used_at_ms = now;
  return *found->second;
}

CallLimits AdmissionStage::limits_for(const std::string& bucket) const {
  const std::string name = without_key(bucket);
  for (const std::string& known : {name, name.substr(0, name.find(':')) + ":*", std::string("*")}) {
    const auto found = limits_.find(known);
    if (found != limits_.end()) return found->second;
  }
  return {};
}

BreakerPolicy AdmissionStage::policy_for(const std::string& circuit) const {
  const std::string name = without_key(circuit);
  for (const std::string& known : {name, name.substr(0, name.find('/')), std::string("*")}) {
    const auto found = policies_.find(known);
    if (found != policies_.end()) return found->second;
  }
  return {};
}

void AdmissionStage::set_limits(const std::string& name, const CallLimits& limits) {
  limits_.insert_or_assign(name, limits);
  const int64_t now = loop_.now_ms();
  for (auto& [key, bucket] : buckets_) {
    bucket->limits = limits_for(key);
    bucket->limiter.set_limits(bucket->limits, now);
    for (auto& [tenant_name, tenant] : bucket->tenants) {
      tenant->limiter.set_rates(bucket->limits.tenant, bucket->limits.burst_ms, now);
      if (!tenant->line.empty()) bucket->set_state(*tenant, TenantState::kReady);
    }
    pump(*bucket);
  }
}

void AdmissionStage::set_breaker(const std::string& name, const BreakerPolicy& policy) {
  policies_.insert_or_assign(name, policy);
  for (auto& [key, circuit] : circuits_) {
    const BreakerPolicy now_valid = policy_for(key);
    circuit->breaker.set_policy(now_valid);
    circuit->retries.set_policy(now_valid, loop_.now_ms());
  }
}

// --- a call's way ---

PlaceId AdmissionStage::ask(CallRef call, const Admission& admission, int32_t priority) {
  Circuit* circuit = admission.circuit.empty() ? nullptr : &circuit_of(admission.circuit);
  Bucket* bucket = admission.bucket.empty() ? nullptr : &bucket_of(admission.bucket);
  if (circuit != nullptr && hold_for_circuit(*circuit, call, bucket)) return 0;
  const int64_t tokens = std::max<int64_t>(admission.tokens, 0);
  Tenant* tenant = bucket == nullptr ? nullptr : &tenant_of(*bucket, admission.tenant);
  if (bucket != nullptr && (refuse_too_large(*bucket, call, tokens) || hold_for_line(*bucket, *tenant, call, tokens))) {
    return 0;
  }
  if (circuit != nullptr && call.attempt > 1) circuit->retries.on_retry(loop_.now_ms());
  if (bucket == nullptr) {
    Ruling ruling;
    ruling.pass = enter_circuit(circuit, call.attempt == 1);
    rule_(call, ruling);
    return 0;
  }
  const int64_t now = loop_.now_ms();
  const int64_t expected = bucket->limiter.expected(tokens);
  if (bucket->waiting == 0 && bucket->limiter.wait_ms(expected, now) == 0 &&
      tenant->limiter.wait_ms(expected, now) == 0) {
    send(*bucket, circuit, *tenant, call, tokens);
    return 0;
  }
  const PlaceId place = next_place_++;
  places_.emplace(place, Place{bucket, tenant, -static_cast<int64_t>(priority)});
  tenant->line.emplace(Tenant::Key(-static_cast<int64_t>(priority), place),
                       WaitingCall{std::move(call), circuit, tokens});
  tenant->line_tokens += tokens;
  ++bucket->waiting;
  bucket->waiting_tokens += tokens;
  if (circuit != nullptr) ++circuit->user_count;
  if (tenant->state == TenantState::kIdle) bucket->set_state(*tenant, TenantState::kReady);
  pump(*bucket);
  return places_.contains(place) ? place : 0;
}

void AdmissionStage::pump(Bucket& bucket) {
  while (bucket.waiting > 0) {
    const int64_t now = loop_.now_ms();
    while (!bucket.limited.empty() && (*bucket.limited.begin())->ready_at_ms <= now) {
      bucket.set_state(**bucket.limited.begin(), TenantState::kReady);
    }
    if (bucket.ready.empty()) {
      if (!bucket.limited.empty()) wake_by(bucket, (*bucket.limited.begin())->ready_at_ms);
      return;
    }
    Tenant& tenant = **bucket.ready.begin();
    const int64_t expected = bucket.limiter.expected(tenant.line.begin()->second.tokens);
    const int64_t wait = bucket.limiter.wait_ms(expected, now);
    if (wait != 0) {
      if (wait > 0) wake_by(bucket, now + wait);
      return;
    }
    const int64_t own_wait = tenant.limiter.wait_ms(expected, now);
    if (own_wait == kUntilOneEnds) {
      bucket.set_state(tenant, TenantState::kFull);
      continue;
    }
    if (own_wait > 0) {
      bucket.set_state(tenant, TenantState::kLimited, now + own_wait);
      continue;
    }
    WaitingCall call = take_out(bucket, tenant, tenant.line.begin()->first);
    if (call.circuit == nullptr || !hold_if_open(*call.circuit, call.call, &bucket)) {
      send(bucket, call.circuit, tenant, call.call, call.tokens);
    }
  }
}

void AdmissionStage::wake_by(Bucket& bucket, int64_t at_ms) {
  if (bucket.timer != 0 && bucket.timer_at_ms <= at_ms) return;
  if (bucket.timer != 0) loop_.cancel(bucket.timer);
  bucket.timer_at_ms = at_ms;
  bucket.timer = loop_.after(std::max<int64_t>(at_ms - loop_.now_ms(), 1), [this, &bucket] {
    bucket.timer = 0;
    pump(bucket);
  });
}

WaitingCall AdmissionStage::take_out(Bucket& bucket, Tenant& tenant, const Tenant::Key& key) {
  auto taken = tenant.line.extract(key);
  WaitingCall call = std::move(taken.mapped());
  places_.erase(taken.key().second);
  tenant.line_tokens -= call.tokens;
  --bucket.waiting;
  bucket.waiting_tokens -= call.tokens;
  if (call.circuit != nullptr) --call.circuit->user_count;
  if (tenant.line.empty()) bucket.set_state(tenant, TenantState::kIdle);
  return call;
}

CallPass AdmissionStage::enter_circuit(Circuit* circuit, bool is_first) {
  CallPass pass;
  pass.sent_at_ms = loop_.now_ms();
  if (circuit == nullptr) return pass;
  pass.circuit = circuit;
  pass.breaker = circuit->breaker.enter(pass.sent_at_ms);
  if (is_first) circuit->retries.on_first_attempt();
  ++circuit->user_count;
  return pass;
}

CallPass AdmissionStage::enter(Bucket& bucket, Circuit* circuit, Tenant& tenant, bool is_first, int64_t estimate) {
  const int64_t tokens = bucket.limiter.expected(estimate);
  CallPass pass = enter_circuit(circuit, is_first);
  pass.bucket = &bucket;
  pass.tenant = &tenant;
  pass.estimate = estimate;
  pass.tokens = tokens;
  const int64_t now = pass.sent_at_ms;
  pass.marks = bucket.limiter.enter(tokens, now);
  tenant.limiter.enter(tokens, now);
  ++bucket.sent;
  bucket.set_state(tenant, TenantState::kIdle);  // out of the order, which its turn changes
  tenant.served = std::max(tenant.served, bucket.served);
  bucket.served = tenant.served;
  tenant.served += std::max<int64_t>(tokens, 1);
  if (!tenant.line.empty()) bucket.set_state(tenant, TenantState::kReady);
  return pass;
}

void AdmissionStage::send(Bucket& bucket, Circuit* circuit, Tenant& tenant, const CallRef& call, int64_t estimate) {
  Ruling ruling;
  ruling.pass = enter(bucket, circuit, tenant, call.attempt == 1, estimate);
  rule_(call, ruling);
}

std::optional<CallPass> AdmissionStage::pass_beside(const Admission& admission) {
  const int64_t now = loop_.now_ms();
  Circuit* circuit = admission.circuit.empty() ? nullptr : &circuit_of(admission.circuit);
  if (circuit != nullptr &&
      (circuit->breaker.state(now) != CircuitState::kClosed || circuit->retries.wait_ms(now) > 0)) {
    return std::nullopt;
  }
  CallPass pass;
  if (admission.bucket.empty()) {
    pass = enter_circuit(circuit, /*is_first=*/false);
  } else {
    Bucket& bucket = bucket_of(admission.bucket);
    Tenant& tenant = tenant_of(bucket, admission.tenant);
    const int64_t tokens = std::max<int64_t>(admission.tokens, 0);
    const int64_t expected = bucket.limiter.expected(tokens);
    if (bucket.waiting > 0 || bucket.limiter.wait_ms(expected, now) != 0 || tenant.limiter.wait_ms(expected, now) != 0)
      return std::nullopt;
    pass = enter(bucket, circuit, tenant, /*is_first=*/false, tokens);
  }
  if (circuit != nullptr) circuit->retries.on_retry(now);
  return pass;
}

void AdmissionStage::hold(const CallRef& call, int64_t wait_ms, int64_t spread_ms, Bucket* bucket) {
  ++held_;
  if (bucket != nullptr) ++bucket->held;
  Ruling ruling;
  ruling.kind = RulingKind::kHold;
  ruling.due_at = loop_.wall_ms() + wait_ms + random_up_to(random_state_, spread_ms);
  rule_(call, ruling);
}

bool AdmissionStage::hold_if_open(Circuit& circuit, const CallRef& call, Bucket* bucket) {
  const int64_t wait = circuit.breaker.wait_ms(loop_.now_ms());
  if (wait == 0) return false;
  if (call.fails_when_open) {
    Ruling ruling;
    ruling.kind = RulingKind::kRefuse;
    ruling.status = Status(StatusKind::kBusy, code::kCircuitOpen,
                           without_key(circuit.name) + " fails, and is asked again in " + std::to_string(wait) + " ms");
    rule_(call, ruling);
    return true;
  }
  ++circuit.held;
  hold(call, wait, std::max(kRetryMsMin, circuit.breaker.cool_down_ms() / 2), bucket);
  return true;
}

bool AdmissionStage::hold_for_circuit(Circuit& circuit, const CallRef& call, Bucket* bucket) {
  if (hold_if_open(circuit, call, bucket)) return true;
  const int64_t now = loop_.now_ms();
  if (call.attempt == 1 || circuit.retries.wait_ms(now) == 0) return false;
  // Each gets a turn of its own, in the pace that is granted in any case.
  circuit.retry_booked_ms = std::max(circuit.retry_booked_ms, now + kRetryMsMin) + circuit.retries.pace_ms();
  ++circuit.retries_held;
  hold(call, circuit.retry_booked_ms - now, 0, bucket);
  return true;
}

bool AdmissionStage::refuse_too_large(const Bucket& bucket, const CallRef& call, int64_t tokens) {
  int64_t most = bucket.limits.all.tokens_per_minute;
  const int64_t of_tenant = bucket.limits.tenant.tokens_per_minute;
  if (of_tenant > 0 && (most <= 0 || of_tenant < most)) most = of_tenant;
  if (most <= 0 || tokens <= most) return false;
  Ruling ruling;
  ruling.kind = RulingKind::kRefuse;
  ruling.status = Status(StatusKind::kInvalid, code::kCallTooLarge,
                         "the call reserves " + std::to_string(tokens) + " tokens, and " + without_key(bucket.name) +
                             " is limited to " + std::to_string(most) + " a minute: it could never be sent");
  rule_(call, ruling);
  return true;
}

// Who would stand in line for long is given a turn, and comes back a little before it.
bool AdmissionStage::hold_for_line(Bucket& bucket, Tenant& tenant, const CallRef& call, int64_t tokens) {
  if (bucket.waiting >= kLineMax) {
    hold(call, kFullMs, kFullMs, &bucket);
    return true;
  }
  const int64_t now = loop_.now_ms();
  const auto turn = [&](int64_t wait, int64_t cost, int64_t& booked_ms) {
    if (wait < kHoldMsMin) return int64_t{0};
    const int64_t at = std::max(booked_ms, now + wait);
    booked_ms = at + std::max<int64_t>(cost / kOverbooked, 1);
    return at - now - kLeadMs;
  };
  const auto line_count = static_cast<int64_t>(tenant.line.size());
  const int64_t cost = bucket.limiter.expected(tokens);
  const int64_t own =
      turn(tenant.limiter.wait_behind_ms(line_count, bucket.limiter.expected(tenant.line_tokens), cost, now),
           tenant.limiter.pace_ms(cost), tenant.booked_ms);
  const int64_t common =
      own > 0 ? 0
              : turn(bucket.limiter.wait_behind_ms(
                         bucket.waiting, bucket.limiter.expected(bucket.waiting_tokens, bucket.waiting), cost, now),
                     bucket.limiter.pace_ms(cost), bucket.booked_ms);
  if (own == 0 && common == 0) return false;
  hold(call, std::max(own, common), 0, &bucket);
  return true;
}

// It has opened: nobody waits for it in memory.
void AdmissionStage::turn_away(Circuit& circuit) {
  for (auto& [name, bucket] : buckets_) {
    std::vector<std::pair<Tenant*, Tenant::Key>> gone;
    for (auto& [tenant_name, tenant] : bucket->tenants) {
      for (const auto& [key, waiting] : tenant->line) {
        if (waiting.circuit == &circuit) gone.emplace_back(tenant.get(), key);
      }
    }
    std::sort(gone.begin(), gone.end(), [](const auto& a, const auto& b) { return a.second.second < b.second.second; });
    for (const auto& [tenant, key] : gone) hold_if_open(circuit, take_out(*bucket, *tenant, key).call, bucket.get());
  }
}

void AdmissionStage::withdraw(PlaceId place) {
  const auto found = places_.find(place);
  if (found == places_.end()) return;
  const Place at = found->second;
  take_out(*at.bucket, *at.tenant, Tenant::Key(at.order, place));
}

void AdmissionStage::begun(const CallPass& pass, const PeerLimits& peer) {
  if (pass.bucket == nullptr) return;
  pass.bucket->limiter.begun(pass.marks, peer, loop_.now_ms());
  pump(*pass.bucket);
}

void AdmissionStage::settle(const CallPass& pass, const Verdict& verdict) {
  const int64_t now = loop_.now_ms();
  if (pass.circuit != nullptr) {
    --pass.circuit->user_count;
    const CallOutcome outcome = verdict.blame == Blame::kPeer      ? CallOutcome::kFault
                                : verdict.blame == Blame::kUnknown ? CallOutcome::kUnknown
                                                                   : CallOutcome::kGood;
    if (pass.circuit->breaker.leave(pass.breaker, outcome, now - pass.sent_at_ms, now, random_state_))
      turn_away(*pass.circuit);
  }
  if (pass.bucket == nullptr) return;
  Bucket& bucket = *pass.bucket;
  CallEnd end;
  end.estimate = pass.estimate;
  end.tokens = pass.tokens;
  if (verdict.usage.input >= 0 || verdict.usage.output >= 0) {
    end.used = std::max<int64_t>(verdict.usage.input, 0) + std::max<int64_t>(verdict.usage.output, 0);
  }
  end.sent_at_ms = pass.sent_at_ms;
  end.marks = pass.marks;
  end.is_ok = verdict.ok;
  end.is_throttled = verdict.blame == Blame::kThrottle;
  end.retry_after_ms = verdict.retry_after_ms;
  end.is_begun = pass.is_begun;
  end.peer = verdict.limits;
  bucket.limiter.leave(end, now, random_state_);
  bucket.tokens_used += end.used >= 0 ? end.used : end.tokens;
  if (end.is_throttled) {
    ++bucket.throttled;
    ++throttled_;
  }
  pass.tenant->limiter.leave(end.tokens, end.used, now);
  if (pass.tenant->state == TenantState::kFull) bucket.set_state(*pass.tenant, TenantState::kReady);
  pump(bucket);
}

// --- looking ---

std::vector<BucketView> AdmissionStage::buckets() {
  std::vector<BucketView> views;
  for (auto& [name, bucket] : buckets_) {
    BucketView& view = views.emplace_back();
    view.name = name;
    bucket->limiter.look(view, loop_.now_ms(), loop_.wall_ms());
    view.waiting = bucket->waiting;
    view.tenants = static_cast<int64_t>(bucket->tenants.size());
    view.sent = bucket->sent;
    view.held = bucket->held;
    view.throttled = bucket->throttled;
    view.tokens_used = bucket->tokens_used;
  }
  std::sort(views.begin(), views.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return views;
}

std::vector<CircuitView> AdmissionStage::circuits() {
  std::vector<CircuitView> views;
  for (auto& [name, circuit] : circuits_) {
    CircuitView& view = views.emplace_back();
    view.name = name;
    circuit->breaker.look(view, loop_.now_ms(), loop_.wall_ms());
    view.held = circuit->held;
    view.retries_held = circuit->retries_held;
  }
  std::sort(views.begin(), views.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return views;
}

void AdmissionStage::add_to(Counters& counters) const {
  counters.calls_waiting = static_cast<int64_t>(places_.size());
  counters.calls_held = held_;
  counters.calls_throttled = throttled_;
}

}  // namespace stepwell::detail
