#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/field_sums.h"

namespace recsys_fast::bindings {
namespace {

FieldSums how_of(const Array<const int32_t>& fields, int64_t n_fields, bool linear, bool pairs, Rows<float> table) {
  if (n_fields < 1) throw ShapeError("n_fields", n_fields, 1);
  if (table.d < (linear ? 2 : 1)) throw ShapeError("columns of table", table.d, linear ? 2 : 1);
  if (fields.size() != 0 || n_fields > 1) check_size("length of fields", fields.size(), table.n);
  return {n_fields > 1 ? fields.data() : nullptr, n_fields, linear, pairs};
}

Rows<const float> constant(Rows<float> rows) { return {rows.data, rows.n, rows.d}; }

void run_field_sums_forward(const py::object& x, const py::object& sums, const py::object& score,
                            const py::object& row_ptr, const py::object& col_idx, const py::object& values,
                            const py::object& table, const py::object& fields, int64_t n_fields, bool linear,
                            bool pairs, int n_threads) {
  const Array<float> x_array(x, "x"), sums_array(sums, "sums"), score_array(score, "score"),
      table_array(table, "table");
  const Array<const int32_t> field_array(fields, "fields");
  const auto parameters = table_array.rows("dimensions of table");
  const FieldSums how = how_of(field_array, n_fields, linear, pairs, parameters);
  const CsrArrays rows(row_ptr, col_idx, values, parameters.n);
  const int64_t n = rows.view().n_rows;
  check_size("size of x", x_array.size(), n * n_fields * how.n_factors(parameters.d));
  if (linear || pairs || sums_array.size() != 0) check_size("size of sums", sums_array.size(), n * parameters.d);
  check_size("length of score", score_array.size(), n);
  without_gil([&] {
    field_sums_forward<Device>(x_array.data(), sums_array.data_or_null(), score_array.data(), rows.view(),
                               constant(parameters), how, n_threads);
  });
}

void run_field_sums_backward(const py::object& drows, const py::object& features, const py::object& entry_ptr,
                             const py::object& entries, const py::object& entry_rows, const py::object& values,
                             const py::object& dx, const py::object& dscore, const py::object& sums,
                             const py::object& table, const py::object& fields, int64_t n_fields, bool linear,
                             bool pairs, int n_threads) {
  const Array<float> rows_array(drows, "drows"), table_array(table, "table");
  const Array<const int32_t> feature_array(features, "features"), entries_array(entries, "entries");
  const Array<const int32_t> place_array(entry_rows, "entry_rows"), field_array(fields, "fields");
  const Array<const int64_t> ptr_array(entry_ptr, "entry_ptr");
  const Array<const float> value_array(values, "values"), dx_array(dx, "dx"), dscore_array(dscore, "dscore");
  const Array<const float> sums_array(sums, "sums");
  const auto rows = rows_array.rows("dimensions of drows"), parameters = table_array.rows("dimensions of table");
  const FieldSums how = how_of(field_array, n_fields, linear, pairs, parameters);
  check_size("columns of drows", rows.d, parameters.d);
  check_size("length of features", feature_array.size(), rows.n);
  check_size("length of entry_ptr", ptr_array.size(), rows.n + 1);
  if (value_array.size() != 0) check_size("number of values", value_array.size(), place_array.size());
  check_size("size of dx", dx_array.size(), dscore_array.size() * n_fields * how.n_factors(rows.d));
  if (linear || pairs) check_size("size of sums", sums_array.size(), dscore_array.size() * rows.d);
  const FieldGradients from{place_array.data(), value_array.data_or_null(), dx_array.data(), dscore_array.data(),
                            sums_array.data_or_null()};
  without_gil([&] {
    field_sums_backward<Device>(rows, feature_array.data(), ptr_array.data(), entries_array.data(), from,
                                constant(parameters), how, n_threads);
  });
}

}  // namespace

void bind_field_sums(py::module_& m) {
  m.def("field_sums_forward", &run_field_sums_forward);
  m.def("field_sums_backward", &run_field_sums_backward);
}

}  // namespace recsys_fast::bindings
