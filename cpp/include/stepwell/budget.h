// Budgets and their ledger: money and tokens that calls reserve before they are sent, and spend.
//
// A budget is an account in the store: a cap, what was spent, what is reserved, and what is in doubt (an attempt that
// may have been done, of which nobody knows what it cost). The store alone decides whether a reservation fits, in the
// transaction that records it in the run's history: spent + reserved + in doubt + estimate <= cap, whoever else asks.
// One that does not fit is recorded as such, and the run waits for a message that the store sends when there is room.
// Plain values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stepwell/types.h"

namespace stepwell {

// 10^-12 US dollars: cents of a thousandth of a token's price are still whole numbers.
using Picodollars = int64_t;

// Of one token.
struct Price {
  Picodollars input = 0;
  Picodollars output = 0;
  Picodollars cached = 0;  // instead of `input`
};

// Sums stop at the ends of 64 bits instead of going round.
struct Cost {
  Picodollars usd = 0;
  int64_t tokens = 0;
  friend bool operator==(const Cost&, const Cost&) = default;
};

// One budget that a call counts against.
struct BudgetUse {
  std::string name;      // the account: "support", "support/2026-11-21", "per run/r_12ab"
  Cost cap{-1, -1};      // of an account that the store does not know yet; -1: no cap
  WallMs due_at = -1;    // when the call may be sent without anybody's doing: its day is over
  bool fails = false;    // a call that has no room fails instead of waiting
  bool is_runs = false;  // the account is this run's own, and goes with it
};

// What a call costs, and whose money it is. The estimate is reserved in each of the budgets before the call is sent.
struct Spending {
  Price price;
  Cost estimate;
  std::vector<BudgetUse> budgets;
};

// An account, as the store keeps it.
struct BudgetRow {
  std::string name;
  Cost cap{-1, -1};
  Cost spent;
  Cost reserved;
  Cost doubt;
  int64_t call_count = 0;     // settled
  int64_t odd_count = 0;      // of these: usage that was nonsense, or more than the estimate
  int64_t waiting_count = 0;  // calls held back
  bool is_closed = false;     // nothing more is paid from it, and who waits is told so
  RunId run = 0;              // whose own it is; 0: several runs'
  WallMs at = 0;              // of the last change
  std::string notes;          // who changed it, when and why, oldest first: a JSON text a line
};

// What a run's transition changes in an account: these are added.
struct Spend {
  std::string budget;
  Cost reserved;
  Cost doubt;
  Cost spent;
  int64_t call_count = 0;
  int64_t odd_count = 0;
  // `reserved` is asked for. When an account has no room for it, or is closed, no spend of the transition is applied,
  // its first event is kept as kCallHeld, and, unless it fails, the step of that event is told when there is room.
  bool is_asking = false;
  bool fails = false;
  Cost cap{-1, -1};  // if there is no such account yet, or it has no cap
  RunId run = 0;     // it is this run's own
  // Not -1: applied only if the run's event of that number is kCallReserved, and was not turned into kCallHeld.
  int64_t reserved_seq = -1;
};

// Instead of a run's transition: somebody changes an account. kNotFound when there is none and it is not to be made.
struct BudgetChange {
  std::string name;
  bool makes = false;
  bool sets_cap = false;
  Cost cap{-1, -1};
  bool closes = false;
  std::string note;  // kept with the account when not empty
};

// A reservation that an account had no room for.
struct BudgetRefusal {
  std::string budget;  // empty: none was refused
  bool is_closed = false;
  bool is_too_large = false;  // the whole cap would not be enough
};

// A call that is held back is told with a message of this topic.
inline std::string budget_topic(const std::string& budget, const std::string& step) {
  return "budget:" + budget + "/" + step;
}

inline constexpr int64_t kBudgetWakeCountMax = 64;      // told in one transaction
inline constexpr int64_t kBudgetListCountMax = 10'000;  // answered at once, by name
inline constexpr int64_t kBudgetNoteCountMax = 1'000;   // answered, the newest

namespace detail {
class CallAccount;  // of one call; engine/budget.h
}

}  // namespace stepwell
