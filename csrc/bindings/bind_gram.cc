#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/gram.h"

namespace recsys_fast::bindings {

void bind_gram(py::module_& m) {
  m.def("gram", [](const py::object& out, const py::object& y, int n_threads) {
    const Array<float> out_array(out, "out");
    const Array<const float> y_array(y, "y");
    const auto rows = y_array.rows("dimensions of y");
    check_size("size of out", out_array.size(), rows.d * rows.d);
    without_gil([&] { gram<Device>(out_array.data(), rows, n_threads); });
  });
  if constexpr (kOnCpu) {  // small: on CUDA it visits the host
    m.def("gram_eigen", [](const py::object& vectors, const py::object& values, const py::object& gram, int n_threads) {
      const Array<float> vectors_array(vectors, "vectors"), values_array(values, "values");
      const Array<const float> gram_array(gram, "gram");
      const int64_t d = values_array.size();
      check_size("size of gram", gram_array.size(), d * d);
      check_size("size of vectors", vectors_array.size(), d * d);
      without_gil(
          [&] { gram_eigen<Device>(vectors_array.data(), values_array.data(), gram_array.data(), d, n_threads); });
    });
  }
  m.def("rows_rotate", [](const py::object& x, const py::object& q, int n_threads) {
    const Array<float> x_array(x, "x");
    const Array<const float> q_array(q, "q");
    const auto rows = x_array.rows("dimensions of x");
    check_size("size of q", q_array.size(), rows.d * rows.d);
    without_gil([&] { rows_rotate<Device>(rows, q_array.data(), n_threads); });
  });
}

}  // namespace recsys_fast::bindings
