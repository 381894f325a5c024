// Batches across the border: plain tuples, built by hand because this is the hottest path of the package.
#include <utility>

#include "binding.h"

namespace stepwell::binding {

namespace {

// Steals the references into a new tuple.
template <typename... Items>
PyObject* tuple_of(Items... items) {
  PyObject* tuple = PyTuple_New(sizeof...(items));
  if (tuple == nullptr) throw py::error_already_set();
  Py_ssize_t index = 0;
  (PyTuple_SET_ITEM(tuple, index++, items), ...);
  return tuple;
}

PyObject* checked(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return object;
}

PyObject* int_of(int64_t value) { return checked(PyLong_FromLongLong(value)); }
PyObject* text_of(const std::string& text) {
  return checked(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}
PyObject* bytes_of(const std::string& bytes) {
  return checked(PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
}
PyObject* bool_of(bool value) { return PyBool_FromLong(value ? 1 : 0); }
PyObject* none() { return Py_NewRef(Py_None); }
PyObject* kind_of(ItemKind kind) { return int_of(static_cast<int64_t>(kind)); }

PyObject* history_of(const std::vector<Event>& events) {
  if (events.empty()) return none();
  py::list list(events.size());
  for (size_t i = 0; i < events.size(); ++i) {
    const Event& event = events[i];
    PyList_SET_ITEM(
        list.ptr(), static_cast<Py_ssize_t>(i),
        tuple_of(int_of(static_cast<int64_t>(event.kind)), int_of(event.attempt), text_of(event.step),
                 bytes_of(event.payload), int_of(event.at), int_of(event.took_ms), int_of(event.waited_ms)));
  }
  return list.release().ptr();
}

PyObject* messages_of(const std::vector<Message>& messages) {
  py::list list(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    PyList_SET_ITEM(
        list.ptr(), static_cast<Py_ssize_t>(i),
        tuple_of(text_of(message.topic), text_of(message.key), int_of(message.at), bytes_of(message.payload)));
  }
  return list.release().ptr();
}

PyObject* status_of(const Status& status) {
  if (status.is_ok()) return none();
  return tuple_of(int_of(static_cast<int64_t>(status.kind())), text_of("SW-E" + std::to_string(status.code())),
                  text_of(status.message()));
}

// One text of lines "name: value"; who wants them as a mapping takes them apart. A header holds no line break.
PyObject* headers_of(const HttpHeaders& headers) {
  std::string text;
  size_t bytes = 0;
  for (const auto& [name, value] : headers) bytes += name.size() + value.size() + 3;
  text.reserve(bytes);
  for (const auto& [name, value] : headers) text.append(name).append(": ").append(value).append("\n");
  return bytes_of(text);
}

PyObject* started_of(const Item& item) {
  py::list list(item.answers->size());
  for (size_t i = 0; i < item.answers->size(); ++i) {
    PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), to_python((*item.answers)[i]).release().ptr());
  }
  return tuple_of(kind_of(item.kind), int_of(static_cast<int64_t>(item.ticket)), list.release().ptr());
}

PyObject* item_of(const Item& item) {
  switch (item.kind) {
    case ItemKind::kActivate:
      return tuple_of(kind_of(item.kind), int_of(item.run), text_of(item.text), bytes_of(item.payload),
                      history_of(item.history), int_of(item.token), text_of(item.budgets));
    case ItemKind::kStepAnswer:
      return tuple_of(kind_of(item.kind), int_of(item.run), text_of(item.text), bool_of(item.ok),
                      bytes_of(item.payload), int_of(item.attempt));
    case ItemKind::kAttempt:
      return tuple_of(kind_of(item.kind), int_of(item.run), text_of(item.text), int_of(item.attempt));
    case ItemKind::kPause:
      return tuple_of(kind_of(item.kind), int_of(item.run), bool_of(item.ok));
    case ItemKind::kCallHeld:
      return tuple_of(kind_of(item.kind), int_of(item.run), text_of(item.text), int_of(item.due_at),
                      text_of(item.payload));
    case ItemKind::kStop:
      return tuple_of(kind_of(item.kind), int_of(item.run), bytes_of(item.payload));
    case ItemKind::kRunFinished:
      return tuple_of(kind_of(item.kind), int_of(static_cast<int64_t>(item.ticket)), int_of(item.run),
                      int_of(static_cast<int64_t>(item.run_status)), bytes_of(item.payload), bool_of(item.ok));
    case ItemKind::kStarted:
      return started_of(item);
    case ItemKind::kStreamPiece:
      return tuple_of(kind_of(item.kind), int_of(item.run), text_of(item.text), int_of(item.generation),
                      int_of(item.offset), bytes_of(item.payload));
    case ItemKind::kStreamText:
      return tuple_of(kind_of(item.kind), int_of(static_cast<int64_t>(item.ticket)),
                      int_of(static_cast<int64_t>(item.standing)), int_of(item.generation), int_of(item.offset),
                      bytes_of(item.payload));
    case ItemKind::kHttp:
      break;
  }
  const HttpOutcome& outcome = *item.outcome;
  return tuple_of(kind_of(item.kind), int_of(static_cast<int64_t>(item.ticket)), status_of(outcome.status),
                  int_of(outcome.response.status), headers_of(outcome.response.headers),
                  bytes_of(outcome.response.body), int_of(outcome.elapsed_us));
}

// Reads one tuple of a batch; a wrong shape is a bug of our own Python, so a TypeError is answer enough.
class Reader {
 public:
  explicit Reader(PyObject* tuple) : tuple_(tuple) {
    if (!PyTuple_Check(tuple)) throw py::type_error("expected a tuple");
  }

  [[nodiscard]] bool has_more() const { return index_ < PyTuple_GET_SIZE(tuple_); }
  PyObject* next() {
    if (index_ >= PyTuple_GET_SIZE(tuple_)) throw py::type_error("a tuple of the batch is too short");
    return PyTuple_GET_ITEM(tuple_, index_++);
  }
  int64_t integer() {
    const int64_t value = PyLong_AsLongLong(next());
    if (value == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    return value;
  }
  uint64_t unsigned_integer() {
    const uint64_t value = PyLong_AsUnsignedLongLong(next());
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    return value;
  }
  bool boolean() { return PyObject_IsTrue(next()) == 1; }
  // str (as UTF-8) or bytes.
  std::string text() {
    PyObject* object = next();
    Py_ssize_t length = 0;
    if (PyBytes_Check(object)) return {PyBytes_AS_STRING(object), static_cast<size_t>(PyBytes_GET_SIZE(object))};
    const char* utf8 = PyUnicode_AsUTF8AndSize(object, &length);
    if (utf8 == nullptr) throw py::error_already_set();
    return {utf8, static_cast<size_t>(length)};
  }
  RetryPolicy retry() {
    Reader policy(next());
    RetryPolicy retry;
    retry.attempts_max = static_cast<int32_t>(policy.integer());
    retry.backoff_base_ms = policy.integer();
    retry.backoff_cap_ms = policy.integer();
    retry.elapsed_ms_max = policy.integer();
    retry.hedge_ms = policy.integer();
    return retry;
  }
  HttpHeaders headers() {
    PyObject* pairs = next();
    if (!PyTuple_Check(pairs)) throw py::type_error("expected a tuple of headers");
    HttpHeaders headers;
    headers.reserve(static_cast<size_t>(PyTuple_GET_SIZE(pairs)));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs); ++i) {
      Reader pair(PyTuple_GET_ITEM(pairs, i));
      std::string name = pair.text();
      headers.emplace_back(std::move(name), pair.text());
    }
    return headers;
  }
  // (method, url, headers, body, connect_timeout_ms, total_timeout_ms), and if it has them (body_bytes_max, is_bulk)
  HttpRequest request() {
    Reader fields(next());
    HttpRequest request;
    request.method = fields.text();
    request.url = fields.text();
    request.headers = fields.headers();
    request.body = fields.text();
    request.connect_timeout_ms = fields.integer();
    request.total_timeout_ms = fields.integer();
    if (fields.has_more()) request.body_bytes_max = fields.integer();
    if (fields.has_more()) request.is_bulk = fields.boolean();
    return request;
  }

  std::vector<std::string> texts() {
    Reader fields(next());
    std::vector<std::string> texts;
    while (fields.has_more()) texts.push_back(fields.text());
    return texts;
  }
  // (bucket, circuit, tenant, tokens, input pointers, output pointers, cached pointer[, fails_when_open])
  Admission admission() {
    Reader fields(next());
    Admission admission;
    if (!fields.has_more()) return admission;
    admission.bucket = fields.text();
    admission.circuit = fields.text();
    admission.tenant = fields.text();
    admission.tokens = fields.integer();
    admission.usage.input = fields.texts();
    admission.usage.output = fields.texts();
    admission.usage.cached = fields.text();
    if (fields.has_more()) admission.fails_when_open = fields.boolean();
    return admission;
  }
  // (estimate in picodollars and tokens, price of an input, an output and a cached token, budgets)
  Spending spending() {
    Reader fields(next());
    Spending spending;
    if (!fields.has_more()) return spending;
    spending.estimate.usd = fields.integer();
    spending.estimate.tokens = fields.integer();
    spending.price.input = fields.integer();
    spending.price.output = fields.integer();
    spending.price.cached = fields.integer();
    Reader budgets(fields.next());
    while (budgets.has_more()) spending.budgets.push_back(Reader(budgets.next()).budget());
    return spending;
  }
  // name, cap in picodollars and tokens, due_at, fails, is_runs
  BudgetUse budget() {
    BudgetUse use;
    use.name = text();
    use.cap.usd = integer();
    use.cap.tokens = integer();
    use.due_at = integer();
    use.fails = boolean();
    use.is_runs = boolean();
    return use;
  }
  // (text pointers, end events, end data, error pointers), and if it has them (text events, idle_ms_max, last
  // pointers)
  std::optional<StreamRule> stream() {
    Reader fields(next());
    if (!fields.has_more()) return std::nullopt;
    StreamRule rule;
    rule.text_pointers = fields.texts();
    rule.end_events = fields.texts();
    rule.end_data = fields.text();
    rule.error_pointers = fields.texts();
    if (!fields.has_more()) return rule;
    rule.text_events = fields.texts();
    rule.idle_ms_max = fields.integer();
    if (fields.has_more()) rule.last_pointers = fields.texts();
    return rule;
  }

  // (workflow, queue, key, fingerprint, input), and if it has them (priority, wake_at, deadline_at, version, events,
  // group, collapse, sla_at, sla_ms, breach_flow, budgets)
  void read(NewRun& run) {
    run.workflow = text();
    run.queue = text();
    run.key = text();
    run.fingerprint = unsigned_integer();
    run.input = text();
    if (!has_more()) return;
    run.priority = static_cast<int32_t>(integer());
    run.wake_at = integer();
    run.deadline_at = integer();
    run.version = text();
    if (!has_more()) return;
    run.events = events();
    run.group = text();
    run.collapse = collapse();
    if (!has_more()) return;
    run.sla_at = integer();
    run.sla_ms = integer();
    run.breach_flow = text();
    if (has_more()) run.budgets = text();
  }
  // (kind, key, wait_ms_max, count_max), or ()
  Collapse collapse() {
    Reader fields(next());
    Collapse collapse;
    if (!fields.has_more()) return collapse;
    collapse.kind = static_cast<CollapseKind>(fields.integer());
    collapse.key = fields.text();
    collapse.wait_ms_max = fields.integer();
    collapse.count_max = fields.integer();
    return collapse;
  }
  // As history_of made them.
  std::vector<Event> events() {
    std::vector<Event> events;
    const py::sequence sequence = py::reinterpret_borrow<py::sequence>(next());
    for (const py::handle each : sequence) {
      Reader fields(each.ptr());
      Event& event = events.emplace_back();
      event.kind = static_cast<EventKind>(fields.integer());
      event.attempt = static_cast<int32_t>(fields.integer());
      event.step = fields.text();
      event.payload = fields.text();
      event.at = fields.integer();
      event.took_ms = fields.integer();
      event.waited_ms = fields.integer();
    }
    return events;
  }

 private:
  PyObject* tuple_;
  Py_ssize_t index_ = 0;
};

NewRun run_of(PyObject* tuple) {
  NewRun run;
  Reader(tuple).read(run);
  return run;
}

std::vector<NewRun> runs_of(PyObject* tuples) {
  std::vector<NewRun> runs;
  const py::sequence sequence = py::reinterpret_borrow<py::sequence>(tuples);
  for (const py::handle each : sequence) runs.push_back(run_of(each.ptr()));
  return runs;
}

Report report_of(PyObject* tuple) {
  Reader fields(tuple);
  Report report;
  report.kind = static_cast<ReportKind>(fields.integer());
  report.run = fields.integer();
  report.token = fields.integer();
  switch (report.kind) {
    case ReportKind::kRunSucceeded:
    case ReportKind::kRunFailed:
    case ReportKind::kRunCompensated:
    case ReportKind::kMismatch:
      report.payload = fields.text();
      return report;
    case ReportKind::kStepSucceeded:
    case ReportKind::kStepFailed:
      report.step = fields.text();
      report.attempt = static_cast<int32_t>(fields.integer());
      report.payload = fields.text();
      report.took_ms = fields.integer();
      report.waited_ms = fields.integer();
      if (report.kind == ReportKind::kStepSucceeded) {
        if (fields.has_more()) report.sent = runs_of(fields.next());
      } else {
        report.retryable = fields.boolean();
        report.retry = fields.retry();
      }
      if (!fields.has_more()) return report;
      report.sla_ms = fields.integer();
      report.breach_flow = fields.text();
      return report;
    case ReportKind::kWait:
      report.step = fields.text();
      report.topic = fields.text();
      report.due_at = fields.integer();
      report.then_park = fields.boolean();
      return report;
    case ReportKind::kChild:
      report.step = fields.text();
      report.child = std::make_unique<NewRun>(run_of(fields.next()));
      report.then_park = fields.boolean();
      return report;
    case ReportKind::kDrop:
      report.step = fields.text();
      return report;
    case ReportKind::kPark:
      report.open_waits = static_cast<int32_t>(fields.integer());
      return report;
    case ReportKind::kCall:
      break;
  }
  report.step = fields.text();
  report.call = std::make_unique<CallSpec>();
  report.call->request = fields.request();
  report.call->retry = fields.retry();
  report.call->repeatable = fields.boolean();
  report.call->judge.json_body = fields.boolean();
  report.call->judge.required_pointer = fields.text();
  if (!fields.has_more()) return report;
  report.call->admission = fields.admission();
  report.call->spending = fields.spending();
  report.call->stream = fields.stream();
  return report;
}

}  // namespace

py::list to_python(std::vector<Item>& items) {
  py::list list(items.size());
  for (size_t i = 0; i < items.size(); ++i) PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), item_of(items[i]));
  return list;
}

py::tuple to_python(Item& item) { return py::reinterpret_steal<py::tuple>(item_of(item)); }

py::tuple to_python(StartAnswer& answer) {
  return py::reinterpret_steal<py::tuple>(
      tuple_of(status_of(answer.status), int_of(answer.run), bool_of(answer.attached),
               int_of(static_cast<int64_t>(answer.run_status)), bytes_of(answer.result)));
}

py::list to_python(std::vector<RunHistory>& histories) {
  py::list list(histories.size());
  for (size_t i = 0; i < histories.size(); ++i) {
    const RunRow& row = histories[i].row;
    PyList_SET_ITEM(
        list.ptr(), static_cast<Py_ssize_t>(i),
        tuple_of(int_of(row.run), int_of(static_cast<int64_t>(row.status)), int_of(row.claims), text_of(row.workflow),
                 text_of(row.queue), text_of(row.key), bytes_of(row.input), bytes_of(row.result),
                 int_of(row.created_at), int_of(row.finished_at), history_of(histories[i].events), int_of(row.wake_at),
                 int_of(row.parent), text_of(row.version), messages_of(histories[i].messages), text_of(row.group)));
  }
  return list;
}

Report report_from_python(const py::tuple& report) { return report_of(report.ptr()); }

std::vector<Report> reports_from_python(const py::list& reports) {
  std::vector<Report> out;
  out.reserve(reports.size());
  for (const py::handle report : reports) out.push_back(report_of(report.ptr()));
  return out;
}

std::vector<StartRequest> starts_from_python(const py::list& requests) {
  std::vector<StartRequest> out;
  out.reserve(requests.size());
  for (const py::handle request : requests) {
    Reader fields(request.ptr());
    StartRequest start;
    start.ticket = fields.unsigned_integer();
    fields.read(start.run);
    out.push_back(std::move(start));
  }
  return out;
}

std::vector<HttpRequest> requests_from_python(const py::list& requests) {
  std::vector<HttpRequest> out;
  out.reserve(requests.size());
  const py::tuple all(requests);
  Reader fields(all.ptr());
  for (size_t i = 0; i < requests.size(); ++i) out.push_back(fields.request());
  return out;
}

}  // namespace stepwell::binding
