#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/optimizer.h"

namespace recsys_fast::bindings {
namespace {

// Which moments a form reads, and that they are there.
void check_moments(const OptimizerForm& form, const Array<float>& m, const Array<float>& v, int64_t size) {
  const bool adam = form.kind == OptimizerKind::kAdam;
  if (adam || m.size() != 0) check_size("size of m", m.size(), size);
  if (form.kind != OptimizerKind::kSgd) check_size("size of v", v.size(), size);
}

void step_all(const py::object& param, const py::object& grad, const py::object& m, const py::object& v, int kind,
              double lr, double beta1, double beta2, double eps, double weight_decay, bool decoupled, double grad_scale,
              int64_t at, int n_threads) {
  const Array<float> param_array(param, "param"), m_array(m, "m"), v_array(v, "v");
  const Array<const float> grad_array(grad, "grad");
  const int64_t n = param_array.size();
  const OptimizerForm form{
      static_cast<OptimizerKind>(kind), lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale, at};
  check_size("length of grad", grad_array.size(), n);
  check_moments(form, m_array, v_array, n);
  without_gil([&] {
    optimizer_step<Device>(param_array.data(), grad_array.data(), m_array.data_or_null(), v_array.data_or_null(), n,
                           form, n_threads);
  });
}

void step_rows(const py::object& table, const py::object& m, const py::object& v, const py::object& rows,
               const py::object& drows, bool lazy, int kind, double lr, double beta1, double beta2, double eps,
               double weight_decay, bool decoupled, double grad_scale, int64_t at, int n_threads) {
  const Array<float> table_array(table, "table"), m_array(m, "m"), v_array(v, "v");
  const Array<const int32_t> row_array(rows, "rows");
  const Array<const float> gradient_array(drows, "drows");
  const auto values = table_array.rows("dimensions of table");
  const auto gradient = gradient_array.rows("dimensions of drows");
  const OptimizerForm form{
      static_cast<OptimizerKind>(kind), lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale, at};
  check_size("rows of drows", gradient.n, row_array.size());
  check_size("columns of drows", gradient.d, values.d);
  check_moments(form, m_array, v_array, table_array.size());
  without_gil([&] {
    optimizer_step_rows<Device>(values, m_array.data_or_null(), v_array.data_or_null(), row_array.data(), gradient,
                                lazy, form, n_threads);
  });
}

}  // namespace

void bind_optimizer(py::module_& m) {
  m.def("optimizer_step", &step_all);
  m.def("optimizer_step_rows", &step_rows);
  m.def("square_sum", [](const py::object& x, int n_threads) {
    const Array<const float> array(x, "x");
    return without_gil([&] { return square_sum<Device>(array.data(), array.size(), n_threads); });
  });
}

}  // namespace recsys_fast::bindings
