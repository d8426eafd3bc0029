// What modules install as the poll of waiting callers.
#pragma once

#include <pybind11/pybind11.h>

namespace recsys_fast::bindings {

// Only the interpreter's main thread ever sees a signal here; elsewhere PyErr_CheckSignals does nothing.
inline bool poll_python_signals() {
  const pybind11::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

}  // namespace recsys_fast::bindings
