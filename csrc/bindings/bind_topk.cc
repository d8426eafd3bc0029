#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "bindings/eligible.h"
#include "ops/pair_scores.h"
#include "ops/topk.h"

namespace recsys_fast::bindings {
namespace {

void topk_lists(const py::object& ids, const py::object& scores, const py::object& queries, const py::object& items,
                const py::object& candidates, const py::object& seen_row_ptr, const py::object& seen_col_idx,
                int n_threads) {
  const Array<int32_t> ids_array(ids, "ids");
  const Array<float> scores_array(scores, "scores");
  const Array<const float> queries_array(queries, "queries"), items_array(items, "items");
  const auto id_rows = ids_array.rows("dimensions of ids");
  const auto score_rows = scores_array.rows("dimensions of scores");
  const auto query_rows = queries_array.rows("dimensions of queries");
  const auto item_rows = items_array.rows("dimensions of items");
  check_size("columns of queries", query_rows.d, item_rows.d);
  check_size("rows of ids", id_rows.n, query_rows.n);
  check_size("rows of scores", score_rows.n, query_rows.n);
  check_size("columns of scores", score_rows.d, id_rows.d);
  const EligibleArrays eligible(candidates, seen_row_ptr, seen_col_idx, query_rows.n, item_rows.n);
  without_gil([&] { topk<Device>(id_rows, score_rows, query_rows, item_rows, eligible.view(), n_threads); });
}

void scores_of_pairs(const py::object& out, const py::object& x, const py::object& y, const py::object& row_ptr,
                     const py::object& col_idx, int n_threads) {
  const Array<float> out_array(out, "out");
  const Array<const float> x_array(x, "x"), y_array(y, "y");
  const auto x_rows = x_array.rows("dimensions of x");
  const auto y_rows = y_array.rows("dimensions of y");
  const PatternArrays pairs(row_ptr, col_idx, y_rows.n);
  check_size("columns of x", x_rows.d, y_rows.d);
  check_size("rows of x", x_rows.n, pairs.view().n_rows);
  check_size("length of out", out_array.size(), pairs.nnz());
  without_gil([&] { pair_scores<Device>(out_array.data(), x_rows, y_rows, pairs.view(), n_threads); });
}

}  // namespace

void bind_topk(py::module_& m) {
  m.def("topk", &topk_lists);
  m.def("pair_scores", &scores_of_pairs);
}

}  // namespace recsys_fast::bindings
