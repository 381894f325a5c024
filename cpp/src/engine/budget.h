// One call's side of its budgets: what it has reserved, and what becomes of that. Pure: it adds events and spends to a
// decision, and comes back to the same state from the events.
//
//   nothing -> asked -> reserved -> spent       the attempt succeeded
//                    |           -> nothing     it failed, and was surely not done: given back
//                    |           -> in doubt    it failed and may have been done -> spent by a later attempt, or for
//                    good
//                    -> nothing                 a budget had no room
//
// Attempts of one step carry the same idempotency key, so that a later one settles what an earlier one may have cost.
#pragma once

#include <string>
#include <vector>

#include "stepwell/call.h"
#include "stepwell/engine.h"

namespace stepwell::detail {

// What an answer costs. `odd` says why the usage is not to be trusted, or empty.
struct Settlement {
  Cost cost;
  const char* odd = "";
};
// Nonsense (missing, negative, more cached than taken in) settles at the estimate.
Settlement settle(const Price& price, const Cost& estimate, const Usage& usage);

// No sum goes round.
Cost sum_of(const Cost& one, const Cost& other);
Cost negative(const Cost& cost);

class CallAccount {
 public:
  // In recovery. An attempt that was reserved for may have been sent: only an answer can tell that it cost nothing.
  // False for an event whose payload is damaged.
  bool replay(const Event& event);
  // What the call says now; what is reserved stays as it was reserved.
  void take(Spending spending);

  [[nodiscard]] bool is_needed() const { return state_ == State::kNone && !spending_.budgets.empty(); }
  // These return how many events they added. `seq` is the next event's number.
  int64_t ask(RunId run, const std::string& step, int64_t seq, Decision& decision);
  int64_t succeed(const std::string& step, const Usage& usage, Decision& decision);
  int64_t fail(const std::string& step, bool maybe_done, Decision& decision);
  // The run ends, whatever is under way.
  int64_t abandon(const std::string& step, Decision& decision);

  void on_granted() { state_ = state_ == State::kAsked ? State::kReserved : state_; }
  void on_refused() { state_ = state_ == State::kAsked ? State::kNone : state_; }

 private:
  enum class State : uint8_t { kNone, kAsked, kReserved, kDoubt };
  // A spend for each budget, made by `change`.
  template <typename Change>
  void spend(Decision& decision, Change change) const;
  int64_t record(const std::string& step, const char* as, const Cost& cost, const char* odd, Decision& decision) const;
  int64_t doubt(const std::string& step, Decision& decision);
  int64_t give_back(const std::string& step, Decision& decision);

  State state_ = State::kNone;
  bool is_old_ = false;  // reserved by an earlier activation
  int64_t asked_seq_ = -1;
  Cost held_;
  std::vector<std::string> holders_;  // the budgets that hold it
  Spending spending_;
};

}  // namespace stepwell::detail
