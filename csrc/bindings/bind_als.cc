#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/als.h"

namespace recsys_fast::bindings {
namespace {

double sweep(const py::object& x, const py::object& y, const py::object& spectrum, const py::object& row_ptr,
             const py::object& col_idx, const py::object& weights, const py::object& targets, float target_offset,
             float regularization, float nu, float unobserved_weight, bool biased, int solver, int n_steps,
             int block_size, int n_threads) {
  const Array<float> x_array(x, "x");
  const Array<const float> y_array(y, "y"), spectrum_array(spectrum, "spectrum"), targets_array(targets, "targets");
  const auto x_rows = x_array.rows("dimensions of x");
  const auto y_rows = y_array.rows("dimensions of y");
  const CsrArrays csr(row_ptr, col_idx, weights, y_rows.n);
  check_size("columns of x", x_rows.d, y_rows.d);
  check_size("rows of x", x_rows.n, csr.view().n_rows);
  check_size("length of spectrum", spectrum_array.size(), y_rows.d);
  if (targets_array.size() != 0) check_size("length of targets", targets_array.size(), csr.nnz());
  const AlsProblem problem{csr.view().values,     targets_array.data_or_null(),
                           spectrum_array.data(), target_offset,
                           regularization,        nu,
                           unobserved_weight,     biased};
  return without_gil([&] {
    return als_sweep<Device>(x_rows, y_rows, csr.view(), problem, static_cast<AlsSolver>(solver), n_steps, block_size,
                             n_threads);
  });
}

double loss(const py::object& x, const py::object& y, const py::object& gram_x, const py::object& gram_y,
            const py::object& row_ptr, const py::object& col_idx, const py::object& weights, const py::object& targets,
            const py::object& col_counts, float target_offset, float regularization, float nu, float unobserved_weight,
            bool biased, int n_threads) {
  const Array<const float> x_array(x, "x"), y_array(y, "y"), targets_array(targets, "targets");
  const Array<const float> gram_x_array(gram_x, "gram_x"), gram_y_array(gram_y, "gram_y");
  const Array<const int64_t> counts(col_counts, "col_counts");
  const auto x_rows = x_array.rows("dimensions of x");
  const auto y_rows = y_array.rows("dimensions of y");
  const CsrArrays csr(row_ptr, col_idx, weights, y_rows.n);
  check_size("columns of x", x_rows.d, y_rows.d);
  check_size("rows of x", x_rows.n, csr.view().n_rows);
  check_size("size of gram_x", gram_x_array.size(), y_rows.d * y_rows.d);
  check_size("size of gram_y", gram_y_array.size(), y_rows.d * y_rows.d);
  check_size("length of col_counts", counts.size(), y_rows.n);
  if (targets_array.size() != 0) check_size("length of targets", targets_array.size(), csr.nnz());
  const AlsProblem problem{csr.view().values, targets_array.data_or_null(),
                           nullptr,           target_offset,
                           regularization,    nu,
                           unobserved_weight, biased};
  return without_gil([&] {
    return als_loss<Device>(x_rows, y_rows, gram_x_array.data(), gram_y_array.data(), csr.view(), problem,
                            counts.data(), n_threads);
  });
}

}  // namespace

void bind_als(py::module_& m) {
  m.def("als_sweep", &sweep);
  m.def("als_loss", &loss);
}

}  // namespace recsys_fast::bindings
