// The one place where a Status becomes a Python exception. The tree is drawn in python/stepwell/_errors.py.
#include "binding.h"

namespace stepwell::binding {

namespace {

const char* class_name(StatusKind kind) {
  switch (kind) {
    case StatusKind::kInvalid:
      return "InputError";
    case StatusKind::kNotFound:
      return "NotFoundError";
    case StatusKind::kConflict:
      return "ConflictError";
    case StatusKind::kBusy:
      return "BusyError";
    case StatusKind::kTimeout:
      return "WaitTimeout";
    case StatusKind::kCancelled:
      return "RunCancelled";
    case StatusKind::kFenced:
      return "FencedError";
    case StatusKind::kIo:
      return "StoreError";
    case StatusKind::kClosed:
      return "ClosedError";
    case StatusKind::kOk:
      break;
  }
  return "WorkflowError";
}

}  // namespace

void raise_unless_ok(const Status& status) {
  if (status.is_ok()) return;
  const py::object type = py::module_::import("stepwell._errors").attr(class_name(status.kind()));
  const py::object error = type("SW-E" + std::to_string(status.code()), status.message());
  PyErr_SetObject(type.ptr(), error.ptr());
  throw py::error_already_set();
}

}  // namespace stepwell::binding
