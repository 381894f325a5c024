// StoreFile as stepwell._core.StoreFile. Layouts: python/stepwell/_core.pyi.
#include "stepwell/store_file.h"

#include "binding.h"

namespace stepwell::binding {

namespace {

py::str text_of(const std::string& text) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

template <typename T, typename F>
py::list list_of(const std::vector<T>& items, F convert) {
  py::list list;
  for (const T& item : items) list.append(convert(item));
  return list;
}

py::dict facts_of(const StoreFacts& facts) {
  py::dict out;
  out["schema"] = facts.schema;
  out["sqlite"] = facts.sqlite;
  out["file_bytes"] = facts.file_bytes;
  out["log_bytes"] = facts.log_bytes;
  out["pages"] = facts.page_count;
  out["free_pages"] = facts.free_page_count;
  out["messages"] = facts.message_count;
  out["long_payloads"] = facts.payload_count;
  out["long_payload_bytes"] = facts.payload_bytes;
  out["packed_bytes"] = facts.packed_bytes;
  out["needs_rescue"] = facts.is_marked_failed;
  return out;
}

py::tuple tallies_of(const RunTallies& answer) {
  return py::make_tuple(list_of(answer.tallies,
                                [](const RunTally& each) {
                                  return py::make_tuple(text_of(each.workflow), static_cast<int>(each.status),
                                                        each.run_count, each.event_count, each.payload_bytes,
                                                        each.history_bytes, each.oldest_at, each.newest_at,
                                                        each.largest, each.largest_bytes);
                                }),
                        answer.after, answer.run_count);
}

py::tuple findings_of(const Findings& answer) {
  return py::make_tuple(
      list_of(answer.findings, [](const Finding& each) { return py::make_tuple(each.run, text_of(each.what)); }),
      answer.after, answer.run_count);
}

py::tuple record_of(const RunRecord& record) {
  const RunRow& row = record.history.row;
  return py::make_tuple(
      row.run, static_cast<int>(row.status), row.token, row.claims, text_of(row.workflow), text_of(row.queue),
      text_of(row.key), record.fingerprint, to_bytes(row.input), to_bytes(row.result), row.created_at, row.finished_at,
      row.priority, row.wake_at, row.deadline_at, row.parent, text_of(row.parent_step), text_of(row.version),
      text_of(row.group), row.sla_at, row.sla_ms, text_of(row.breach_flow), text_of(row.budgets), record.is_trimmed,
      row.event_count,
      list_of(record.history.events,
              [](const Event& event) {
                return py::make_tuple(static_cast<int>(event.kind), event.attempt, text_of(event.step),
                                      to_bytes(event.payload), event.at, event.took_ms, event.waited_ms);
              }),
      list_of(record.history.messages,
              [](const Message& message) {
                return py::make_tuple(message.id, text_of(message.topic), text_of(message.key), message.at,
                                      to_bytes(message.payload));
              }),
      list_of(record.message_keys,
              [](const auto& each) { return py::make_tuple(text_of(each.first), text_of(each.second)); }),
      list_of(record.history.streams, [](const KeptStream& each) {
        return py::make_tuple(text_of(each.step), each.generation, to_bytes(each.text));
      }));
}

// Takes the members of a tuple one after the other.
class Fields {
 public:
  explicit Fields(const py::handle& tuple) : tuple_(py::reinterpret_borrow<py::tuple>(tuple)) {}
  template <typename T>
  T next() {
    return tuple_[index_++].cast<T>();
  }
  template <typename T>
  void read(T& into) {
    into = next<T>();
  }

 private:
  py::tuple tuple_;
  size_t index_ = 0;
};

Event event_of(const py::handle& tuple) {
  Fields fields(tuple);
  Event event;
  event.kind = static_cast<EventKind>(fields.next<int>());
  fields.read(event.attempt);
  fields.read(event.step);
  event.payload = fields.next<py::bytes>();
  fields.read(event.at);
  fields.read(event.took_ms);
  fields.read(event.waited_ms);
  return event;
}

Message message_of(const py::handle& tuple, RunId run) {
  Fields fields(tuple);
  Message message;
  message.to = run;
  fields.read(message.id);
  fields.read(message.topic);
  fields.read(message.key);
  fields.read(message.at);
  message.payload = fields.next<py::bytes>();
  return message;
}

RunRecord record_from_python(const py::handle& tuple) {
  Fields fields(tuple);
  RunRecord record;
  RunRow& row = record.history.row;
  fields.read(row.run);
  row.status = static_cast<RunStatus>(fields.next<int>());
  fields.read(row.token);
  fields.read(row.claims);
  fields.read(row.workflow);
  fields.read(row.queue);
  fields.read(row.key);
  fields.read(record.fingerprint);
  row.input = fields.next<py::bytes>();
  row.result = fields.next<py::bytes>();
  fields.read(row.created_at);
  fields.read(row.finished_at);
  fields.read(row.priority);
  fields.read(row.wake_at);
  fields.read(row.deadline_at);
  fields.read(row.parent);
  fields.read(row.parent_step);
  fields.read(row.version);
  fields.read(row.group);
  fields.read(row.sla_at);
  fields.read(row.sla_ms);
  fields.read(row.breach_flow);
  fields.read(row.budgets);
  fields.read(record.is_trimmed);
  fields.read(row.event_count);
  for (const py::handle each : fields.next<py::list>()) record.history.events.push_back(event_of(each));
  for (const py::handle each : fields.next<py::list>()) record.history.messages.push_back(message_of(each, row.run));
  for (const py::handle each : fields.next<py::list>()) {
    Fields pair(each);
    std::string topic = pair.next<std::string>();
    record.message_keys.emplace_back(std::move(topic), pair.next<std::string>());
  }
  for (const py::handle each : fields.next<py::list>()) {
    Fields stream(each);
    KeptStream& kept = record.history.streams.emplace_back();
    stream.read(kept.step);
    stream.read(kept.generation);
    kept.text = stream.next<py::bytes>();
  }
  return record;
}

using Limits = std::tuple<std::string, int64_t, int64_t, int64_t, int64_t, bool, bool>;

using Account = std::tuple<std::string, int64_t, int64_t, bool, RunId, WallMs, std::string>;

py::tuple settings_of(const StoreSettings& settings) {
  return py::make_tuple(list_of(settings.documents,
                                [](const Document& each) {
                                  return py::make_tuple(text_of(each.kind), text_of(each.name), each.version, each.at,
                                                        to_bytes(each.body));
                                }),
                        list_of(settings.queues,
                                [](const auto& each) {
                                  const QueueLimits& limits = each.second;
                                  return py::make_tuple(text_of(each.first), limits.in_flight_max,
                                                        limits.group_in_flight_max, limits.rate_count,
                                                        limits.rate_period_ms, limits.is_fair, limits.is_paused);
                                }),
                        list_of(settings.accounts, [](const BudgetRow& each) {
                          return py::make_tuple(text_of(each.name), each.cap.usd, each.cap.tokens, each.is_closed,
                                                each.run, each.at, text_of(each.notes));
                        }));
}

StoreSettings settings_from_python(const py::list& documents, const py::list& queues, const py::list& accounts) {
  StoreSettings settings;
  for (const py::handle each : documents) {
    Fields fields(each);
    Document& document = settings.documents.emplace_back();
    fields.read(document.kind);
    fields.read(document.name);
    fields.read(document.version);
    fields.read(document.at);
    document.body = fields.next<py::bytes>();
  }
  for (const py::handle each : queues) {
    auto& [name, limits] = settings.queues.emplace_back();
    std::tie(name, limits.in_flight_max, limits.group_in_flight_max, limits.rate_count, limits.rate_period_ms,
             limits.is_fair, limits.is_paused) = each.cast<Limits>();
  }
  for (const py::handle each : accounts) {
    BudgetRow& row = settings.accounts.emplace_back();
    std::tie(row.name, row.cap.usd, row.cap.tokens, row.is_closed, row.run, row.at, row.notes) = each.cast<Account>();
  }
  return settings;
}

void register_checks(py::class_<StoreFile>& file) {
  file.def("facts", [](StoreFile& file) { return facts_of(value_or_raise(without_gil([&] { return file.facts(); }))); })
      .def(
          "tally",
          [](StoreFile& file, RunId after, int64_t count_max) {
            return tallies_of(value_or_raise(without_gil([&] { return file.tally(after, count_max); })));
          },
          py::arg("after"), py::arg("run_count_max"), py::pos_only())
      .def(
          "check_pages",
          [](StoreFile& file, bool is_quick) {
            return list_of(value_or_raise(without_gil([&] { return file.check_pages(is_quick); })), text_of);
          },
          py::arg("is_quick"), py::pos_only())
      .def(
          "check_runs",
          [](StoreFile& file, RunId after, int64_t count_max) {
            return findings_of(value_or_raise(without_gil([&] { return file.check_runs(after, count_max); })));
          },
          py::arg("after"), py::arg("run_count_max"), py::pos_only())
      .def("check_strays", [](StoreFile& file) {
        return findings_of(value_or_raise(without_gil([&] { return file.check_strays(); })));
      });
}

void register_copies(py::class_<StoreFile>& file) {
  file.def_static(
          "open",
          [](const std::string& path, int access) {
            return value_or_raise(without_gil([&] { return StoreFile::open(path, static_cast<StoreAccess>(access)); }));
          },
          py::arg("path"), py::arg("access"), py::pos_only())
      .def(
          "read",
          [](StoreFile& file, RunId after, int64_t count_max, int64_t bytes_max) {
            const RunRecords answer =
                value_or_raise(without_gil([&] { return file.read(after, count_max, bytes_max); }));
            return py::make_tuple(list_of(answer.records, record_of), answer.after);
          },
          py::arg("after"), py::arg("run_count_max"), py::arg("bytes_max"), py::pos_only())
      .def(
          "add",
          [](StoreFile& file, const py::list& records) {
            std::vector<RunRecord> taken;
            for (const py::handle each : records) taken.push_back(record_from_python(each));
            const ImportCounts counts = value_or_raise(without_gil([&] { return file.add(taken); }));
            return py::make_tuple(counts.added_count, counts.known_count);
          },
          py::arg("records"), py::pos_only())
      .def("settings",
           [](StoreFile& file) { return settings_of(value_or_raise(without_gil([&] { return file.settings(); }))); })
      .def(
          "add_settings",
          [](StoreFile& file, const py::list& documents, const py::list& queues, const py::list& accounts) {
            const StoreSettings taken = settings_from_python(documents, queues, accounts);
            raise_unless_ok(without_gil([&] { return file.add_settings(taken); }));
          },
          py::arg("documents"), py::arg("queues"), py::arg("accounts"), py::pos_only())
      .def(
          "back_up",
          [](StoreFile& file, const std::string& target) {
            raise_unless_ok(without_gil([&] { return file.back_up(target); }));
          },
          py::arg("target"), py::pos_only())
      .def("compact", [](StoreFile& file) { raise_unless_ok(without_gil([&] { return file.compact(); })); })
      .def("interrupt", &StoreFile::interrupt)
      .def("close", [](StoreFile& file) { raise_unless_ok(without_gil([&] { return file.close(); })); });
}

}  // namespace

void register_store_file(py::module_& module) {
  py::class_<StoreFile> file(module, "StoreFile", py::is_final(),
                             "A store's file that no engine has open, for its upkeep.");
  register_copies(file);
  register_checks(file);
}

}  // namespace stepwell::binding
