#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/fm.h"

namespace recsys_fast::bindings {
namespace {

// Arguments that plain and field-aware epochs share, held for the duration of a call.
struct EpochArrays {
  Array<float> table, state;
  Array<int32_t> steps;
  Array<double> bias;
  CsrArrays rows;
  Array<const float> targets, weights;
  Array<const int32_t> positives, groups;
  Array<const int64_t> negative_ptr;
  Array<const int32_t> negatives;

  // What does not fit is refused here; which rows positives and negatives name is the caller's promise.
  FmModel model(const int32_t* fields, int64_t n_fields) const {
    const auto parameters = table.rows("dimensions of table");
    const Rows<float> memory{state.data(), state.dim(0), state.dim(1)};
    check_size("rows of table", parameters.n, rows.view().n_cols);
    check_size("rows of state", memory.n, parameters.n);
    check_size("table's columns modulo n_fields", (parameters.d - 1) % n_fields, 0);
    if (steps.size() != 0) check_size("length of steps", steps.size(), parameters.n);
    check_size("length of bias", bias.size(), 4);
    return {parameters, memory, steps.data_or_null(), bias.data(), fields, n_fields};
  }

  FmData data() const {
    if (positives.size() == 0) check_size("length of targets", targets.size(), rows.view().n_rows);
    if (weights.size() != 0) check_size("length of weights", weights.size(), rows.view().n_rows);
    check_size("length of groups", groups.size(), positives.size());
    return {rows.view(),   targets.data_or_null(), weights.data_or_null(), positives.data_or_null(),
            groups.data(), positives.size(),       negative_ptr.data(),    negatives.data()};
  }
};

FmTraining training(int loss, int optimizer, float learning_rate, float weight_regularization,
                    float factor_regularization, int64_t batch_size, uint64_t seed, uint32_t epoch) {
  return {static_cast<FmLoss>(loss),
          static_cast<FmOptimizer>(optimizer),
          learning_rate,
          weight_regularization,
          factor_regularization,
          batch_size,
          seed,
          epoch};
}

void check_states(const FmModel& model, const FmTraining& how) {
  check_size("columns of state", model.state.d, static_cast<int64_t>(how.optimizer) * model.table.d);
  if (how.optimizer == FmOptimizer::kAdam) check_size("steps given", model.steps != nullptr, 1);
}

double plain_epoch(const py::object& table, const py::object& state, const py::object& steps, const py::object& bias,
                   const py::object& row_ptr, const py::object& col_idx, const py::object& values,
                   const py::object& targets, const py::object& weights, const py::object& positives,
                   const py::object& groups, const py::object& negative_ptr, const py::object& negatives, int loss,
                   int optimizer, float learning_rate, float weight_regularization, float factor_regularization,
                   int64_t batch_size, uint64_t seed, uint32_t epoch, int n_threads) {
  const Array<float> parameters(table, "table");
  const EpochArrays arrays{{table, "table"},
                           {state, "state"},
                           {steps, "steps"},
                           {bias, "bias"},
                           {row_ptr, col_idx, values, parameters.rows("dimensions of table").n},
                           {targets, "targets"},
                           {weights, "weights"},
                           {positives, "positives"},
                           {groups, "groups"},
                           {negative_ptr, "negative_ptr"},
                           {negatives, "negatives"}};
  const FmModel model = arrays.model(nullptr, 1);
  const FmTraining how =
      training(loss, optimizer, learning_rate, weight_regularization, factor_regularization, batch_size, seed, epoch);
  check_states(model, how);
  const FmData data = arrays.data();
  return without_gil([&] { return fm_epoch<Device>(model, data, how, n_threads); });
}

double field_epoch(const py::object& table, const py::object& state, const py::object& steps, const py::object& bias,
                   const py::object& row_ptr, const py::object& col_idx, const py::object& values,
                   const py::object& fields, int64_t n_fields, const py::object& targets, const py::object& weights,
                   const py::object& positives, const py::object& groups, const py::object& negative_ptr,
                   const py::object& negatives, int loss, int optimizer, float learning_rate,
                   float weight_regularization, float factor_regularization, int64_t batch_size, uint64_t seed,
                   uint32_t epoch, int n_threads) {
  const Array<float> parameters(table, "table");
  const Array<const int32_t> field_array(fields, "fields");
  const EpochArrays arrays{{table, "table"},
                           {state, "state"},
                           {steps, "steps"},
                           {bias, "bias"},
                           {row_ptr, col_idx, values, parameters.rows("dimensions of table").n},
                           {targets, "targets"},
                           {weights, "weights"},
                           {positives, "positives"},
                           {groups, "groups"},
                           {negative_ptr, "negative_ptr"},
                           {negatives, "negatives"}};
  check_size("length of fields", field_array.size(), parameters.dim(0));
  const FmModel model = arrays.model(field_array.data(), n_fields);
  const FmTraining how =
      training(loss, optimizer, learning_rate, weight_regularization, factor_regularization, batch_size, seed, epoch);
  check_states(model, how);
  const FmData data = arrays.data();
  return without_gil([&] { return ffm_epoch<Device>(model, data, how, n_threads); });
}

void plain_predict(const py::object& out, const py::object& table, double bias, const py::object& row_ptr,
                   const py::object& col_idx, const py::object& values, int n_threads) {
  const Array<float> scores(out, "out");
  const Array<const float> parameters(table, "table");
  const auto rows = parameters.rows("dimensions of table");
  const CsrArrays csr(row_ptr, col_idx, values, rows.n);
  check_size("length of out", scores.size(), csr.view().n_rows);
  without_gil([&] { fm_predict<Device>(scores.data(), rows, bias, csr.view(), n_threads); });
}

void field_predict(const py::object& out, const py::object& table, double bias, const py::object& row_ptr,
                   const py::object& col_idx, const py::object& values, const py::object& fields, int64_t n_fields,
                   int n_threads) {
  const Array<float> scores(out, "out");
  const Array<const float> parameters(table, "table");
  const Array<const int32_t> field_array(fields, "fields");
  const auto rows = parameters.rows("dimensions of table");
  const CsrArrays csr(row_ptr, col_idx, values, rows.n);
  check_size("length of out", scores.size(), csr.view().n_rows);
  check_size("length of fields", field_array.size(), rows.n);
  check_size("table's columns modulo n_fields", (rows.d - 1) % n_fields, 0);
  without_gil(
      [&] { ffm_predict<Device>(scores.data(), rows, bias, field_array.data(), n_fields, csr.view(), n_threads); });
}

double fm_sweep(const py::object& table, const py::object& bias, const py::object& residual, const py::object& sums,
                const py::object& row_ptr, const py::object& col_idx, const py::object& values,
                const py::object& col_ptr, const py::object& row_idx, const py::object& col_values,
                const py::object& targets, const py::object& weights, float weight_regularization,
                float factor_regularization, int n_threads) {
  const Array<float> table_array(table, "table"), residual_array(residual, "residual"), sums_array(sums, "sums");
  const Array<double> bias_array(bias, "bias");
  const Array<const float> target_array(targets, "targets"), weight_array(weights, "weights");
  const auto parameters = table_array.rows("dimensions of table");
  const auto partial = sums_array.rows("dimensions of sums");
  const CsrArrays rows(row_ptr, col_idx, values, parameters.n);
  const int64_t n_rows = rows.view().n_rows;
  const CsrArrays columns(col_ptr, row_idx, col_values, n_rows);
  check_size("columns of the transpose", columns.view().n_rows, parameters.n);
  check_size("entries of the transpose", columns.nnz(), rows.nnz());
  check_size("length of bias", bias_array.size(), 4);
  check_size("length of residual", residual_array.size(), n_rows);
  check_size("rows of sums", partial.n, n_rows);
  check_size("columns of sums", partial.d, parameters.d - 1);
  check_size("length of targets", target_array.size(), n_rows);
  if (weight_array.size() != 0) check_size("length of weights", weight_array.size(), n_rows);
  return without_gil([&] {
    return fm_als_sweep<Device>(parameters, bias_array.data(), residual_array.data(), partial, rows.view(),
                                columns.view(), target_array.data(), weight_array.data_or_null(), weight_regularization,
                                factor_regularization, n_threads);
  });
}

}  // namespace

void bind_fm(py::module_& m) {
  m.def("fm_epoch", &plain_epoch);
  m.def("ffm_epoch", &field_epoch);
  m.def("fm_predict", &plain_predict);
  m.def("ffm_predict", &field_predict);
  m.def("fm_als_sweep", &fm_sweep);
}

}  // namespace recsys_fast::bindings
