#include "binding.h"

#ifndef STEPWELL_VERSION
#define STEPWELL_VERSION "0.0.0"
#endif

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ core of Stepwell. Private: use the names of the stepwell package.";
  module.attr("__version__") = STEPWELL_VERSION;
  stepwell::binding::register_runtime(module);
  stepwell::binding::register_store_file(module);
}
