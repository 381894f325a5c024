// HTTP speed: how many 1 KB POSTs the bare transport carries. Usage: http_bench url concurrency count [latency_ms_ideal
// [connections_per_shard]]
//
// Keeps `concurrency` requests in flight until `count` have ended, after a warm-up of one wave. Prints one JSON line.
// Compare CPU per request first: requests per second depend on who shares the machine. latency_ms_ideal, the server's
// mean delay, gives the ideal rate to compare with.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "http/curl_transport.h"
#include "loop/uv_loop.h"

namespace {

using namespace stepwell;

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

double resident_kb() {
  long pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1024;
}

struct Bench {
  std::unique_ptr<UvLoop> loop;
  std::unique_ptr<HttpTransport> transport;
  std::string url;
  int64_t concurrency = 0;
  int64_t count = 0;
  int64_t warm_up = 0;

  int64_t sent = 0;
  int64_t ended = 0;
  int64_t failed = 0;
  std::string first_error;
  double idle_kb = 0;
  double busy_kb = 0;
  double cpu_begin = 0;
  std::chrono::steady_clock::time_point begin;
  double seconds = 0;
  double cpu = 0;
  std::vector<int64_t> elapsed_us;

  void send() {
    HttpRequest request;
    request.url = url;
    request.headers = {{"content-type", "application/json"}, {"authorization", "Bearer sk-0123456789abcdef0123456789"}};
    request.body.assign(1024, 'x');
    ++sent;
    transport->send(std::move(request), [this](const HttpOutcome& outcome) { on_done(outcome); });
  }

  void on_done(const HttpOutcome& outcome) {
    if (!outcome.status.is_ok() || outcome.response.status != 200) {
      ++failed;
      if (first_error.empty()) first_error = outcome.status.to_string();
    }
    ++ended;
    if (ended == warm_up) {
      begin = std::chrono::steady_clock::now();
      cpu_begin = cpu_seconds();
      busy_kb = resident_kb();
    } else if (ended > warm_up && ended <= warm_up + count) {
      elapsed_us.push_back(outcome.elapsed_us);
    }
    if (ended == warm_up + count) {
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      cpu = cpu_seconds() - cpu_begin;
      transport.reset();
      loop->stop();
      return;
    }
    send();  // the rate is taken at full concurrency to the end; what is left then is dropped
  }

  void print(double latency_ms_ideal) {
    std::sort(elapsed_us.begin(), elapsed_us.end());
    const auto percentile = [this](size_t percent) {
      return static_cast<double>(elapsed_us[std::min(elapsed_us.size() * percent / 100, elapsed_us.size() - 1)]) / 1000;
    };
    const double rate = static_cast<double>(count) / seconds;
    std::printf(
        "{\"concurrency\": %lld, \"requests_per_s\": %.0f, \"cpu_us\": %.1f, \"p50_ms\": %.2f, \"p99_ms\": %.2f, "
        "\"kb_per_call\": %.1f, \"failed\": %lld",
        static_cast<long long>(concurrency), rate, cpu / static_cast<double>(count) * 1e6, percentile(50),
        percentile(99), (busy_kb - idle_kb) / static_cast<double>(concurrency), static_cast<long long>(failed));
    if (latency_ms_ideal > 0) {
      std::printf(", \"of_ideal\": %.3f", rate / (static_cast<double>(concurrency) / latency_ms_ideal * 1000));
    }
    std::printf("%s%s%s}\n", first_error.empty() ? "" : R"(, "error": ")", first_error.c_str(),
                first_error.empty() ? "" : "\"");
  }
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) {
    std::fprintf(stderr, "usage: http_bench url concurrency count [latency_ms_ideal [connections_per_shard]]\n");
    return 2;
  }
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  Bench bench;
  bench.url = arguments[1];
  bench.concurrency = std::strtoll(arguments[2], nullptr, 10);
  bench.count = std::strtoll(arguments[3], nullptr, 10);
  bench.warm_up = 2 * bench.concurrency;
  bench.elapsed_us.reserve(static_cast<size_t>(bench.count));
  std::memset(bench.elapsed_us.data(), 1,
              bench.elapsed_us.capacity() * sizeof(int64_t));  // resident before the measurement
  auto loop = UvLoop::open();
  if (!loop) return 1;
  bench.loop = std::move(*loop);
  CurlOptions options;
  if (const char* shard = count > 5 ? arguments[5] : nullptr) options.connections_per_shard = std::atoi(shard);
  auto transport = open_curl_transport(*bench.loop, *bench.loop, options);
  if (!transport) return 1;
  bench.transport = std::move(*transport);
  bench.idle_kb = resident_kb();
  bench.loop->post([&bench] {
    for (int64_t i = 0; i < bench.concurrency; ++i) bench.send();
  });
  bench.loop->run();
  bench.print(count > 4 ? std::strtod(arguments[4], nullptr) : 0);
  return bench.failed == 0 ? 0 : 1;
}
