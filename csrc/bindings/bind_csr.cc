#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/csr.h"

namespace recsys_fast::bindings {
namespace {

py::tuple validate(const py::object& row_ptr, const py::object& col_idx, const py::object& values, int64_t n_cols,
                   int n_threads) {
  const CsrArrays csr(row_ptr, col_idx, values, n_cols);
  const auto verdict = without_gil([&] { return validate_csr<Device>(csr.view(), csr.nnz(), n_threads); });
  return py::make_tuple(static_cast<int>(verdict.code), verdict.where);
}

void transpose(const py::object& t_row_ptr, const py::object& t_col_idx, const py::object& t_values,
               const py::object& row_ptr, const py::object& col_idx, const py::object& values, int64_t n_cols,
               int n_threads) {
  const Array<int64_t> t_row_ptr_array(t_row_ptr, "t_row_ptr");
  const Array<int32_t> t_col_idx_array(t_col_idx, "t_col_idx");
  const Array<float> t_values_array(t_values, "t_values");
  const CsrArrays csr(row_ptr, col_idx, values, n_cols);
  check_size("length of t_row_ptr", t_row_ptr_array.size(), n_cols + 1);
  check_size("length of t_col_idx", t_col_idx_array.size(), csr.nnz());
  if (csr.view().values != nullptr) check_size("length of t_values", t_values_array.size(), csr.nnz());
  without_gil([&] {
    csr_transpose<Device>(t_row_ptr_array.data(), t_col_idx_array.data(),
                          csr.view().values == nullptr ? nullptr : t_values_array.data(), csr.view(), n_threads);
  });
}

int64_t from_coo(const py::object& row_ptr, const py::object& col_idx, const py::object& values,
                 const py::object& source, const py::object& rows, const py::object& cols, const py::object& values_in,
                 int64_t n_rows, int64_t n_cols, int duplicates, int n_threads) {
  const Array<int64_t> row_ptr_array(row_ptr, "row_ptr"), source_array(source, "source");
  const Array<int32_t> col_idx_array(col_idx, "col_idx");
  const Array<float> values_array(values, "values");
  const Array<const int32_t> rows_array(rows, "rows"), cols_array(cols, "cols");
  const Array<const float> values_in_array(values_in, "values_in");
  const int64_t n = rows_array.size();
  check_size("length of row_ptr", row_ptr_array.size(), n_rows + 1);
  check_size("length of cols", cols_array.size(), n);
  check_size("length of values_in", values_in_array.size(), n);
  check_size("length of col_idx", col_idx_array.size(), n);
  check_size("length of values", values_array.size(), n);
  check_size("length of source", source_array.size(), n);
  const Coo entries{rows_array.data(), cols_array.data(), values_in_array.data(), n, n_rows, n_cols};
  return without_gil([&] {
    return csr_from_coo<Device>(row_ptr_array.data(), col_idx_array.data(), values_array.data(), source_array.data(),
                                entries, static_cast<Duplicates>(duplicates), n_threads);
  });
}

void take_rows(const py::object& col_idx, const py::object& values, const py::object& row_ptr, const py::object& starts,
               const py::object& from_col_idx, const py::object& from_values, int n_threads) {
  const Array<int32_t> col_idx_array(col_idx, "col_idx");
  const Array<float> values_array(values, "values");
  const Array<const int64_t> row_ptr_array(row_ptr, "row_ptr"), starts_array(starts, "starts");
  const Array<const int32_t> from_col_idx_array(from_col_idx, "from_col_idx");
  const Array<const float> from_values_array(from_values, "from_values");
  const int64_t n = starts_array.size(), nnz = col_idx_array.size();
  check_size("length of row_ptr", row_ptr_array.size(), n + 1);
  check_size("length of col_idx", nnz, row_ptr_array.data()[n]);
  const bool weighted = from_values_array.size() != 0;
  if (weighted) check_size("length of from_values", from_values_array.size(), from_col_idx_array.size());
  check_size("length of values", values_array.size(), weighted ? nnz : 0);
  without_gil([&] {
    csr_take_rows<Device>(col_idx_array.data(), weighted ? values_array.data() : nullptr, row_ptr_array.data(),
                          starts_array.data(), n, from_col_idx_array.data(), from_values_array.data_or_null(),
                          n_threads);
  });
}

}  // namespace

void bind_csr(py::module_& m) {
  m.def("validate_csr", &validate);
  m.def("csr_transpose", &transpose);
  if constexpr (kOnCpu) {  // on CUDA it visits the host
    m.def("csr_from_coo", &from_coo);
    m.def("csr_take_rows", &take_rows);
  }
}

}  // namespace recsys_fast::bindings
