#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "bindings/layers.h"
#include "ops/losses.h"

namespace recsys_fast::bindings {
namespace {

// The arrays of a ScoreProblem. drows may be absent (row_loss); biases and weights have length 0 where there are none.
class Scores {
 public:
  Scores(const py::object& dh, const py::object& drows, const py::object& dbias, const py::object& h,
         const py::object& rows, const py::object& bias, const py::object& targets, const py::object& weights)
      : dh_(dh, "dh"),
        drows_(drows, "drows"),
        dbias_(dbias, "dbias"),
        h_(h, "h"),
        rows_(rows, "rows"),
        bias_(bias, "bias"),
        targets_(targets, "targets"),
        weights_(weights, "weights") {}

  // With `entries` targets and weights are those of rows of several, else one of each row.
  ScoreProblem problem(bool has_drows, double scale, int compute, bool entries = false) const {
    const auto h = h_.rows("dimensions of h"), rows = rows_.rows("dimensions of the items' rows");
    check_size("columns of the items' rows", rows.d, h.d);
    check_size("size of dh", dh_.size(), h.n * h.d);
    if (!entries) check_size("length of targets", targets_.size(), h.n);
    if (bias_.size() != 0) check_size("length of bias", bias_.size(), rows.n);
    if (weights_.size() != 0) check_size("length of weights", weights_.size(), targets_.size());
    if (has_drows) {
      check_size("size of the rows' gradient", drows_.size(), rows.n * rows.d);
      check_size("length of the biases' gradient", dbias_.size(), bias_.size());
    }
    if (compute != 0 && !losses_have_bf16()) throw std::runtime_error("bfloat16: not on this processor");
    return {
        dh_.data(),      drows_.data(),           dbias_.data_or_null(),     h,           rows, bias_.data_or_null(),
        targets_.data(), weights_.data_or_null(), static_cast<float>(scale), compute != 0};
  }
  int64_t n_targets() const { return targets_.size(); }

 private:
  Array<float> dh_, drows_, dbias_;
  Array<const float> h_, rows_, bias_;
  Array<const int32_t> targets_;
  Array<const float> weights_;
};

ScoreLossOptions options(int kind, double beta, double regularization) {
  return {static_cast<ScoreLoss>(kind), static_cast<float>(beta), static_cast<float>(regularization)};
}

}  // namespace

void bind_losses(py::module_& m) {
  m.def("has_bfloat16", [] { return losses_have_bf16(); });
  m.def("softmax_loss", [](const py::object& dh, const py::object& dtable, const py::object& dbias, const py::object& h,
                           const py::object& table, const py::object& bias, const py::object& targets,
                           const py::object& weights, double scale, int compute, int n_threads) {
    const Scores arrays(dh, dtable, dbias, h, table, bias, targets, weights);
    const ScoreProblem problem = arrays.problem(true, scale, compute);
    return without_gil([&] { return softmax_loss<Device>(problem, n_threads); });
  });
  m.def("multinomial_loss",
        [](const py::object& dh, const py::object& dtable, const py::object& dbias, const py::object& h,
           const py::object& table, const py::object& bias, const py::object& row_ptr, const py::object& col_idx,
           const py::object& weights, double scale, int compute, int n_threads) {
          const Scores arrays(dh, dtable, dbias, h, table, bias, col_idx, weights);
          const Array<const int64_t> ptr(row_ptr, "row_ptr");
          ScoreProblem problem = arrays.problem(true, scale, compute, true);
          check_size("length of row_ptr", ptr.size(), problem.h.n + 1);
          check_row_ptr(ptr, arrays.n_targets());
          problem.target_ptr = ptr.data();
          return without_gil([&] { return multinomial_loss<Device>(problem, n_threads); });
        });
  m.def("shared_loss",
        [](const py::object& dh, const py::object& dcand, const py::object& dcand_bias, const py::object& h,
           const py::object& cand, const py::object& cand_bias, const py::object& positive, const py::object& ids,
           const py::object& log_q, int kind, double beta, int mask_equal, double regularization,
           const py::object& weights, double scale, int compute, int n_threads) {
          const Scores arrays(dh, dcand, dcand_bias, h, cand, cand_bias, positive, weights);
          const ScoreProblem problem = arrays.problem(true, scale, compute);
          const Array<const int32_t> ids_array(ids, "ids");
          const Array<const float> log_q_array(log_q, "log_q");
          if (mask_equal != 0) check_size("length of ids", ids_array.size(), problem.rows.n);
          if (log_q_array.size() != 0) check_size("length of log_q", log_q_array.size(), problem.rows.n);
          const ScoreLossOptions chosen = options(kind, beta, regularization);
          return without_gil([&] {
            return shared_loss<Device>(problem, mask_equal != 0 ? ids_array.data() : nullptr,
                                       log_q_array.data_or_null(), chosen, n_threads);
          });
        });
  m.def("row_loss",
        [](const py::object& dh, const py::object& coef, const py::object& h, const py::object& table,
           const py::object& bias, const py::object& targets, const py::object& negatives, const py::object& log_q,
           int kind, double beta, double regularization, const py::object& weights, double scale, int n_threads) {
          const Scores arrays(dh, coef, coef, h, table, bias, targets, weights);
          const ScoreProblem problem = arrays.problem(false, scale, 0);
          const Array<float> coef_array(coef, "coef");
          const Array<const int32_t> negatives_array(negatives, "negatives");
          const Array<const float> log_q_array(log_q, "log_q");
          check_size("dimensions of negatives", negatives_array.ndim(), 2);
          const int64_t k = negatives_array.dim(1);
          check_size("size of negatives", negatives_array.size(), problem.h.n * k);
          check_size("size of coef", coef_array.size(), problem.h.n * (1 + k));
          const ScoreLossOptions chosen = options(kind, beta, regularization);
          return without_gil([&] {
            return row_loss<Device>(problem, coef_array.data(), negatives_array.data(), k, log_q_array.data_or_null(),
                                    chosen, n_threads);
          });
        });
  m.def("regression_loss", [](const py::object& dprediction, const py::object& prediction, const py::object& target,
                              const py::object& weights, int kind, double scale, int n_threads) {
    const Array<float> out(dprediction, "dprediction");
    const Array<const float> x(prediction, "prediction"), y(target, "target"), w(weights, "weights");
    check_size("length of dprediction", out.size(), x.size());
    check_size("length of target", y.size(), x.size());
    if (w.size() != 0) check_size("length of weights", w.size(), x.size());
    if (kind < 0 || kind > 2) throw ShapeError("kind", kind, 2);
    return without_gil([&] {
      return regression_loss<Device>(out.data(), x.data(), y.data(), w.data_or_null(), x.size(),
                                     static_cast<PredictionLoss>(kind), static_cast<float>(scale), n_threads);
    });
  });
}

}  // namespace recsys_fast::bindings
