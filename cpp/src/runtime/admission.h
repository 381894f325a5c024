// The admission stage: what a call passes before it is sent. Circuit breaker, retry budget, limiter.
//
// Loop thread only. It keeps buckets and circuits by name, the lines of calls that wait in memory, and their timers. A
// call that would wait for long is held: its run waits in the store, and asks anew. Nothing here is stored.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/breaker.h"
#include "engine/limiter.h"
#include "stepwell/call.h"
#include "stepwell/function.h"
#include "stepwell/loop.h"
#include "stepwell/runtime.h"

namespace stepwell::detail {

// Which attempt of which call it is about.
struct CallRef {
  RunId run = 0;
  LeaseToken token = 0;
  std::string step;
  int32_t attempt = 1;
  bool fails_when_open = false;  // see Admission
};

struct Bucket;
struct Circuit;
struct Tenant;
struct WaitingCall;

// What a call was let through with, and settles when it has ended.
struct CallPass {
  Bucket* bucket = nullptr;  // none: nothing to settle
  Circuit* circuit = nullptr;
  Tenant* tenant = nullptr;
  int64_t estimate = 0;
  int64_t tokens = 0;  // reserved
  int64_t sent_at_ms = 0;
  PeerMarks marks;
  bool is_begun = false;  // AdmissionStage::begun was told
  BreakerPass breaker;
};

enum class RulingKind : uint8_t { kSend, kHold, kRefuse };

struct Ruling {
  RulingKind kind = RulingKind::kSend;
  CallPass pass;
  WallMs due_at = -1;  // kHold: ask anew then
  Status status;       // kRefuse: why it may never be sent
};

using PlaceId = uint64_t;  // in a line; 0: none

class AdmissionStage {
 public:
  using Rule = MoveFunction<void(const CallRef& call, const Ruling& ruling)>;

  // `rule` hears of each call asked for exactly once, unless it is withdrawn: inside ask, or later.
  AdmissionStage(Loop& loop, uint64_t seed, Rule rule);
  ~AdmissionStage();
  AdmissionStage(const AdmissionStage&) = delete;
  AdmissionStage& operator=(const AdmissionStage&) = delete;

  // Asks for a call to be sent. The answer is its place in line, 0 when it was ruled upon already. A call with neither
  // bucket nor circuit passes.
  PlaceId ask(CallRef call, const Admission& admission, int32_t priority);
  // Lets the same request through once more beside the first, if that keeps nobody else waiting: a closed circuit, the
  // share of its retries, room in the limits, and nobody in line.
  std::optional<CallPass> pass_beside(const Admission& admission);
  // Nobody wants the call any more. Unknown places are ignored.
  void withdraw(PlaceId place);
  // A call that was let through is a stream, and has brought its first event: the peer has taken it on. A stream may
  // last for minutes; whom it keeps waiting need not wait for its end.
  void begun(const CallPass& pass, const PeerLimits& peer);
  // Tells what came of a call that was let through; exactly once.
  void settle(const CallPass& pass, const Verdict& verdict);

  // Limits by the name of a bucket without its key: "openai:gpt-4o-mini", else "openai:*", else "*".
  void set_limits(const std::string& name, const CallLimits& limits);
  // By the name of a circuit without its key, "api.openai.com/gpt-4o", else "api.openai.com", else "*".
  void set_breaker(const std::string& name, const BreakerPolicy& policy);
  [[nodiscard]] std::vector<BucketView> buckets();
  [[nodiscard]] std::vector<CircuitView> circuits();
  void add_to(Counters& counters) const;

 private:
  struct Place {
    Bucket* bucket;
    Tenant* tenant;
    int64_t order;  // among the tenant's calls
  };
  Bucket& bucket_of(const std::string& name);
  Circuit& circuit_of(const std::string& name);
  Tenant& tenant_of(Bucket& bucket, const std::string& name);
  [[nodiscard]] CallLimits limits_for(const std::string& bucket) const;
  [[nodiscard]] BreakerPolicy policy_for(const std::string& circuit) const;
  // Each says whether it has ruled: the call may not be sent now, or never.
  bool hold_for_circuit(Circuit& circuit, const CallRef& call, Bucket* bucket);
  bool hold_if_open(Circuit& circuit, const CallRef& call, Bucket* bucket);
  bool hold_for_line(Bucket& bucket, Tenant& tenant, const CallRef& call, int64_t tokens);
  bool refuse_too_large(const Bucket& bucket, const CallRef& call, int64_t tokens);
  void hold(const CallRef& call, int64_t wait_ms, int64_t spread_ms, Bucket* bucket);
  void turn_away(Circuit& circuit);
  // Sends what may be sent, in turn, and sees that it is looked again when more may.
  void pump(Bucket& bucket);
  void wake_by(Bucket& bucket, int64_t at_ms);
  WaitingCall take_out(Bucket& bucket, Tenant& tenant, const std::pair<int64_t, PlaceId>& key);
  CallPass enter_circuit(Circuit* circuit, bool is_first);
  CallPass enter(Bucket& bucket, Circuit* circuit, Tenant& tenant, bool is_first, int64_t estimate);
  void send(Bucket& bucket, Circuit* circuit, Tenant& tenant, const CallRef& call, int64_t estimate);

  Loop& loop_;
  Rule rule_;
  uint64_t random_state_;
  std::map<std::string, CallLimits> limits_;
  std::map<std::string, BreakerPolicy> policies_;
  std::unordered_map<std::string, std::unique_ptr<Bucket>> buckets_;
  std::unordered_map<std::string, std::unique_ptr<Circuit>> circuits_;
  std::unordered_map<PlaceId, Place> places_;
  PlaceId next_place_ = 1;
  int64_t held_ = 0;
  int64_t throttled_ = 0;
};

}  // namespace stepwell::detail
