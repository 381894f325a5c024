#include "engine/budget.h"

#include <limits>
#include <utility>

#include "base/json.h"

namespace stepwell::detail {

namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

int64_t add(int64_t one, int64_t other) {
  int64_t sum = 0;
  if (!__builtin_add_overflow(one, other, &sum)) return sum;
  return one > 0 ? kMost : -kMost;
}

int64_t product(int64_t one, int64_t other) {
  int64_t product = 0;
  return __builtin_mul_overflow(one, other, &product) ? kMost : product;
}

Event event_of(EventKind kind, const std::string& step, Payload payload) {
  Event event;
  event.kind = kind;
  event.step = step;
  event.payload = std::move(payload);
  return event;
}

}  // namespace

Cost sum_of(const Cost& one, const Cost& other) { return {add(one.usd, other.usd), add(one.tokens, other.tokens)}; }
Cost negative(const Cost& cost) { return {-cost.usd, -cost.tokens}; }

Settlement settle(const Price& price, const Cost& estimate, const Usage& usage) {
  // Embeddings have no output, and say nothing of one; an answer without any count says nothing at all.
  if (usage.input < 0) return {estimate, "the answer says nothing usable of what it used"};
  const int64_t output = usage.output < 0 ? 0 : usage.output;
  if (usage.cached < 0 || usage.cached > usage.input) return {estimate, "more of the input was cached than there was"};
  Settlement settled;
  settled.cost.tokens = add(usage.input, output);
  settled.cost.usd = add(add(product(usage.input - usage.cached, price.input), product(usage.cached, price.cached)),
                         product(output, price.output));
  if (settled.cost.usd > estimate.usd || settled.cost.tokens > estimate.tokens) settled.odd = "more than the estimate";
  return settled;
}

bool CallAccount::replay(const Event& event) {
  if (event.kind == EventKind::kCallHeld) {
    state_ = State::kNone;
    return true;
  }
  if (event.kind == EventKind::kCallSettled) {
    is_old_ = false;
    state_ = json_string_at(event.payload, "/as") == "doubt" ? State::kDoubt : State::kNone;
    return true;
  }
  const std::vector<int64_t> amounts = json_counts_at(event.payload, {"/usd", "/tokens"});
  holders_ = json_strings_at(event.payload, "/budgets");
  held_ = {amounts[0], amounts[1]};
  state_ = State::kReserved;
  is_old_ = true;
  return amounts[0] >= 0 && amounts[1] >= 0 && !holders_.empty();
}

void CallAccount::take(Spending spending) { spending_ = std::move(spending); }

template <typename Change>
void CallAccount::spend(Decision& decision, Change change) const {
  for (const std::string& holder : holders_) {
    Spend& spend = decision.spends.emplace_back();
    spend.budget = holder;
    change(spend);
  }
}

int64_t CallAccount::ask(RunId run, const std::string& step, int64_t seq, Decision& decision) {
  held_ = spending_.estimate;
  holders_.clear();
  std::string payload = "{\"usd\":" + std::to_string(held_.usd) + ",\"tokens\":" + std::to_string(held_.tokens);
  payload += ",\"budgets\":[";
  for (const BudgetUse& use : spending_.budgets) {
    if (!holders_.empty()) payload += ',';
    payload += json_quote(use.name);
    holders_.push_back(use.name);
    Spend& spend = decision.spends.emplace_back();
    spend.budget = use.name;
    spend.reserved = held_;
    spend.is_asking = true;
    spend.fails = use.fails;
    spend.cap = use.cap;
    spend.run = use.is_runs ? run : 0;
  }
  decision.events.push_back(event_of(EventKind::kCallReserved, step, payload + "]}"));
  state_ = State::kAsked;
  is_old_ = false;
  asked_seq_ = seq;
  return 1;
}

int64_t CallAccount::record(const std::string& step, const char* as, const Cost& cost, const char* odd,
                            Decision& decision) const {
  std::string payload = std::string(R"({"as":")") + as + R"(","usd":)" + std::to_string(cost.usd);
  payload += ",\"tokens\":" + std::to_string(cost.tokens);
  if (*odd != '\0') payload += std::string(R"(,"odd":")") + odd + '"';
  decision.events.push_back(event_of(EventKind::kCallSettled, step, payload + "}"));
  return 1;
}

int64_t CallAccount::succeed(const std::string& step, const Usage& usage, Decision& decision) {
  if (state_ != State::kReserved && state_ != State::kDoubt) return 0;
  const bool has_price = !spending_.budgets.empty();  // the code may have been changed since it was reserved
  const Settlement settled =
      has_price ? settle(spending_.price, held_, usage) : Settlement{held_, "the call names no budget any more"};
  const bool was_doubt = state_ == State::kDoubt;
  spend(decision, [&](Spend& spend) {
    (was_doubt ? spend.doubt : spend.reserved) = negative(held_);
    spend.spent = settled.cost;
    spend.call_count = 1;
    spend.odd_count = *settled.odd == '\0' ? 0 : 1;
  });
  state_ = State::kNone;
  return record(step, "spent", settled.cost, settled.odd, decision);
}

int64_t CallAccount::doubt(const std::string& step, Decision& decision) {
  spend(decision, [this](Spend& spend) {
    spend.reserved = negative(held_);
    spend.doubt = held_;
  });
  state_ = State::kDoubt;
  return record(step, "doubt", held_, "", decision);
}

int64_t CallAccount::give_back(const std::string& step, Decision& decision) {
  spend(decision, [this](Spend& spend) {
    spend.reserved = negative(held_);
    if (state_ == State::kAsked) spend.reserved_seq = asked_seq_;
  });
  state_ = State::kNone;
  return record(step, "returned", held_, "", decision);
}

int64_t CallAccount::fail(const std::string& step, bool maybe_done, Decision& decision) {
  if (state_ != State::kReserved) return 0;  // what is in doubt stays so
  return maybe_done || is_old_ ? doubt(step, decision) : give_back(step, decision);
}

int64_t CallAccount::abandon(const std::string& step, Decision& decision) {
  // Asked for and not answered: the call is not sent any more, whatever the answer will be.
  if (state_ == State::kAsked) return give_back(step, decision);
  return fail(step, /*maybe_done=*/true, decision);
}

}  // namespace stepwell::detail
