#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/vectors.h"

namespace recsys_fast::bindings {
namespace {

using Input = Array<const float>;
using Output = Array<float>;

template <class T>
Packed<T> packed(const Array<T>& rows, const Array<const int64_t>& row_ptr, const char* what) {
  const Rows<T> given = rows.rows(what);
  check_row_ptr(row_ptr, given.n);
  return {given.data, row_ptr.data(), row_ptr.size() - 1, given.d, given.n};
}

// Vectors (n k, d) of weights (n, k).
Mixture mixture(const Input& v, const Rows<const float>& weights) {
  const Rows<const float> vectors = v.rows("dimensions of v");
  check_size("rows of v", vectors.n, weights.n * weights.d);
  return {weights.n, weights.d, vectors.d};
}

}  // namespace

void bind_vectors(py::module_& m) {
  m.def("unit_rows_forward", [](const py::object& y, const py::object& scale, const py::object& x, int n_threads) {
    const Output out(y, "y"), factors(scale, "scale");
    const Input in(x, "x");
    const auto rows = out.rows("dimensions of y");
    check_size("size of x", in.size(), out.size());
    check_size("length of scale", factors.size(), rows.n);
    without_gil([&] { unit_rows_forward<Device>(rows, factors.data(), in.data(), n_threads); });
  });
  m.def("unit_rows_backward",
        [](const py::object& dx, const py::object& dy, const py::object& y, const py::object& scale, int n_threads) {
          const Output out(dx, "dx");
          const Input given(dy, "dy"), unit(y, "y"), factors(scale, "scale");
          const auto rows = out.rows("dimensions of dx");
          check_size("size of dy", given.size(), out.size());
          check_size("size of y", unit.size(), out.size());
          check_size("length of scale", factors.size(), rows.n);
          without_gil([&] { unit_rows_backward<Device>(rows, given.data(), unit.data(), factors.data(), n_threads); });
        });
  m.def("sequence_max_forward", [](const py::object& y, const py::object& places, const py::object& x,
                                   const py::object& row_ptr, int n_threads) {
    const Output out(y, "y");
    const Array<int32_t> where(places, "places");
    const Input in(x, "x");
    const Array<const int64_t> pointers(row_ptr, "row_ptr");
    const auto rows = packed(in, pointers, "dimensions of x");
    const auto best = out.rows("dimensions of y");
    check_size("rows of y", best.n, rows.n_sequences);
    check_size("columns of y", best.d, rows.d);
    check_size("size of places", where.size(), out.size());
    without_gil([&] { sequence_max_forward<Device>(best, where.data(), rows, n_threads); });
  });
  m.def("sequence_max_backward", [](const py::object& dx, const py::object& dy, const py::object& places,
                                    const py::object& row_ptr, int n_threads) {
    const Output out(dx, "dx");
    const Input given(dy, "dy");
    const Array<const int32_t> where(places, "places");
    const Array<const int64_t> pointers(row_ptr, "row_ptr");
    const auto rows = packed(out, pointers, "dimensions of dx");
    check_size("size of dy", given.size(), rows.n_sequences * rows.d);
    check_size("size of places", where.size(), given.size());
    without_gil([&] { sequence_max_backward<Device>(rows, given.data(), where.data(), n_threads); });
  });
  m.def("mixture_forward", [](const py::object& y, const py::object& w, const py::object& v, const py::object& scores,
                              const py::object& bias, const py::object& present, int n_threads) {
    const Output out(y, "y"), weights(w, "w");
    const Input vectors(v, "v"), numbers(scores, "scores"), more(bias, "bias");
    const Array<const uint8_t> there(present, "present");
    const Mixture size = mixture(vectors, numbers.rows("dimensions of scores"));
    check_size("size of y", out.size(), size.n * size.d);
    check_size("size of w", weights.size(), numbers.size());
    const float* b = optional("length of bias", more, size.k);
    const uint8_t* given = optional("size of present", there, numbers.size());
    without_gil([&] {
      mixture_forward<Device>(out.data(), weights.data(), vectors.data(), numbers.data(), b, given, size, n_threads);
    });
  });
  m.def("mixture_backward", [](const py::object& dv, const py::object& dscores, const py::object& dy,
                               const py::object& v, const py::object& w, int n_threads) {
    const Output out(dv, "dv"), slopes(dscores, "dscores");
    const Input given(dy, "dy"), vectors(v, "v"), weights(w, "w");
    const Mixture size = mixture(vectors, weights.rows("dimensions of w"));
    check_size("size of dv", out.size(), vectors.size());
    check_size("size of dscores", slopes.size(), weights.size());
    check_size("size of dy", given.size(), size.n * size.d);
    without_gil([&] {
      mixture_backward<Device>(out.data(), slopes.data(), given.data(), vectors.data(), weights.data(), size,
                               n_threads);
    });
  });
}

}  // namespace recsys_fast::bindings
