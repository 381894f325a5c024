// Runtime as stepwell._core.Runtime. Whatever can wait drops the GIL; values cross as bytes and numbers.
#include <pybind11/stl.h>

#include <map>
#include <tuple>

#include "binding.h"

namespace stepwell::binding {

namespace {

std::shared_ptr<const RetentionPolicy> retention_of(const py::object& policy) {
  if (policy.is_none()) return nullptr;
  using Times = std::tuple<int64_t, int64_t, int64_t>;
  const auto [times, by_workflow, key_ms] = policy.cast<std::tuple<Times, std::map<std::string, Times>, int64_t>>();
  const auto times_of = [](const Times& given) {
    return RetentionTimes{std::get<0>(given), std::get<1>(given), std::get<2>(given)};
  };
  auto made = std::make_shared<RetentionPolicy>();
  made->times = times_of(times);
  for (const auto& [workflow, given] : by_workflow) made->by_workflow.emplace(workflow, times_of(given));
  made->key_ms = key_ms;
  return made;
}

// (allow, deny, hosts or None, plain_http, body_bytes_max, header_bytes_max, unpack_ratio_max, stall_ms_max,
//  bulk_bytes_max)
EgressPolicy egress_of(const py::tuple& members) {
  using Entries = std::vector<std::string>;
  EgressPolicy policy;
  policy.allow = members[0].cast<Entries>();
  policy.deny = members[1].cast<Entries>();
  if (!members[2].is_none()) policy.hosts = members[2].cast<Entries>();
  policy.plain_http = members[3].cast<bool>();
  policy.body_bytes_max = members[4].cast<int64_t>();
  policy.header_bytes_max = members[5].cast<int64_t>();
  policy.unpack_ratio_max = members[6].cast<int32_t>();
  policy.stall_ms_max = members[7].cast<int64_t>();
  policy.bulk_bytes_max = members[8].cast<int64_t>();
  return policy;
}

RuntimeOptions options_of(const std::string& path, bool is_durable, int64_t lease_ms, const std::string& ca_bundle,
                          const std::string& proxy, const std::string& no_proxy, int32_t calls_per_host_max,
                          const py::object& test_world) {
  RuntimeOptions options;
  options.path = path;
  options.durability = is_durable ? Durability::kFull : Durability::kRelaxed;
  options.lease_ms = lease_ms;
  options.ca_bundle = ca_bundle;
  options.proxy = proxy;
  options.no_proxy = no_proxy;
  options.connections_per_host_max = calls_per_host_max;
  if (!test_world.is_none()) {
    const auto members = test_world.cast<py::tuple>();
    TestWorld& world = options.test_world.emplace();
    world.ahead_ms = members[0].cast<int64_t>();
    world.cut_at = members[1].cast<int64_t>();
    world.keeps_cut = members[2].cast<bool>();
    world.seed = members[3].cast<uint64_t>();
    world.slow_percent = members[4].cast<int32_t>();
    world.busy_percent = members[5].cast<int32_t>();
  }
  return options;
}

py::dict counters_of(Runtime& runtime) {
  Counters counters;
  {
    const py::gil_scoped_release release;
    counters = runtime.counters();
  }
  py::dict out;
  out["runs_started"] = counters.runs_started;
  out["runs_succeeded"] = counters.runs_succeeded;
  out["runs_failed"] = counters.runs_failed;
  out["runs_in_flight"] = counters.runs_in_flight;
  out["runs_trimmed"] = counters.runs_trimmed;
  out["runs_deleted"] = counters.runs_deleted;
  out["steps_recorded"] = counters.steps_recorded;
  out["calls_sent"] = counters.calls_sent;
  out["calls_in_flight"] = counters.calls_in_flight;
  out["retries"] = counters.retries;
  out["calls_waiting"] = counters.calls_waiting;
  out["calls_hedged"] = counters.calls_hedged;
  out["calls_held"] = counters.calls_held;
  out["calls_throttled"] = counters.calls_throttled;
  out["sla_breaches"] = counters.sla_breaches;
  return out;
}

py::list start_and_wait(Runtime& runtime, const py::list& requests) {
  auto starts = starts_from_python(requests);
  auto answers = value_or_raise(without_gil([&] { return runtime.start(std::move(starts)); }));
  py::list out(answers.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    PyList_SET_ITEM(out.ptr(), static_cast<Py_ssize_t>(i), to_python(answers[i]).release().ptr());
  }
  return out;
}

py::list find_runs(Runtime& runtime, RunId run, const std::string& workflow, const std::string& key, bool is_failed,
                   bool is_breached, RunId before, int64_t count_max, bool with_events, bool with_payloads) {
  FindRequest request;
  request.run = run;
  request.workflow = workflow;
  request.key = key;
  request.is_failed = is_failed;
  request.is_breached = is_breached;
  request.before = before;
  request.count_max = count_max;
  request.with_events = with_events;
  request.with_payloads = with_payloads;
  auto found = value_or_raise(without_gil([&] { return runtime.find(std::move(request)); }));
  return to_python(found);
}

// What runs workflows: takes items, hands in reports.
void register_worker_side(py::class_<Runtime>& runtime) {
  runtime
      .def(
          "serve",
          [](Runtime& runtime, const std::string& queue, int32_t in_flight_max, ChannelId channel) {
            raise_unless_ok(without_gil([&] { return runtime.serve(queue, in_flight_max, channel); }));
          },
          py::arg("queue"), py::arg("in_flight_max"), py::arg("channel"), py::pos_only())
      .def(
          "poll",
          [](Runtime& runtime, size_t count_max, int64_t timeout_ms) {
            auto items = value_or_raise(without_gil([&] { return runtime.poll(count_max, timeout_ms); }));
            return to_python(items);
          },
          py::arg("count_max"), py::arg("timeout_ms"), py::pos_only())
      .def("wake", &Runtime::wake, py::pos_only())
      .def(
          "open_channel", [](Runtime& runtime, int event_fd) { return value_or_raise(runtime.open_channel(event_fd)); },
          py::arg("event_fd"), py::pos_only())
      .def("close_channel", &Runtime::close_channel, py::arg("channel"), py::pos_only())
      .def(
          "take",
          [](Runtime& runtime, ChannelId channel, size_t count_max) {
            auto items = value_or_raise(runtime.take(channel, count_max));
            return to_python(items);
          },
          py::arg("channel"), py::arg("count_max"), py::pos_only())
      .def(
          "complete",
          [](Runtime& runtime, const py::list& reports) {
            raise_unless_ok(runtime.complete(reports_from_python(reports)));
          },
          py::arg("reports"), py::pos_only())
      .def(
          "record",
          [](Runtime& runtime, const py::tuple& report) {
            Report waiting = report_from_python(report);
            Item item = value_or_raise(without_gil([&] { return runtime.record(std::move(waiting)); }));
            return to_python(item);
          },
          py::arg("report"), py::pos_only())
      .def(
          "for_test_hand_out",
          [](Runtime& runtime, size_t count) { raise_unless_ok(runtime.for_test_hand_out(count)); }, py::arg("count"),
          py::pos_only());
}

// (in_flight_max, group_in_flight_max, rate_count, rate_period_ms, is_fair, is_paused)
using LimitsTuple = std::tuple<int64_t, int64_t, int64_t, int64_t, bool, bool>;

// What queues let through, and the application's documents.
void register_keeping(py::class_<Runtime>& runtime) {
  runtime
      .def(
          "set_limits",
          [](Runtime& runtime, const std::string& queue, const LimitsTuple& given) {
            QueueLimits limits;
            std::tie(limits.in_flight_max, limits.group_in_flight_max, limits.rate_count, limits.rate_period_ms,
                     limits.is_fair, limits.is_paused) = given;
            raise_unless_ok(without_gil([&] { return runtime.set_limits(queue, limits); }));
          },
          py::arg("queue"), py::arg("limits"), py::pos_only())
      .def(
          "look",
          [](Runtime& runtime, const std::string& queue) {
            const QueueView view = value_or_raise(without_gil([&] { return runtime.look(queue); }));
            const QueueLimits& limits = view.limits;
            return std::make_tuple(LimitsTuple(limits.in_flight_max, limits.group_in_flight_max, limits.rate_count,
                                               limits.rate_period_ms, limits.is_fair, limits.is_paused),
                                   view.queued_count, view.held_count, view.running_count);
          },
          py::arg("queue"), py::pos_only())
      .def(
          "keep",
          [](Runtime& runtime, const std::string& kind, const std::string& name, int64_t version,
             const py::bytes& body) {
            Document document{kind, name, version, 0, body};
            raise_unless_ok(without_gil([&] { return runtime.keep(std::move(document)); }));
          },
          py::arg("kind"), py::arg("name"), py::arg("version"), py::arg("body"), py::pos_only())
      .def(
          "documents",
          [](Runtime& runtime, const std::string& kind, const std::string& name) {
            const auto found = value_or_raise(without_gil([&] { return runtime.documents(kind, name); }));
            py::list out;
            for (const Document& each : found)
              out.append(py::make_tuple(each.name, each.version, each.at, py::bytes(each.body)));
            return out;
          },
          py::arg("kind"), py::arg("name"), py::pos_only());
}

void register_budgets(py::class_<Runtime>& runtime) {
  runtime
      .def(
          "change_budget",
          [](Runtime& runtime, const std::string& name, const std::tuple<int64_t, int64_t>& cap, bool makes,
             bool sets_cap, bool closes, const std::string& note) {
            BudgetChange change{name, makes, sets_cap, {std::get<0>(cap), std::get<1>(cap)}, closes, note};
            raise_unless_ok(without_gil([&] { return runtime.change_budget(std::move(change)); }));
          },
          py::arg("name"), py::kw_only(), py::arg("cap") = std::tuple<int64_t, int64_t>(-1, -1),
          py::arg("makes") = false, py::arg("sets_cap") = false, py::arg("closes") = false, py::arg("note") = "")
      .def(
          "budgets",
          [](Runtime& runtime, const std::string& name) {
            const auto found = value_or_raise(without_gil([&] { return runtime.budgets(name); }));
            py::list out;
            for (const BudgetRow& row : found) {
              out.append(py::make_tuple(row.name, row.cap.usd, row.cap.tokens, row.spent.usd, row.spent.tokens,
                                        row.reserved.usd, row.reserved.tokens, row.doubt.usd, row.doubt.tokens,
                                        row.call_count, row.odd_count, row.waiting_count, row.is_closed, row.run,
                                        row.at, row.notes));
            }
            return out;
          },
          py::arg("name"), py::pos_only());
}

// (requests_per_minute, tokens_per_minute, concurrency)
using RatesTuple = std::tuple<int64_t, int64_t, int64_t>;

RatesTuple to_tuple(const CallRates& rates) {
  return {rates.requests_per_minute, rates.tokens_per_minute, rates.concurrency};
}

CallRates rates_of(const RatesTuple& given) { return {std::get<0>(given), std::get<1>(given), std::get<2>(given)}; }

py::tuple calls_of(Runtime& runtime) {
  const CallsView calls = value_or_raise(without_gil([&] { return runtime.look_at_calls(); }));
  py::list buckets;
  for (const BucketView& view : calls.buckets) {
    buckets.append(py::make_tuple(view.name, to_tuple(view.limits.all), to_tuple(view.limits.tenant),
                                  to_tuple(view.learned), view.requests_room, view.tokens_room, view.window,
                                  view.in_flight, view.waiting, view.tenants, view.sent, view.held, view.throttled,
                                  view.tokens_used, view.paused_until));
  }
  py::list circuits;
  for (const CircuitView& view : calls.circuits) {
    circuits.append(py::make_tuple(view.name, static_cast<int>(view.state), view.open_until, view.calls, view.failures,
                                   view.openings, view.held, view.retries_held));
  }
  return py::make_tuple(buckets, circuits);
}

// What calls wait for.
void register_admission(py::class_<Runtime>& runtime) {
  runtime
      .def(
          "set_call_limits",
          [](Runtime& runtime, const std::string& name, const RatesTuple& all, const RatesTuple& tenant,
             int64_t burst_ms) {
            const CallLimits limits{rates_of(all), rates_of(tenant), burst_ms};
            raise_unless_ok(without_gil([&] { return runtime.set_call_limits(name, limits); }));
          },
          py::arg("name"), py::arg("of_all"), py::arg("of_tenant"), py::arg("burst_ms"), py::pos_only())
      .def(
          "set_breaker",
          [](Runtime& runtime, const std::string& name, const std::vector<int64_t>& given) {
            if (given.size() != 11) throw py::type_error("a breaker has eleven members");
            BreakerPolicy policy;
            policy.window = static_cast<int32_t>(given[0]);
            policy.failures_min = static_cast<int32_t>(given[1]);
            policy.failure_percent = static_cast<int32_t>(given[2]);
            policy.slow_ms = given[3];
            policy.slow_percent = static_cast<int32_t>(given[4]);
            policy.cool_down_ms = given[5];
            policy.cool_down_ms_max = given[6];
            policy.probes_max = static_cast<int32_t>(given[7]);
            policy.successes_min = static_cast<int32_t>(given[8]);
            policy.retry_percent = static_cast<int32_t>(given[9]);
            policy.retries_per_second_min = static_cast<int32_t>(given[10]);
            raise_unless_ok(without_gil([&] { return runtime.set_breaker(name, policy); }));
          },
          py::arg("name"), py::arg("policy"), py::pos_only())
      .def("look_at_calls", &calls_of, py::pos_only());
}

// What starts runs, waits for them and sends plain requests.
void register_caller_side(py::class_<Runtime>& runtime) {
  runtime
      .def_static(
          "open",
          [](const std::string& path, bool is_durable, int64_t lease_ms, const std::string& ca_bundle,
             const std::string& proxy, const std::string& no_proxy, int32_t calls_per_host_max,
             const py::object& test_world, const py::object& retention, const py::object& egress) {
            RuntimeOptions options =
                options_of(path, is_durable, lease_ms, ca_bundle, proxy, no_proxy, calls_per_host_max, test_world);
            options.retention = retention_of(retention);
            if (!egress.is_none()) options.egress = egress_of(egress);
            return value_or_raise(without_gil([&] { return Runtime::open(std::move(options)); }));
          },
          py::arg("path"), py::kw_only(), py::arg("durable") = true, py::arg("lease_ms") = 30'000,
          py::arg("ca_bundle") = "", py::arg("proxy") = "", py::arg("no_proxy") = "",
          py::arg("calls_per_host_max") = 8'192, py::arg("test_world") = py::none(), py::arg("retention") = py::none(),
          py::arg("egress") = py::none())
      .def("start", &start_and_wait, py::arg("requests"), py::pos_only())
      .def(
          "start_async",
          [](Runtime& runtime, const py::list& requests, uint64_t ticket) {
            raise_unless_ok(runtime.start_async(starts_from_python(requests), ticket));
          },
          py::arg("requests"), py::arg("ticket"), py::pos_only())
      .def(
          "wait",
          [](Runtime& runtime, RunId run, int64_t timeout_ms) {
            auto answer = value_or_raise(without_gil([&] { return runtime.wait(run, timeout_ms); }));
            return to_python(answer);
          },
          py::arg("run"), py::arg("timeout_ms"), py::pos_only())
      .def(
          "watch", [](Runtime& runtime, RunId run, uint64_t ticket) { raise_unless_ok(runtime.watch(run, ticket)); },
          py::arg("run"), py::arg("ticket"), py::pos_only())
      .def("find", &find_runs, py::kw_only(), py::arg("run") = 0, py::arg("workflow") = "", py::arg("key") = "",
           py::arg("is_failed") = false, py::arg("is_breached") = false, py::arg("before") = 0,
           py::arg("count_max") = 1, py::arg("with_events") = false, py::arg("with_payloads") = true)
      .def(
          "tell",
          [](Runtime& runtime, RunId run, const std::string& topic, const py::bytes& payload, const std::string& key) {
            Message message;
            message.to = run;
            message.topic = topic;
            message.key = key;
            message.payload = payload;
            raise_unless_ok(without_gil([&] { return runtime.tell(std::move(message)); }));
          },
          py::arg("run"), py::arg("topic"), py::arg("payload"), py::arg("key"), py::pos_only())
      .def(
          "cancel",
          [](Runtime& runtime, RunId run) { raise_unless_ok(without_gil([&] { return runtime.cancel(run); })); },
          py::arg("run"), py::pos_only())
      .def(
          "send",
          [](Runtime& runtime, const py::list& requests, uint64_t ticket) {
            raise_unless_ok(runtime.send(requests_from_python(requests), ticket));
          },
          py::arg("requests"), py::arg("ticket"), py::pos_only())
      .def("counters", &counters_of, py::pos_only())
      .def(
          "close",
          [](Runtime& runtime, int64_t deadline_ms) {
            raise_unless_ok(without_gil([&] { return runtime.close(deadline_ms); }));
          },
          py::arg("deadline_ms"), py::pos_only());
}

void register_streams(py::class_<Runtime>& runtime) {
  runtime.def(
      "read_stream",
      [](Runtime& runtime, RunId run, const std::string& step, int64_t generation, int64_t offset, int64_t patience_ms,
         uint64_t ticket) {
        raise_unless_ok(runtime.read_stream({run, step, generation, offset, patience_ms, ticket}));
      },
      py::arg("run"), py::arg("step"), py::arg("generation"), py::arg("offset"), py::arg("patience_ms"),
      py::arg("ticket"), py::pos_only());
}

// What stepwell.testing uses; needs a test world.
void register_test_side(py::class_<Runtime>& runtime) {
  runtime
      .def(
          "for_test_view",
          [](Runtime& runtime) {
            const TestView view = value_or_raise(without_gil([&] { return runtime.for_test_view(); }));
            return py::make_tuple(view.activity, view.is_idle, view.is_cut, view.is_awaited, view.active_count,
                                  view.asking_count, view.commit_count, view.wall_ms, view.next_in_ms);
          },
          py::pos_only())
      .def(
          "for_test_jump",
          [](Runtime& runtime, int64_t activity, int64_t by_ms) {
            return value_or_raise(without_gil([&] { return runtime.for_test_jump(activity, by_ms); }));
          },
          py::arg("activity"), py::arg("by_ms"), py::pos_only())
      .def("for_test_ahead_ms", &Runtime::for_test_ahead_ms, py::pos_only());
}

void register_upkeep(py::class_<Runtime>& runtime) {
  runtime.def(
      "backup",
      [](Runtime& runtime, const std::string& path, int64_t page_count_max, bool is_given_up) {
        const BackupProgress progress =
            value_or_raise(without_gil([&] { return runtime.backup(BackupSlice{path, page_count_max, is_given_up}); }));
        return py::make_tuple(progress.done_count, progress.page_count, progress.is_finished);
      },
      py::arg("path"), py::arg("page_count_max"), py::arg("is_given_up"), py::pos_only());
}

}  // namespace

void register_runtime(py::module_& module) {
  module.def(
      "check_egress", [](const py::tuple& policy) { raise_unless_ok(check_policy(egress_of(policy))); },
      py::arg("policy"), py::pos_only());
  module.def(
      "special_range", [](const std::string& address) { return value_or_raise(special_range(address)); },
      py::arg("address"), py::pos_only());
  py::class_<Runtime> runtime(
      module, "Runtime", py::is_final(),
      "One engine: its loop thread, its store thread, and the batches between them and Python.");
  register_worker_side(runtime);
  register_caller_side(runtime);
  register_keeping(runtime);
  register_streams(runtime);
  register_admission(runtime);
  register_budgets(runtime);
  register_test_side(runtime);
  register_upkeep(runtime);
}

}  // namespace stepwell::binding
