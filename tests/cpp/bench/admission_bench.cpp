// What budget, limiter and breaker cost a call: its estimate is reserved in two accounts, it asks and is let through,
// with limits, learned headers, a breaker and tenants, and all is settled. Accounts in memory: their rows on the disk
// are the store's. Usage: admission_bench [calls]. Prints one JSON line: admission.us of a call that passes at once,
// budget.us the budgets' part of it, admission.line_us of one that stands in line first (without budgets).
//
// Under `valgrind --tool=callgrind --toggle-collect='*admit_all*'` (or '*pay_all*') the instructions are counted: they
// do not depend on who shares the machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/budget.h"
#include "loop/uv_loop.h"
#include "runtime/admission.h"
#include "store/memory_budgets.h"

namespace {

using namespace stepwell;
using namespace stepwell::detail;

struct Bench {
  std::unique_ptr<UvLoop> loop;
  std::vector<CallPass> passes;
  int64_t held = 0;
  std::unique_ptr<AdmissionStage> stage;
  Admission admission;
  Verdict verdict;

  Bench() {
    loop = std::move(*UvLoop::open());
    stage = std::make_unique<AdmissionStage>(*loop, 1, [this](const CallRef&, Ruling ruling) {
      if (ruling.kind == RulingKind::kSend) {
        passes.push_back(ruling.pass);
      } else {
        ++held;
      }
    });
    admission.bucket = "openai:gpt-4o-mini#0123abcd";
    admission.circuit = "api.openai.com#0123abcd";
    admission.tokens = 20;
    verdict.ok = true;
    verdict.usage = {12, 3, 0};
    verdict.limits.tokens = {1'000'000'000, 999'000'000, 10};
  }
  void limit(int64_t concurrency) {
    CallLimits limits;
    limits.all = {0, 1'000'000'000, concurrency};  // requests begin without a burst, and would wait
    stage->set_limits("openai:*", limits);
  }
};

// The accounts, and what a machine and its store do with them for one call.
struct Ledger {
  MemoryBudgets book{[](const Message&) {}, [](RunId, int64_t) { return EventKind::kCallReserved; }};
  Spending spending;

  Ledger() {
    spending.estimate = {2'000'000, 20};
    spending.price = {100'000, 400'000, 50'000};
    for (const char* name : {"support", "2026-11-21"}) {
      BudgetUse use;
      use.name = name;
      use.cap.usd = int64_t{1} << 60;
      spending.budgets.push_back(use);
    }
  }
  void keep(RunId run, Decision& decision) {
    Transition transition;
    transition.run = run;
    transition.events = std::move(decision.events);
    transition.spends = std::move(decision.spends);
    CommitAnswer answer;
    if (!book.spend(transition, answer).is_ok() || !answer.refusal.budget.empty()) std::abort();
  }
  CallAccount reserve(RunId run) {
    CallAccount account;
    account.take(spending);
    Decision decision;
    account.ask(run, "classify#0", 2, decision);
    keep(run, decision);
    account.on_granted();
    return account;
  }
  void settle(RunId run, CallAccount& account, const Usage& usage) {
    Decision decision;
    account.succeed("classify#0", usage, decision);
    keep(run, decision);
  }
};

// One after the other: each is reserved for and settled. Not inlined, so that callgrind finds it.
[[gnu::noinline]] void pay_all(Ledger& ledger, const Usage& usage, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    CallAccount account = ledger.reserve(i + 1);
    ledger.settle(i + 1, account, usage);
  }
}

// Each is asked for, sent and settled.
[[gnu::noinline]] void admit_all(Bench& bench, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    bench.admission.tenant = i % 2 == 0 ? "blue" : "green";
    bench.stage->ask({i, 1, "classify#0", 1}, bench.admission, 0);
    if (bench.passes.empty()) continue;
    bench.stage->settle(bench.passes.back(), bench.verdict);
    bench.passes.clear();
  }
}

// Everybody stands in line behind one place.
void queue_all(Bench& bench, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    bench.admission.tenant = "t" + std::to_string(i % 100);
    bench.stage->ask({i, 1, "classify#0", 1}, bench.admission, static_cast<int32_t>(i % 3));
  }
  while (!bench.passes.empty()) {
    const CallPass pass = bench.passes.back();
    bench.passes.pop_back();
    bench.stage->settle(pass, bench.verdict);
  }
}

template <typename F>
double us_each(int64_t count, F work) {
  const auto begun = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begun;
  return took.count() / static_cast<double>(count);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t count = argc > 1 ? std::strtoll(argv[1], nullptr, 10) : 200'000;
  Bench quick;
  quick.limit(0);
  quick.stage->set_breaker("*", BreakerPolicy());
  Ledger ledger;
  admit_all(quick, 1);
  const int64_t sent_before = quick.stage->buckets().front().sent;
  const double direct_us = us_each(count, [&] { admit_all(quick, count); });
  const double paid_us = us_each(count, [&] { pay_all(ledger, quick.verdict.usage, count); });
  const int64_t sent = quick.stage->buckets().front().sent - sent_before;
  Bench line;
  line.limit(1);
  const int64_t line_count = std::min<int64_t>(count, 9'000);
  const double line_us = us_each(line_count, [&] { queue_all(line, line_count); });
  const int64_t paid = ledger.book.list("support").front().call_count;
  const bool is_whole =
      sent == count && paid == count && line.stage->buckets().front().sent == line_count && quick.held + line.held == 0;
  std::printf(
      "{\"admission.us\": %.3f, \"budget.us\": %.3f, \"admission.line_us\": %.3f, \"calls\": %lld, \"all_sent\": %s}\n",
      direct_us + paid_us, paid_us, line_us, static_cast<long long>(count), is_whole ? "true" : "false");
  return is_whole ? 0 : 1;
}
