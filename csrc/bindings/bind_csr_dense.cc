#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/csr_dense.h"

namespace recsys_fast::bindings {
namespace {

void run_csr_dense_forward(const py::object& y, const py::object& row_ptr, const py::object& col_idx,
                           const py::object& values, const py::object& table, const py::object& b, int activation,
                           int n_threads) {
  const Array<float> out(y, "y");
  const Array<const float> table_array(table, "table"), bias(b, "b");
  const auto into = out.rows("dimensions of y");
  const auto rows = table_array.rows("dimensions of table");
  const CsrArrays x(row_ptr, col_idx, values, rows.n);
  check_row_ptr(Array<const int64_t>(row_ptr, "row_ptr"), x.nnz());
  check_size("rows of y", into.n, x.view().n_rows);
  check_size("columns of y", into.d, rows.d);
  const float* bias_data = optional("length of b", bias, rows.d);
  const Activation kind = activation_of(activation);
  without_gil([&] { csr_dense_forward<Device>(into, x.view(), rows, bias_data, kind, n_threads); });
}

void run_csr_dense_backward(const py::object& drows, const py::object& dbias, const py::object& db, const py::object& g,
                            const py::object& dy, const py::object& y, const py::object& row_ptr,
                            const py::object& values, const py::object& entry_ptr, const py::object& entries,
                            int activation, int n_threads) {
  const Array<float> out(drows, "drows"), out_bias(dbias, "dbias"), out_b(db, "db"), out_g(g, "g");
  const Array<const float> given(dy, "dy"), result(y, "y");
  const Array<const int64_t> ptr(entry_ptr, "entry_ptr");
  const Array<const int32_t> order(entries, "entries");
  const auto into = out.rows("dimensions of drows");
  const auto gradient = given.rows("dimensions of dy");
  const CsrArrays x(row_ptr, entries, values, 0);
  check_row_ptr(Array<const int64_t>(row_ptr, "row_ptr"), x.nnz());
  check_row_ptr(ptr, x.nnz());
  check_size("length of entry_ptr", ptr.size(), into.n + 1);
  check_size("rows of dy", gradient.n, x.view().n_rows);
  if (into.n != 0) check_size("columns of drows", into.d, gradient.d);
  float* bias_data = optional("length of dbias", out_bias, into.n);
  float* b_data = optional("length of db", out_b, gradient.d);
  float* g_data = optional("size of g", out_g, given.size());
  const Activation kind = activation_of(activation);
  if (kind != Activation::kIdentity) {
    check_size("size of y", result.size(), given.size());
    check_size("size of g", out_g.size(), given.size());
  }
  without_gil([&] {
    csr_dense_backward<Device>(into, bias_data, b_data, g_data, gradient, result.data_or_null(), x.view(), x.nnz(),
                               ptr.data(), order.data(), kind, n_threads);
  });
}

void scale(const py::object& out, const py::object& row_ptr, const py::object& col_idx, const py::object& values,
           int64_t n_cols, bool normalize, float dropout, uint64_t seed, uint32_t step, uint32_t site, int n_threads) {
  const Array<float> out_array(out, "out");
  const CsrArrays x(row_ptr, col_idx, values, n_cols);
  check_row_ptr(Array<const int64_t>(row_ptr, "row_ptr"), x.nnz());
  check_size("length of out", out_array.size(), x.nnz());
  without_gil(
      [&] { csr_scale<Device>(out_array.data(), x.view(), normalize, {dropout, seed, step, site}, n_threads); });
}

}  // namespace

void bind_csr_dense(py::module_& m) {
  m.def("csr_dense_forward", &run_csr_dense_forward);
  m.def("csr_dense_backward", &run_csr_dense_backward);
  m.def("csr_scale", &scale);
}

}  // namespace recsys_fast::bindings
