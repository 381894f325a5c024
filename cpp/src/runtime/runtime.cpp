// The door: posts what callers ask for to the loop thread and brings the answers back.
#include "stepwell/runtime.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

#include "base/mailbox.h"
#include "engine/judge.h"
#include "http/curl_transport.h"
#include "loop/shifted_loop.h"
#include "loop/uv_loop.h"
#include "runtime/channels.h"
#include "runtime/dispatcher.h"
#include "runtime/pruner.h"
#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "store/sqlite_store.h"

namespace stepwell {

namespace {

using detail::Channels;
using detail::Dispatcher;
using detail::Mailbox;

uint64_t random_seed() {
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) != static_cast<ssize_t>(sizeof seed))
    seed = static_cast<uint64_t>(getpid()) << 32U;
  return seed;
}

Status closed_status() { return {StatusKind::kClosed, code::kClosed, "the engine is closed"}; }

Status timeout_status(const std::string& what) {
  return {StatusKind::kTimeout, code::kWaitTimeout, what + " did not end in the time given; it goes on"};
}

// One answer on its way from the loop thread to a waiting caller. The loop's side holds a Sender; if that is dropped
// unanswered (the engine closes), the caller wakes empty-handed instead of waiting for ever.
template <typename T>
class Reply {
 public:
  struct Sender {
    explicit Sender(std::shared_ptr<Mailbox<T>> to) : box(std::move(to)) {}
    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;
    ~Sender() { box->close(); }
    std::shared_ptr<Mailbox<T>> box;
  };

  // A callback that answers; copies share one sender.
  auto sender() {
    auto sender = std::make_shared<Sender>(box_);
    return [sender](T answer) { sender->box->put(std::move(answer)); };
  }

  // Empty after `timeout_ms` (-1: none), or when nobody is left to answer.
  std::vector<T> take(int64_t timeout_ms) {
    std::vector<T> taken;
    box_->take(taken, 1, timeout_ms);
    return taken;
  }

 private:
  std::shared_ptr<Mailbox<T>> box_ = std::make_shared<Mailbox<T>>(1);
};

class RuntimeDoor final : public Runtime {
 public:
  explicit RuntimeDoor(RuntimeOptions options)
      : options_(std::move(options)),
        channels_(static_cast<size_t>(options_.limits.outbox_count_max)),
        pid_(getpid()) {}

  ~RuntimeDoor() override {
    if (getpid() == pid_) {
      (void)close(0);
    } else {
      // A forked child has none of our threads: joining them would hang, so they and what they own are left alone.
      (void)loop_.release();
      (void)shifted_.release();
      (void)store_.release();
      (void)transport_.release();
      (void)dispatcher_.release();
      (void)pruner_.release();
      (void)thread_.release();
    }
  }

  Status open_parts() {
    auto loop = UvLoop::open();
    if (!loop) return loop.error();
    loop_ = std::move(*loop);
    if (options_.path.empty()) {
      store_ = open_memory_store(*loop_);
    } else {
      SqliteOptions sqlite;
      sqlite.path = options_.path;
      sqlite.durability = options_.durability;
      if (options_.test_world) sqlite.wal_bytes_initial = 0;  // files of tests are many, and short-lived
      auto store = open_sqlite_store(*loop_, sqlite);
      if (!store) return store.error();
      store_ = std::move(*store);
    }
    CurlOptions curl;
    curl.ca_bundle = options_.ca_bundle;
    curl.proxy = options_.proxy;
    curl.no_proxy = options_.no_proxy;
    curl.egress = options_.egress;
    curl.connections_per_host_max = options_.connections_per_host_max;
    auto transport = open_curl_transport(*loop_, *loop_, curl);
    if (!transport) return transport.error();
    transport_ = std::move(*transport);
    detail::DispatcherOptions dispatcher;
    dispatcher.limits = options_.limits;
    dispatcher.lease_ms = options_.lease_ms;
    dispatcher.seed = random_seed();
    dispatcher.owner = static_cast<OwnerId>(random_seed() >> 1U);
    if (options_.test_world) enter_test_world();
    thread_ = std::make_unique<std::thread>([this, dispatcher] {
      dispatcher_ = std::make_unique<Dispatcher>(
          dispatcher_loop(), *store_, *transport_,
          [this](std::vector<Item>& items) {
            ++activity_;
            channels_.put(items);
          },
          dispatcher);
      if (options_.retention)
        pruner_ = std::make_unique<detail::Pruner>(dispatcher_loop(), *store_, options_.retention);
      loop_->run();
    });
    return Status::ok();
  }

  Status serve(const std::string& queue, int32_t in_flight_max, ChannelId channel) override {
    return admit(1, [this, queue, in_flight_max, channel] { dispatcher_->serve(queue, in_flight_max, channel); });
  }

  Result<std::vector<StartAnswer>> start(std::vector<StartRequest> requests) override {
    Reply<std::vector<StartAnswer>> reply;
    STEPWELL_TRY(start_with(std::move(requests), reply.sender()));
    auto taken = reply.take(-1);
    if (taken.empty()) return closed_status();
    return std::move(taken.front());
  }

  Status start_async(std::vector<StartRequest> requests, uint64_t ticket) override {
    return start_with(std::move(requests), [this, ticket](std::vector<StartAnswer> answers) {
      std::vector<Item> items(1);
      items.front().kind = ItemKind::kStarted;
      items.front().channel = channel_of(ticket);
      items.front().ticket = ticket;
      items.front().answers = std::make_unique<std::vector<StartAnswer>>(std::move(answers));
      channels_.put(items);
    });
  }

  Result<std::vector<Item>> poll(size_t count_max, int64_t timeout_ms) override {
    STEPWELL_TRY(check_process());
    std::vector<Item> items;
    if (!channels_.take(0, items, count_max, timeout_ms)) return closed_status();
    return items;
  }

  void wake() override { channels_.wake_pump(); }

  Result<ChannelId> open_channel(int event_fd) override {
    STEPWELL_TRY(check_process());
    return channels_.open(event_fd);
  }

  void close_channel(ChannelId channel) override { channels_.close(channel); }

  Result<std::vector<Item>> take(ChannelId channel, size_t count_max) override {
    std::vector<Item> items;
    if (!channels_.take(channel, items, count_max, 0)) return closed_status();
    return items;
  }

  Status complete(std::vector<Report> reports) override {
    const size_t count = reports.size();
    return admit(
        count, [this, reports = std::move(reports)]() mutable { dispatcher_->report(std::move(reports)); },
        /*is_work_in_hand=*/true);
  }

  Result<Item> record(Report report) override {
    Reply<Item> reply;
    report.answer = reply.sender();
    std::vector<Report> reports;
    reports.push_back(std::move(report));
    STEPWELL_TRY(complete(std::move(reports)));
    auto taken = reply.take(-1);
    if (!taken.empty()) return std::move(taken.front());
    if (is_closed_) return closed_status();
    return Status(StatusKind::kFenced, code::kFenced, "the run is no longer this activation's; another one drives it");
  }

  Result<StartAnswer> wait(RunId run, int64_t timeout_ms) override {
    Reply<Result<StartAnswer>> reply;
    STEPWELL_TRY(admit(1, [this, run, send = reply.sender()] { dispatcher_->wait(run, send); }));
    auto taken = reply.take(timeout_ms);
    if (!taken.empty()) return std::move(taken.front());
    return is_closed_ ? closed_status() : timeout_status("run " + run_name(run));
  }

  Status watch(RunId run, uint64_t ticket) override {
    return admit(1, [this, run, ticket] {
      dispatcher_->wait(run, [this, run, ticket](Result<StartAnswer> answer) {
        std::vector<Item> items(1);
        Item& item = items.front();
        item.kind = ItemKind::kRunFinished;
        item.channel = channel_of(ticket);
        item.ticket = ticket;
        item.run = run;
        item.run_status = answer ? answer->run_status : RunStatus::kFailed;
        item.payload = answer ? std::move(answer->result)
                              : detail::error_payload(answer.error().code(), answer.error().message(), 0, false);
        channels_.put(items);
      });
    });
  }

  Status read_stream(StreamAsk ask) override {
    return admit(1, [this, ask = std::move(ask)]() mutable { dispatcher_->read_stream(std::move(ask)); });
  }

  Result<std::vector<RunHistory>> find(FindRequest request) override {
    Result<std::vector<RunHistory>> found = ask<std::vector<RunHistory>>(
        [this, request = std::move(request)](auto send) mutable { store_->find(std::move(request), std::move(send)); });
    if (!found) return found;
    for (const RunHistory& history : *found) {
      if (!history.row.damage.is_ok()) return history.row.damage;
    }
    return found;
  }

  Status set_limits(const std::string& queue, QueueLimits limits) override {
    return order([this, queue, limits](auto send) { dispatcher_->set_limits(queue, limits, std::move(send)); });
  }

  Result<QueueView> look(const std::string& queue) override {
    return ask<QueueView>([this, queue](auto send) { store_->look(queue, std::move(send)); });
  }

  Status set_call_limits(const std::string& name, CallLimits limits) override {
    return order([this, name, limits](auto send) {
      dispatcher_->admission().set_limits(name, limits);
      send(Status::ok());
    });
  }

  Status set_breaker(const std::string& name, BreakerPolicy policy) override {
    return order([this, name, policy](auto send) {
      dispatcher_->admission().set_breaker(name, policy);
      send(Status::ok());
    });
  }

  Result<CallsView> look_at_calls() override {
    return ask<CallsView>([this](auto send) {
      send(CallsView{dispatcher_->admission().buckets(), dispatcher_->admission().circuits()});
    });
  }

  Status keep(Document document) override {
    return order([this, document = std::move(document)](auto send) mutable {
      dispatcher_->keep(std::move(document), std::move(send));
    });
  }

  Result<std::vector<Document>> documents(const std::string& kind, const std::string& name) override {
    return ask<std::vector<Document>>(
        [this, kind, name](auto send) { store_->documents(kind, name, std::move(send)); });
  }

  Status change_budget(BudgetChange change) override {
    return order([this, change = std::move(change)](auto send) mutable {
      dispatcher_->change_budget(std::move(change), std::move(send));
    });
  }

  Result<std::vector<BudgetRow>> budgets(const std::string& name) override {
    return ask<std::vector<BudgetRow>>([this, name](auto send) { store_->budgets(name, std::move(send)); });
  }

  Result<BackupProgress> backup(BackupSlice slice) override {
    return ask<BackupProgress>(
        [this, slice = std::move(slice)](auto send) mutable { store_->backup(std::move(slice), std::move(send)); });
  }

  Status tell(Message message) override {
    return order([this, message = std::move(message)](auto send) mutable {
      dispatcher_->tell(std::move(message), std::move(send));
    });
  }

  Status cancel(RunId run) override {
    return order([this, run](auto send) { dispatcher_->cancel(run, std::move(send)); });
  }

  Status send(std::vector<HttpRequest> requests, uint64_t ticket) override {
    const size_t count = requests.size();
    return admit(count, [this, ticket, requests = std::move(requests)]() mutable {
      dispatcher_->send(std::move(requests), ticket);
    });
  }

  Counters counters() const override {
    Reply<Counters> reply;
    auto* self = const_cast<RuntimeDoor*>(this);  // NOLINT: reading counters changes nothing a caller can see
    if (!self->admit(1, [this, send = reply.sender()] { send(count()); }).is_ok()) return last_counters_;
    auto taken = reply.take(-1);
    Counters counters = taken.empty() ? last_counters_ : taken.front();
    counters.outbox_count = static_cast<int64_t>(channels_.count());
    counters.loop_inbox_count = static_cast<int64_t>(inbox_count_.load());
    return counters;
  }

  Status for_test_hand_out(size_t count) override {
    return admit(1, [this, count] {
      constexpr size_t kBatch = 64;  // as they come from a busy dispatcher
      for (size_t left = count; left > 0; left -= std::min(left, kBatch)) {
        std::vector<Item> items(std::min(left, kBatch));
        for (Item& item : items) item.kind = ItemKind::kAttempt;
        channels_.put(items);
      }
    });
  }

  Result<TestView> for_test_view() override {
    STEPWELL_TRY(check_test_world());
    Reply<TestView> reply;
    STEPWELL_TRY(admit_quietly([this, send = reply.sender()] { send(test_view()); }));
    auto taken = reply.take(-1);
    if (taken.empty()) return closed_status();
    return taken.front();
  }

  Result<bool> for_test_jump(int64_t activity, int64_t by_ms) override {
    STEPWELL_TRY(check_test_world());
    Reply<bool> reply;
    STEPWELL_TRY(admit_quietly([this, activity, by_ms, send = reply.sender()] {
      const TestView view = test_view();
      const bool is_still = view.is_idle && !view.is_cut && view.activity == activity;
      if (is_still) shifted_->jump(by_ms);
      send(is_still);
    }));
    auto taken = reply.take(-1);
    if (taken.empty()) return closed_status();
    return static_cast<bool>(taken.front());
  }

  int64_t for_test_ahead_ms() const override { return shifted_ ? shifted_->ahead_ms() : 0; }

  Status close(int64_t deadline_ms) override {
    STEPWELL_TRY(check_process(/*closed_is_ok=*/true));
    const std::lock_guard lock(close_mutex_);
    if (is_closed_ || !thread_) return Status::ok();
    wait_until_idle(deadline_ms);
    is_closed_ = true;
    Reply<Status> reply;
    loop_->post([this, send = reply.sender()] {
      last_counters_ = count();
      pruner_.reset();
      dispatcher_->release_all([this, send](const Status&) { store_->close(send); });
    });
    const auto taken = reply.take(-1);
    loop_->post([this] {
      dispatcher_.reset();
      transport_.reset();
      loop_->stop();
    });
    thread_->join();
    thread_.reset();
    store_.reset();
    channels_.close_all();
    return taken.empty() ? Status::ok() : taken.front();
  }

 private:
  Loop& dispatcher_loop() { return shifted_ ? static_cast<Loop&>(*shifted_) : *loop_; }

  void enter_test_world() {
    shifted_ = std::make_unique<ShiftedLoop>(*loop_, options_.test_world->ahead_ms);
    auto faulty = std::make_unique<FaultyStore>(*loop_, std::move(store_), *options_.test_world);
    faulty_ = faulty.get();
    store_ = std::move(faulty);
  }

  Status check_test_world() const {
    if (shifted_) return Status::ok();
    return {StatusKind::kInvalid, code::kInternal, "the engine was opened without a test world"};
  }

  TestView test_view() {
    const Counters counters = dispatcher_->counters();
    TestView view;
    view.activity = activity_ + faulty_->asked_count();
    view.is_idle = faulty_->open_count() == 0 && counters.calls_in_flight == 0 && channels_.open_count() == 0 &&
                   !dispatcher_->is_flush_due();
    view.is_cut = faulty_->is_cut();
    view.is_awaited = dispatcher_->is_awaited();
    view.active_count = counters.runs_in_flight;
    view.asking_count = dispatcher_->asking_count();
    view.commit_count = faulty_->commit_count();
    view.wall_ms = shifted_->wall_ms();
    view.next_in_ms = shifted_->next_in_ms();
    return view;
  }

  // Like admit, for one who only looks: that is no activity.
  template <typename F>
  Status admit_quietly(F task) {
    STEPWELL_TRY(check_process());
    loop_->post([this, task = std::move(task)]() mutable {
      if (dispatcher_) task();
    });
    return Status::ok();
  }

  // Posts `task` to the loop if there is room for `count` more messages. Reports of work in hand are always let in:
  // their number is bounded by what was handed out, and refusing them could only lose results.
  template <typename F>
  Status admit(size_t count, F task, bool is_work_in_hand = false) {
    STEPWELL_TRY(check_process());
    const auto added = static_cast<int64_t>(count);
    const int64_t before = inbox_count_.fetch_add(added);
    if (!is_work_in_hand && before > 0 && before + added > options_.limits.inbox_count_max) {
      inbox_count_.fetch_sub(added);
      return {StatusKind::kBusy, code::kBusy,
              "the engine's inbox holds " + std::to_string(before) + " of at most " +
                  std::to_string(options_.limits.inbox_count_max) + " messages; try again"};
    }
    loop_->post([this, added, task = std::move(task)]() mutable {
      inbox_count_.fetch_sub(added);
      ++activity_;
      if (dispatcher_) task();
    });
    return Status::ok();
  }

  // Runs `task` on the loop thread with the callback that answers, and waits.
  template <typename T, typename F>
  Result<T> ask(F task) {
    Reply<Result<T>> reply;
    STEPWELL_TRY(admit(1, [task = std::move(task), send = reply.sender()]() mutable { task(std::move(send)); }));
    auto taken = reply.take(-1);
    if (taken.empty()) return closed_status();
    return std::move(taken.front());
  }

  template <typename F>
  Status order(F task) {
    Reply<Status> reply;
    STEPWELL_TRY(admit(1, [task = std::move(task), send = reply.sender()]() mutable { task(std::move(send)); }));
    auto taken = reply.take(-1);
    return taken.empty() ? closed_status() : taken.front();
  }

  // On the loop thread.
  Counters count() const {
    Counters counters = dispatcher_->counters();
    if (pruner_) pruner_->add_to(counters);
    return counters;
  }

  template <typename F>
  Status start_with(std::vector<StartRequest> requests, F done) {
    for (const StartRequest& request : requests) STEPWELL_TRY(check_start(request));
    const size_t count = requests.size();
    return admit(count, [this, requests = std::move(requests), done = std::move(done)]() mutable {
      dispatcher_->start(std::move(requests), std::move(done));
    });
  }

  Status check_start(const StartRequest& request) const {
    const auto input_bytes = static_cast<int64_t>(request.run.input.size());
    if (input_bytes > options_.limits.payload_bytes_max) {
      return {StatusKind::kInvalid, code::kPayloadTooLarge,
              "an input of " + std::to_string(input_bytes) + " bytes; at most " +
                  std::to_string(options_.limits.payload_bytes_max) + " are kept"};
    }
    const auto key_bytes = static_cast<int64_t>(request.run.key.size());
    if (key_bytes > options_.limits.key_bytes_max) {
      return {StatusKind::kInvalid, code::kKeyInvalid,
              "a key of " + std::to_string(key_bytes) + " bytes; 1 to " +
                  std::to_string(options_.limits.key_bytes_max) + " are allowed"};
    }
    return Status::ok();
  }

  Status check_process(bool closed_is_ok = false) const {
    if (getpid() != pid_) {
      return {StatusKind::kClosed, code::kForked,
              "this process was forked from the one that opened the engine; open an engine of its own after the fork"};
    }
    return is_closed_ && !closed_is_ok ? closed_status() : Status::ok();
  }

  // Lets activations finish, without taking new ones from the host's hands.
  void wait_until_idle(int64_t deadline_ms) {
    constexpr int64_t kLookMs = 5;
    Mailbox<int> never(1);
    std::vector<int> nothing;
    for (int64_t left_ms = deadline_ms; left_ms > 0 && counters().runs_in_flight > 0; left_ms -= kLookMs) {
      never.take(nothing, 1, kLookMs);
    }
  }

  const RuntimeOptions options_;
  Channels channels_;
  const pid_t pid_;
  std::atomic<int64_t> inbox_count_{0};
  std::atomic<bool> is_closed_{false};
  std::mutex close_mutex_;
  Counters last_counters_;
  int64_t activity_ = 0;  // the loop thread's, see TestView

  std::unique_ptr<UvLoop> loop_;
  std::unique_ptr<ShiftedLoop> shifted_;  // in a test world
  std::unique_ptr<Store> store_;
  FaultyStore* faulty_ = nullptr;  // in a test world: store_
  std::unique_ptr<HttpTransport> transport_;
  std::unique_ptr<Dispatcher> dispatcher_;  // made and ended on the loop thread
  std::unique_ptr<detail::Pruner> pruner_;  // the same; none without a policy
  std::unique_ptr<std::thread> thread_;
};

}  // namespace

Result<std::unique_ptr<Runtime>> Runtime::open(RuntimeOptions options) {
  auto door = std::make_unique<RuntimeDoor>(std::move(options));
  STEPWELL_TRY(door->open_parts());
  return std::unique_ptr<Runtime>(std::move(door));
}

}  // namespace stepwell
