#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/linear.h"

namespace recsys_fast::bindings {
namespace {

// What the regressions of single items share: where weights go, and the matrix with its transpose.
class ItemProblem {
 public:
  ItemProblem(const py::object& ids, const py::object& values, const py::object& counts, const py::object& items,
              const py::object& t_row_ptr, const py::object& t_col_idx, const py::object& t_values,
              const py::object& row_ptr, const py::object& col_idx, const py::object& x_values)
      : ids_(ids, "ids"),
        values_(values, "values"),
        counts_(counts, "counts"),
        items_(items, "items"),
        n_users_(length_of(row_ptr) - 1),
        n_items_(length_of(t_row_ptr) - 1),
        t_(t_row_ptr, t_col_idx, t_values, n_users_),
        x_(row_ptr, col_idx, x_values, n_items_) {
    check_size("entries of the transposed matrix", t_.nnz(), x_.nnz());
    const auto id_rows = ids_.rows("dimensions of ids");
    const auto value_rows = values_.rows("dimensions of values");
    check_size("rows of values", value_rows.n, id_rows.n);
    check_size("columns of values", value_rows.d, id_rows.d);
    check_size("length of counts", counts_.size(), id_rows.n);
    check_size("length of items", items_.size(), id_rows.n);
    const auto given = items_.on_host();
    for (int64_t r = 0; r < items_.size(); ++r) {
      const int32_t item = given[static_cast<size_t>(r)];
      if (item < 0 || item >= n_items_) throw ShapeError("item", item, n_items_);
    }
  }
  ItemWeights out() const { return {ids_.rows("ids"), values_.rows("values"), counts_.data(), items_.data()}; }
  Csr t() const { return t_.view(); }
  Csr x() const { return x_.view(); }

 private:
  static int64_t length_of(const py::object& row_ptr) { return Array<const int64_t>(row_ptr, "row_ptr").size(); }

  Array<int32_t> ids_;
  Array<float> values_;
  Array<int32_t> counts_;
  Array<const int32_t> items_;
  int64_t n_users_, n_items_;
  CsrArrays t_, x_;
};

}  // namespace

void bind_linear(py::module_& m) {
  m.def("csr_gram", [](const py::object& out, const py::object& t_row_ptr, const py::object& t_col_idx,
                       const py::object& t_values, const py::object& row_ptr, const py::object& col_idx,
                       const py::object& values, float regularization, int n_threads) {
    const Array<float> out_array(out, "out");
    const Array<const int64_t> sizes(row_ptr, "row_ptr"), t_sizes(t_row_ptr, "t_row_ptr");
    const CsrArrays t(t_row_ptr, t_col_idx, t_values, sizes.size() - 1);
    const CsrArrays x(row_ptr, col_idx, values, t_sizes.size() - 1);
    check_size("entries of the transposed matrix", t.nnz(), x.nnz());
    check_size("size of out", out_array.size(), t.view().n_rows * t.view().n_rows);
    without_gil([&] { csr_gram<Device>(out_array.data(), t.view(), x.view(), regularization, n_threads); });
  });
  m.def("slim_solve", [](const py::object& ids, const py::object& values, const py::object& counts,
                         const py::object& items, const py::object& t_row_ptr, const py::object& t_col_idx,
                         const py::object& t_values, const py::object& row_ptr, const py::object& col_idx,
                         const py::object& x_values, const py::object& gram, double l1, double l2, bool nonnegative,
                         double tolerance, int64_t n_passes, int n_threads) {
    const ItemProblem problem(ids, values, counts, items, t_row_ptr, t_col_idx, t_values, row_ptr, col_idx, x_values);
    const Array<const float> gram_array(gram, "gram");
    if (gram_array.size() != 0) check_size("size of gram", gram_array.size(), problem.t().n_rows * problem.t().n_rows);
    return without_gil([&] {
      return slim_solve<Device>(problem.out(), problem.t(), problem.x(), gram_array.data_or_null(), l1, l2, nonnegative,
                                tolerance, n_passes, n_threads);
    });
  });
  m.def("ridge_solve", [](const py::object& ids, const py::object& values, const py::object& counts,
                          const py::object& items, const py::object& t_row_ptr, const py::object& t_col_idx,
                          const py::object& t_values, const py::object& row_ptr, const py::object& col_idx,
                          const py::object& x_values, double regularization, int n_threads) {
    const ItemProblem problem(ids, values, counts, items, t_row_ptr, t_col_idx, t_values, row_ptr, col_idx, x_values);
    return without_gil(
        [&] { return ridge_solve<Device>(problem.out(), problem.t(), problem.x(), regularization, n_threads); });
  });
  m.def("spd_invert", [](const py::object& a, int n_threads) {
    const Array<float> a_array(a, "a");
    const auto rows = a_array.rows("dimensions of a");
    check_size("columns of a", rows.d, rows.n);
    return without_gil([&] { return spd_invert<Device>(rows.data, rows.n, n_threads); });
  });
}

}  // namespace recsys_fast::bindings
