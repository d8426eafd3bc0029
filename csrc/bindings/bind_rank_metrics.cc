#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "bindings/eligible.h"
#include "ops/rank_metrics.h"

namespace recsys_fast::bindings {
namespace {

// ks: lengths at which lists are cut, all positive; out (n_users, kRankMetrics, ks).
void check_metrics(const Array<double>& out, const Array<const int32_t>& ks, int64_t n_users) {
  check_size("size of out", out.size(), n_users * kRankMetrics * ks.size());
  const auto cuts = ks.on_host();
  for (int64_t c = 0; c < ks.size(); ++c) {
    if (cuts[c] < 1) throw ShapeError("smallest of ks", cuts[c], 1);
  }
}

void metrics(const py::object& out, const py::object& queries, const py::object& items, const py::object& candidates,
             const py::object& seen_row_ptr, const py::object& seen_col_idx, const py::object& test_row_ptr,
             const py::object& test_col_idx, const py::object& ks, int n_threads) {
  const Array<double> out_array(out, "out");
  const Array<const float> queries_array(queries, "queries"), items_array(items, "items");
  const Array<const int32_t> ks_array(ks, "ks");
  const auto query_rows = queries_array.rows("dimensions of queries");
  const auto item_rows = items_array.rows("dimensions of items");
  check_size("columns of queries", query_rows.d, item_rows.d);
  check_metrics(out_array, ks_array, query_rows.n);
  const EligibleArrays eligible(candidates, seen_row_ptr, seen_col_idx, query_rows.n, item_rows.n);
  const PatternArrays test(test_row_ptr, test_col_idx, item_rows.n);
  check_size("rows of test", test.view().n_rows, query_rows.n);
  without_gil([&] {
    rank_metrics<Device>(out_array.data(), query_rows, item_rows, eligible.view(), test.view(), ks_array.data(),
                         ks_array.size(), n_threads);
  });
}

void metrics_of_lists(const py::object& out, const py::object& ids, const py::object& test_row_ptr,
                      const py::object& test_col_idx, const py::object& ks, int n_threads) {
  const Array<double> out_array(out, "out");
  const Array<const int32_t> ids_array(ids, "ids"), ks_array(ks, "ks");
  const auto id_rows = ids_array.rows("dimensions of ids");
  check_metrics(out_array, ks_array, id_rows.n);
  const PatternArrays test(test_row_ptr, test_col_idx, 0);
  check_size("rows of test", test.view().n_rows, id_rows.n);
  without_gil([&] {
    list_metrics<Device>(out_array.data(), id_rows, test.view(), ks_array.data(), ks_array.size(), n_threads);
  });
}

void auc(const py::object& out, const py::object& queries, const py::object& items, const py::object& candidates,
         const py::object& seen_row_ptr, const py::object& seen_col_idx, const py::object& test_row_ptr,
         const py::object& test_col_idx, int n_threads) {
  const Array<double> out_array(out, "out");
  const Array<const float> queries_array(queries, "queries"), items_array(items, "items");
  const auto query_rows = queries_array.rows("dimensions of queries");
  const auto item_rows = items_array.rows("dimensions of items");
  check_size("columns of queries", query_rows.d, item_rows.d);
  check_size("length of out", out_array.size(), query_rows.n);
  const EligibleArrays eligible(candidates, seen_row_ptr, seen_col_idx, query_rows.n, item_rows.n);
  const PatternArrays test(test_row_ptr, test_col_idx, item_rows.n);
  check_size("rows of test", test.view().n_rows, query_rows.n);
  without_gil(
      [&] { rank_auc<Device>(out_array.data(), query_rows, item_rows, eligible.view(), test.view(), n_threads); });
}

}  // namespace

void bind_rank_metrics(py::module_& m) {
  m.def("rank_metrics", &metrics);
  m.def("list_metrics", &metrics_of_lists);
  m.def("rank_auc", &auc);
}

}  // namespace recsys_fast::bindings
