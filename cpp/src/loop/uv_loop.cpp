#include "loop/uv_loop.h"

#include <netdb.h>
#include <pthread.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <ctime>
#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"
#include "loop/timer_heap.h"

namespace stepwell {

namespace {

constexpr uint64_t kResolvePatienceMs = 2'000;

Status uv_status(const std::string& what, int error) {
  return {StatusKind::kIo, code::kInternal, what + ": " + uv_strerror(error)};
}

// RFC 6761, 6.3: these names are this machine whatever a name server says. A minimal container has no /etc/hosts to say
// so.
bool is_localhost(std::string host) {
  std::transform(host.begin(), host.end(), host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  if (!host.empty() && host.back() == '.') host.pop_back();
  return host == "localhost" || host.ends_with(".localhost");
}

// One watched descriptor. It lives until libuv has closed its handle, which is after unwatch.
struct Watch {
  uv_poll_t poll{};
  MoveFunction<void(unsigned)> ready;
  unsigned events = 0;
  bool is_started = false;
  bool is_closed = false;
};

struct Lookup {
  uv_getaddrinfo_t request{};
  std::string host;
  MoveFunction<void(Result<std::vector<std::string>>)> done;
};

void on_poll(uv_poll_t* handle, int status, int events);

int start_watch(Watch& watch) {
  const int wanted =
      ((watch.events & kPollRead) != 0 ? UV_READABLE : 0) | ((watch.events & kPollWrite) != 0 ? UV_WRITABLE : 0);
  const int error = uv_poll_start(&watch.poll, wanted, on_poll);
  watch.is_started = error == 0;
  return error;
}

void on_poll(uv_poll_t* handle, int status, int events) {
  Watch& watch = *static_cast<Watch*>(handle->data);
  unsigned seen = 0;
  if (status < 0) {
    // libuv stops a handle whose socket has an error. What was asked for is reported too, so that the owner reads on
    // and meets bytes that came before the error.
    watch.is_started = false;
    seen = kPollError | watch.events;
  } else {
    seen = ((events & UV_READABLE) != 0 ? unsigned{kPollRead} : 0U) |
           ((events & UV_WRITABLE) != 0 ? unsigned{kPollWrite} : 0U);
  }
  // Taken out for the call: the callback may replace itself, or end the watch.
  MoveFunction<void(unsigned)> ready = std::move(watch.ready);
  ready(seen);
  if (watch.is_closed) return;
  if (!watch.ready) watch.ready = std::move(ready);
  if (!watch.is_started) (void)start_watch(watch);
}

void close_watch(Watch* watch) {
  watch->is_closed = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll),
           [](uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); });
}

std::vector<std::string> numeric_addresses(const addrinfo* found) {
  std::vector<std::string> addresses;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (getnameinfo(each->ai_addr, each->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0)
      continue;
    std::string address(text.data());
    if (std::find(addresses.begin(), addresses.end(), address) == addresses.end())
      addresses.push_back(std::move(address));
  }
  return addresses;
}

void on_resolved(uv_getaddrinfo_t* request, int error, addrinfo* found) {
  const std::unique_ptr<Lookup> lookup(static_cast<Lookup*>(request->data));
  std::vector<std::string> addresses = numeric_addresses(found);
  uv_freeaddrinfo(found);
  if (!lookup->done) return;  // the loop is being closed
  if (error == 0 && !addresses.empty()) {
    lookup->done(std::move(addresses));
    return;
  }
  const std::string why = error != 0 ? uv_strerror(error) : "it has no address";
  lookup->done(Status(StatusKind::kIo, code::kHttpConnect, "host " + lookup->host + " cannot be resolved: " + why));
}

}  // namespace

// All that libuv points to; it does not move, and it outlives the UvLoop when a resolver's thread still writes into it.
struct UvLoop::Parts {
  // Set by open, then the loop thread's.
  uv_loop_t loop{};
  uv_async_t wake{};
  uv_prepare_t prepare{};
  uv_idle_t idle{};
  uv_timer_t timer{};
  detail::TimerHeap timers;
  int64_t armed_due_ms = -1;    // what `timer` is set to; -1: not set
  std::vector<Watch*> watches;  // by descriptor
  std::vector<Lookup*> lookups;
  std::chrono::steady_clock::time_point look_until;  // expect_post
  std::vector<MoveFunction<void()>> batch;           // the posted tasks of this iteration; kept for its capacity

  std::mutex mutex;
  // Protected by mutex.
  std::vector<MoveFunction<void()>> posted;
  uv_thread_t thread{};
  bool is_running = false;
  bool is_woken = false;  // the loop thread will look into `posted` before it sleeps
  bool is_stopped = false;

  Status open();
  // Before the loop sleeps: posted tasks first, because they start timers; then the timer is set.
  void settle();
  bool run_posted();
  // True while it pays to look once more for a post; other threads need not wake the loop then.
  bool looks_again();
  void set_timer();
  void fire_timers();
  void close();
};

Status UvLoop::Parts::open() {
  if (const int error = uv_loop_init(&loop)) return uv_status("the event loop cannot be opened", error);
  loop.data = this;
  // The wake-up carries nothing: settle() runs in every iteration and drains the queue.
  if (const int error = uv_async_init(&loop, &wake, [](uv_async_t*) {})) {
    uv_loop_close(&loop);
    return uv_status("the event loop's wake-up cannot be opened", error);
  }
  uv_prepare_init(&loop, &prepare);
  uv_idle_init(&loop, &idle);
  uv_timer_init(&loop, &timer);
  uv_prepare_start(&prepare, [](uv_prepare_t* handle) { static_cast<Parts*>(handle->loop->data)->settle(); });
  return Status::ok();
}

void UvLoop::Parts::settle() {
  const bool has_more = run_posted() || looks_again();
  set_timer();
  // An active idle handle makes the coming poll return at once: tasks that were posted by tasks run after the sockets
  // had their turn, without a wake-up through the kernel.
  if (has_more) {
    uv_idle_start(&idle, [](uv_idle_t*) {});
  } else {
    uv_idle_stop(&idle);
  }
}

bool UvLoop::Parts::run_posted() {
  bool stops = false;
  {
    const std::lock_guard lock(mutex);
    is_woken = false;  // first, so that a post after the swap wakes again
    batch.swap(posted);
    stops = is_stopped;
  }
  if (!batch.empty()) look_until = {};
  for (MoveFunction<void()>& task : batch) {
    task();
    task = {};  // what a task owns must not wait for its neighbours
  }
  batch.clear();
  if (stops) uv_stop(&loop);
  const std::lock_guard lock(mutex);
  return is_woken;
}

bool UvLoop::Parts::looks_again() {
  if (std::chrono::steady_clock::now() >= look_until) return false;
  std::this_thread::yield();  // the core may be wanted by the very thread that is to post
  const std::lock_guard lock(mutex);
  is_woken = true;
  return true;
}

void UvLoop::Parts::set_timer() {
  if (timers.is_empty()) {
    if (armed_due_ms >= 0) uv_timer_stop(&timer);
    armed_due_ms = -1;
    return;
  }
  const int64_t due_ms = timers.due_ms_min();
  if (due_ms == armed_due_ms) return;
  const int64_t delay_ms = std::max<int64_t>(due_ms - static_cast<int64_t>(uv_now(&loop)), 0);
  armed_due_ms = due_ms;
  uv_timer_start(
      &timer, [](uv_timer_t* handle) { static_cast<Parts*>(handle->loop->data)->fire_timers(); },
      static_cast<uint64_t>(delay_ms), 0);
}

void UvLoop::Parts::fire_timers() {
  armed_due_ms = -1;
  const auto now_ms = static_cast<int64_t>(uv_now(&loop));
  const uint64_t order_end = timers.next_order();
  while (MoveFunction<void()> task = timers.take_due(now_ms, order_end)) task();
}

void UvLoop::Parts::close() {
  for (Lookup* lookup : lookups) {
    lookup->done = {};
    uv_cancel(reinterpret_cast<uv_req_t*>(&lookup->request));
  }
  for (Watch*& watch : watches) {
    if (watch != nullptr) close_watch(std::exchange(watch, nullptr));
  }
  for (auto* handle : {reinterpret_cast<uv_handle_t*>(&wake), reinterpret_cast<uv_handle_t*>(&prepare),
                       reinterpret_cast<uv_handle_t*>(&idle)}) {
    uv_close(handle, nullptr);
  }
  // The timer bounds the wait for a resolver's thread, which nobody can interrupt.
  auto* patience = reinterpret_cast<uv_handle_t*>(&timer);
  uv_update_time(&loop);
  uv_timer_start(&timer, [](uv_timer_t*) {}, kResolvePatienceMs, 0);
  while (!lookups.empty() && uv_is_active(patience) != 0) uv_run(&loop, UV_RUN_ONCE);
  uv_close(patience, nullptr);
  while (uv_run(&loop, UV_RUN_NOWAIT) != 0 && lookups.empty()) {
  }
}

Result<std::unique_ptr<UvLoop>> UvLoop::open() {
  auto parts = std::make_unique<Parts>();
  STEPWELL_TRY(parts->open());
  return std::unique_ptr<UvLoop>(new UvLoop(std::move(parts)));
}

UvLoop::UvLoop(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

UvLoop::~UvLoop() {
  stop();  // tasks that are destroyed below may post
  {
    const detail::TimerHeap left = std::exchange(parts_->timers, {});
  }
  {
    std::vector<MoveFunction<void()>> left;
    const std::lock_guard lock(parts_->mutex);
    left.swap(parts_->posted);
  }
  parts_->close();
  if (uv_loop_close(&parts_->loop) != 0) (void)parts_.release();  // NOLINT: see Parts
}

int64_t UvLoop::now_ms() const { return static_cast<int64_t>(uv_now(&parts_->loop)); }

WallMs UvLoop::wall_ms() const {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<WallMs>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

void UvLoop::post(MoveFunction<void()> task) {
  Parts& parts = *parts_;
  const std::lock_guard lock(parts.mutex);
  if (parts.is_stopped) return;
  parts.posted.push_back(std::move(task));
  if (std::exchange(parts.is_woken, true)) return;
  const uv_thread_t self = uv_thread_self();
  // The loop thread is awake and settles before it sleeps; anybody else has to wake it. Under the lock, so that the
  // loop cannot stop and be destroyed between the look and the wake-up.
  if (!parts.is_running || uv_thread_equal(&self, &parts.thread) == 0) uv_async_send(&parts.wake);
}

TimerId UvLoop::after(int64_t delay_ms, MoveFunction<void()> task) {
  // The loop's cached time is as old as this iteration; counting from it would fire early.
  uv_update_time(&parts_->loop);
  return parts_->timers.add(now_ms() + std::max<int64_t>(delay_ms, 0), std::move(task));
}

void UvLoop::cancel(TimerId timer) { (void)parts_->timers.remove(timer); }

void UvLoop::expect_post(int64_t patience_us) {
  parts_->look_until = std::chrono::steady_clock::now() + std::chrono::microseconds(patience_us);
}

void UvLoop::run() {
  sigset_t pipe_signal;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
  {
    const std::lock_guard lock(parts_->mutex);
    STEPWELL_CHECK(!parts_->is_running, "the loop is already run by a thread");
    parts_->thread = uv_thread_self();
    parts_->is_running = true;
  }
  uv_update_time(&parts_->loop);
  uv_run(&parts_->loop, UV_RUN_DEFAULT);
  const std::lock_guard lock(parts_->mutex);
  parts_->is_running = false;
}

void UvLoop::stop() {
  const std::lock_guard lock(parts_->mutex);
  if (std::exchange(parts_->is_stopped, true)) return;
  parts_->is_woken = true;
  uv_async_send(&parts_->wake);
}

Status UvLoop::watch(int fd, unsigned events, MoveFunction<void(unsigned events)> ready) {
  const auto refuse = [fd](int error) {
    return uv_status("descriptor " + std::to_string(fd) + " cannot be watched", error);
  };
  if (fd < 0) return refuse(UV_EBADF);
  auto& watches = parts_->watches;
  const auto index = static_cast<size_t>(fd);
  if (index >= watches.size()) watches.resize(std::max(index + 1, 2 * watches.size()));
  if (watches[index] == nullptr) {
    auto fresh = std::make_unique<Watch>();
    if (const int error = uv_poll_init(&parts_->loop, &fresh->poll, fd)) return refuse(error);
    fresh->poll.data = fresh.get();
    watches[index] = fresh.release();
  }
  Watch& watch = *watches[index];
  watch.ready = std::move(ready);
  if (watch.is_started && watch.events == events) return Status::ok();
  watch.events = events;
  if (const int error = start_watch(watch)) {
    unwatch(fd);
    return refuse(error);
  }
  return Status::ok();
}

void UvLoop::unwatch(int fd) {
  auto& watches = parts_->watches;
  const auto index = static_cast<size_t>(fd);
  if (fd < 0 || index >= watches.size() || watches[index] == nullptr) return;
  close_watch(std::exchange(watches[index], nullptr));
}

void UvLoop::resolve(const std::string& host, MoveFunction<void(Result<std::vector<std::string>>)> done) {
  if (is_localhost(host)) {
    post([done = std::move(done)]() mutable { done(std::vector<std::string>{"127.0.0.1", "::1"}); });
    return;
  }
  Parts* parts = parts_.get();
  auto lookup = std::make_unique<Lookup>();
  lookup->host = host;
  lookup->done = std::move(done);
  lookup->request.data = lookup.get();
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  const auto on_done = [](uv_getaddrinfo_t* request, int error, addrinfo* found) {
    std::erase(static_cast<Parts*>(request->loop->data)->lookups, static_cast<Lookup*>(request->data));
    on_resolved(request, error, found);
  };
  if (const int error = uv_getaddrinfo(&parts->loop, &lookup->request, on_done, host.c_str(), nullptr, &hints)) {
    post([error, lookup = std::move(lookup)]() mutable { on_resolved(&lookup.release()->request, error, nullptr); });
    return;
  }
  parts->lookups.push_back(lookup.release());
}

}  // namespace stepwell
