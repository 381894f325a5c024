// What the binding files share. The only header that includes pybind11. Bindings translate and never decide.
#pragma once

#include <pybind11/pybind11.h>

#include <string_view>
#include <utility>
#include <vector>

#include "stepwell/runtime.h"

namespace stepwell::binding {

namespace py = pybind11;

void register_runtime(py::module_& module);
void register_store_file(py::module_& module);

// Raises the Python exception for a status that is not ok; the caller holds the GIL.
void raise_unless_ok(const Status& status);

template <typename T>
T value_or_raise(Result<T> result) {
  raise_unless_ok(result.error());
  return std::move(result).value();
}

// Calls `function` without the GIL and returns its Status or Result.
template <typename F>
auto without_gil(F function) {
  const py::gil_scoped_release release;
  return function();
}

// Batches across the border, with the GIL held. Layouts: python/stepwell/_core.pyi.
py::list to_python(std::vector<Item>& items);
py::tuple to_python(Item& item);
py::tuple to_python(StartAnswer& answer);
py::list to_python(std::vector<RunHistory>& histories);
Report report_from_python(const py::tuple& report);
std::vector<Report> reports_from_python(const py::list& reports);
std::vector<StartRequest> starts_from_python(const py::list& requests);
std::vector<HttpRequest> requests_from_python(const py::list& requests);

inline py::bytes to_bytes(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

}  // namespace stepwell::binding
