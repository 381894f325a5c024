// What the admission stage costs a call: ask and settle, with limits, learned headers, a breaker and many tenants.
// Usage: admission_bench [calls]. Prints one JSON line; admission.us is the mean of one call that passes at once,
// admission.line_us of one that stands in line before it is sent.
//
// Under `valgrind --tool=callgrind --toggle-collect='*admit_all*'` the instructions of the first are counted: they do
// not depend on who shares the machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loop/uv_loop.h"
#include "runtime/admission.h"

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

// One after the other: each is asked for, sent and settled. Not inlined, so that callgrind finds it.
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
  admit_all(quick, 1);
  const int64_t sent_before = quick.stage->buckets().front().sent;
  const double direct_us = us_each(count, [&] { admit_all(quick, count); });
  const int64_t sent = quick.stage->buckets().front().sent - sent_before;
  Bench line;
  line.limit(1);
  const int64_t line_count = std::min<int64_t>(count, 9'000);
  const double line_us = us_each(line_count, [&] { queue_all(line, line_count); });
  const bool is_whole =
      sent == count && line.stage->buckets().front().sent == line_count && quick.held + line.held == 0;
  std::printf("{\"admission.us\": %.3f, \"admission.line_us\": %.3f, \"calls\": %lld, \"all_sent\": %s}\n", direct_us,
              line_us, static_cast<long long>(count), is_whole ? "true" : "false");
  return is_whole ? 0 : 1;
}
