// The arrays of a call as views, on the device that the module is compiled for: the same bindings serve both.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/device.h"
#include "core/errors.h"
#include "core/views.h"

#ifdef RECSYS_FAST_BIND_CUDA
#include "bindings/device_array.h"
#else
#include "bindings/host_array.h"
#endif

namespace recsys_fast::bindings {

namespace py = pybind11;

#ifdef RECSYS_FAST_BIND_CUDA
using Device = Cuda;
#else
using Device = Cpu;
#endif
// Whether operations without a kernel may be named: `if constexpr (kOnCpu) m.def(...)`.
constexpr bool kOnCpu = std::is_same_v<Device, Cpu>;

// The arrays of a sparse matrix; values may be an array of length 0. Sizes are checked here, contents by validate_csr.
class CsrArrays {
 public:
  CsrArrays(const py::object& row_ptr, const py::object& col_idx, const py::object& values, int64_t n_cols)
      : row_ptr_(row_ptr, "row_ptr"), col_idx_(col_idx, "col_idx"), values_(values, "values"), n_cols_(n_cols) {
    if (values_.size() != 0) check_size("number of values", values_.size(), col_idx_.size());
    if (row_ptr_.size() < 1) throw ShapeError("length of row_ptr", row_ptr_.size(), 1);
  }
  Csr view() const { return {row_ptr_.data(), col_idx_.data(), values_.data_or_null(), row_ptr_.size() - 1, n_cols_}; }
  int64_t nnz() const { return col_idx_.size(); }

 private:
  Array<const int64_t> row_ptr_;
  Array<const int32_t> col_idx_;
  Array<const float> values_;
  int64_t n_cols_;
};

// Runs native code without the GIL; Ctrl-C comes back as the pending KeyboardInterrupt.
template <class Function>
auto without_gil(Function&& function) {
  try {
    py::gil_scoped_release release;
    return std::forward<Function>(function)();
  } catch (const Interrupted&) {
    if (PyErr_Occurred() == nullptr) PyErr_SetNone(PyExc_KeyboardInterrupt);
    throw py::error_already_set();
  }
}

}  // namespace recsys_fast::bindings
