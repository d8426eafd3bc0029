#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/table.h"

namespace recsys_fast::bindings {
namespace {

// The arrays behind gradients of single rows, held for the duration of a call.
class TableGradients {
 public:
  TableGradients(const py::object& dx, const py::object& dcand, const py::object& dcand_bias, const py::object& coef,
                 const py::object& h, int64_t width)
      : dx_(dx, "dx"),
        dcand_(dcand, "dcand"),
        bias_(dcand_bias, "dcand_bias"),
        coef_(coef, "coef"),
        h_(h, "h"),
        width_(width) {}

  RowGradients view(int64_t d) const {
    const auto dx = dx_.rows("dimensions of dx"), dcand = dcand_.rows("dimensions of dcand");
    const auto h = h_.rows("dimensions of h");
    for (const auto& rows : {dx, dcand, h}) {
      if (rows.n != 0) check_size("columns of gradients of rows", rows.d, d);
    }
    if (bias_.size() != 0) check_size("length of dcand_bias", bias_.size(), dcand.n);
    if (width_ < 1) throw ShapeError("width", width_, 1);
    if (coef_.size() != 0) check_size("number of coef", coef_.size(), h.n * width_);
    return {dx, dcand, bias_.data_or_null(), coef_.data(), coef_.size(), h.data, width_};
  }

 private:
  Array<const float> dx_, dcand_, bias_, coef_, h_;
  int64_t width_;
};

int64_t plan(const py::object& rows, const py::object& entry_ptr, const py::object& entries, const py::object& ids,
             int64_t n_table, int n_threads) {
  const Array<int32_t> rows_array(rows, "rows"), entries_array(entries, "entries");
  const Array<int64_t> ptr_array(entry_ptr, "entry_ptr");
  const Array<const int32_t> id_array(ids, "ids");
  const int64_t n = id_array.size();
  check_size("length of rows", rows_array.size(), n);
  check_size("length of entries", entries_array.size(), n);
  check_size("length of entry_ptr", ptr_array.size(), n + 1);
  return without_gil([&] {
    return id_plan<Device>(rows_array.data(), ptr_array.data(), entries_array.data(), id_array.data(), n, n_table,
                           n_threads);
  });
}

void gradient(const py::object& drows, const py::object& dbias, const py::object& entry_ptr, const py::object& entries,
              const py::object& dx, const py::object& dcand, const py::object& dcand_bias, const py::object& coef,
              const py::object& h, int64_t width, int n_threads) {
  const Array<float> rows_array(drows, "drows"), bias_array(dbias, "dbias");
  const Array<const int64_t> ptr_array(entry_ptr, "entry_ptr");
  const Array<const int32_t> entries_array(entries, "entries");
  const TableGradients gradients(dx, dcand, dcand_bias, coef, h, width);
  const auto rows = rows_array.rows("dimensions of drows");
  check_size("length of entry_ptr", ptr_array.size(), rows.n + 1);
  if (bias_array.size() != 0) check_size("length of dbias", bias_array.size(), rows.n);
  const RowGradients from = gradients.view(rows.d);
  without_gil([&] {
    table_gradient<Device>(rows, bias_array.data_or_null(), ptr_array.data(), entries_array.data(), from, n_threads);
  });
}

void add(const py::object& dtable, const py::object& dbias, const py::object& ids, const py::object& dx,
         const py::object& dcand, const py::object& dcand_bias, const py::object& coef, const py::object& h,
         int64_t width, int n_threads) {
  const Array<float> table_array(dtable, "dtable"), bias_array(dbias, "dbias");
  const Array<const int32_t> id_array(ids, "ids");
  const TableGradients gradients(dx, dcand, dcand_bias, coef, h, width);
  const auto table = table_array.rows("dimensions of dtable");
  if (bias_array.size() != 0) check_size("length of dbias", bias_array.size(), table.n);
  const RowGradients from = gradients.view(table.d);
  check_size("number of ids", id_array.size(), from.size());
  without_gil([&] { table_add<Device>(table, bias_array.data_or_null(), id_array.data(), from, n_threads); });
}

}  // namespace

void bind_table(py::module_& m) {
  m.def("id_plan", &plan);
  m.def("table_gradient", &gradient);
  m.def("table_add", &add);
}

}  // namespace recsys_fast::bindings
