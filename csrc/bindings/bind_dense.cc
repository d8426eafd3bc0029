#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/dense.h"

namespace recsys_fast::bindings {
void bind_dense(py::module_& m) {
  m.def("dense_forward",
        [](const py::object& y, const py::object& pre, const py::object& x, const py::object& w, const py::object& b,
           int activation, float dropout, uint64_t seed, uint32_t step, uint32_t site, int n_threads) {
          const Array<float> out(y, "y"), before(pre, "pre");
          const Array<const float> in(x, "x"), weights(w, "w"), bias(b, "b");
          const auto rows = in.rows("dimensions of x"), matrix = weights.rows("dimensions of w");
          check_size("rows of w", matrix.n, rows.d);
          check_size("size of y", out.size(), rows.n * matrix.d);
          float* pre_data = optional("size of pre", before, out.size());
          const DenseLayer layer{weights.data(),
                                 optional("size of b", bias, matrix.d),
                                 rows.d,
                                 matrix.d,
                                 activation_of(activation),
                                 {dropout, seed, step, site}};
          without_gil([&] { dense_forward<Device>(out.data(), pre_data, in.data(), rows.n, layer, n_threads); });
        });
  m.def("dense_backward",
        [](const py::object& dx, const py::object& dw, const py::object& db, const py::object& dy, const py::object& y,
           const py::object& pre, const py::object& x, const py::object& w, int activation, float dropout,
           uint64_t seed, uint32_t step, uint32_t site, int n_threads) {
          const Array<float> out(dx, "dx"), out_w(dw, "dw"), out_b(db, "db");
          const Array<const float> given(dy, "dy"), result(y, "y"), before(pre, "pre"), in(x, "x"), weights(w, "w");
          const auto rows = in.rows("dimensions of x"), matrix = weights.rows("dimensions of w");
          check_size("rows of w", matrix.n, rows.d);
          float* dx_data = optional("size of dx", out, in.size());
          check_size("size of dw", out_w.size(), weights.size());
          float* db_data = optional("size of db", out_b, matrix.d);
          check_size("size of dy", given.size(), rows.n * matrix.d);
          check_size("size of y", result.size(), given.size());
          const DenseLayer layer{
              weights.data(), nullptr, rows.d, matrix.d, activation_of(activation), {dropout, seed, step, site}};
          if (needs_argument(layer.activation)) check_size("size of pre", before.size(), given.size());
          without_gil([&] {
            dense_backward<Device>(dx_data, out_w.data(), db_data, given.data(), result.data(), before.data_or_null(),
                                   in.data(), rows.n, layer, n_threads);
          });
        });
}

}  // namespace recsys_fast::bindings
