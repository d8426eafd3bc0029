#include <stdexcept>
#include <string>

#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "bindings/eligible.h"
#include "ops/product_topk.h"
#include "ops/product_topk_dense.h"

namespace recsys_fast::bindings {
namespace {

void sparse_product(const py::object& ids, const py::object& scores, const py::object& a_row_ptr,
                    const py::object& a_col_idx, const py::object& a_values, const py::object& b_row_ptr,
                    const py::object& b_col_idx, const py::object& b_values, int64_t n_cols,
                    const py::object& candidates, const py::object& seen_row_ptr, const py::object& seen_col_idx,
                    const py::object& row_norms, const py::object& col_norms, int mode, float shrinkage,
                    bool only_touched, int n_threads) {
  const Array<int32_t> ids_array(ids, "ids");
  const Array<float> scores_array(scores, "scores");
  const auto id_rows = ids_array.rows("dimensions of ids");
  const auto score_rows = scores_array.rows("dimensions of scores");
  const CsrArrays b(b_row_ptr, b_col_idx, b_values, n_cols);
  const CsrArrays a(a_row_ptr, a_col_idx, a_values, b.view().n_rows);
  check_size("rows of ids", id_rows.n, a.view().n_rows);
  check_size("rows of scores", score_rows.n, id_rows.n);
  check_size("columns of scores", score_rows.d, id_rows.d);
  const EligibleArrays eligible(candidates, seen_row_ptr, seen_col_idx, id_rows.n, n_cols);
  const Array<const float> rows(row_norms, "row_norms"), cols(col_norms, "col_norms");
  if (mode < ProductNorms::kNone || mode > ProductNorms::kUnion) {
    throw std::invalid_argument("mode: got " + std::to_string(mode) + ", expected 0, 1 or 2");
  }
  const ProductNorms norms{static_cast<ProductNorms::Mode>(mode), rows.data(), cols.data(), shrinkage};
  if (mode != ProductNorms::kNone) {
    check_size("length of row_norms", rows.size(), id_rows.n);
    check_size("length of col_norms", cols.size(), n_cols);
  }
  without_gil([&] {
    product_topk<Device>(id_rows, score_rows, a.view(), b.view(), eligible.view(), norms, only_touched, n_threads);
  });
}

void dense_product(const py::object& ids, const py::object& scores, const py::object& a_row_ptr,
                   const py::object& a_col_idx, const py::object& a_values, const py::object& b,
                   const py::object& candidates, const py::object& seen_row_ptr, const py::object& seen_col_idx,
                   int n_threads) {
  const Array<int32_t> ids_array(ids, "ids");
  const Array<float> scores_array(scores, "scores");
  const Array<const float> b_array(b, "b");
  const auto id_rows = ids_array.rows("dimensions of ids");
  const auto score_rows = scores_array.rows("dimensions of scores");
  const auto b_rows = b_array.rows("dimensions of b");
  const CsrArrays a(a_row_ptr, a_col_idx, a_values, b_rows.n);
  check_size("rows of ids", id_rows.n, a.view().n_rows);
  check_size("rows of scores", score_rows.n, id_rows.n);
  check_size("columns of scores", score_rows.d, id_rows.d);
  const EligibleArrays eligible(candidates, seen_row_ptr, seen_col_idx, id_rows.n, b_rows.d);
  without_gil([&] { product_topk_dense<Device>(id_rows, score_rows, a.view(), b_rows, eligible.view(), n_threads); });
}

}  // namespace

void bind_product_topk(py::module_& m) {
  m.def("product_topk", &sparse_product);
  m.def("product_topk_dense", &dense_product);
}

}  // namespace recsys_fast::bindings
