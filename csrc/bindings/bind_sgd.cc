#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/sgd.h"

namespace recsys_fast::bindings {
namespace {

// The positional arguments of one call, read from left to right: the epochs share 20 at the front and 8 at the end.
class Arguments {
 public:
  Arguments(const py::args& args, int64_t n) : args_(args) {
    check_size("number of arguments", static_cast<int64_t>(args.size()), n);
  }
  py::object next() { return args_[at_++]; }
  template <class T>
  T next_as() {
    return next().cast<T>();
  }

 private:
  const py::args& args_;
  size_t at_ = 0;
};

constexpr int64_t kShared = 28;

// The arrays behind one problem, held for the duration of a call.
class Problem {
 public:
  explicit Problem(Arguments& args)
      : users_(args.next(), "users"),
        items_(args.next(), "items"),
        user_bias_(args.next(), "user_bias"),
        item_bias_(args.next(), "item_bias"),
        user_state_(args.next(), "user_state"),
        item_state_(args.next(), "item_state"),
        user_bias_state_(args.next(), "user_bias_state"),
        item_bias_state_(args.next(), "item_bias_state"),
        user_steps_(args.next(), "user_steps"),
        item_steps_(args.next(), "item_steps"),
        row_ptr_(args.next(), "row_ptr"),
        col_idx_(args.next(), "col_idx"),
        values_(args.next(), "values"),
        rates_(args.next(), "rates"),
        uf_row_ptr_(args.next(), "uf_row_ptr"),
        uf_col_idx_(args.next(), "uf_col_idx"),
        uf_values_(args.next(), "uf_values"),
        if_row_ptr_(args.next(), "if_row_ptr"),
        if_col_idx_(args.next(), "if_col_idx"),
        if_values_(args.next(), "if_values") {}

  // Reads the common tail of the arguments, all but n_threads.
  SgdProblem read(Arguments& args) const {
    SgdProblem p{};
    p.optimizer = static_cast<SgdOptimizer>(args.next_as<int>());
    p.learning_rate = args.next_as<float>();
    p.regularization = args.next_as<float>();
    p.frozen = static_cast<SgdFrozen>(args.next_as<int>());
    p.seed = args.next_as<uint64_t>();
    p.epoch = args.next_as<uint32_t>();
    p.deterministic = args.next_as<bool>();
    const bool items_move = p.frozen != SgdFrozen::kItems, users_move = p.frozen != SgdFrozen::kAllButPositives;
    p.users = table(p.optimizer, users_move, users_, user_bias_, user_state_, user_bias_state_, user_steps_,
                    features(uf_row_ptr_, uf_col_idx_, uf_values_, users_.dim(0)));
    p.items = table(p.optimizer, items_move, items_, item_bias_, item_state_, item_bias_state_, item_steps_,
                    features(if_row_ptr_, if_col_idx_, if_values_, items_.dim(0)));
    check_size("columns of items", p.items.rows.d, p.users.rows.d);
    check_size("length of row_ptr", row_ptr_.size(), p.users.n + 1);
    if (values_.size() != 0) check_size("number of values", values_.size(), col_idx_.size());
    if (rates_.size() != 0) check_size("number of rates", rates_.size(), col_idx_.size());
    p.data = {row_ptr_.data(), col_idx_.data(), values_.data_or_null(), p.users.n, p.items.n};
    p.rates = rates_.data_or_null();
    return p;
  }

 private:
  static Csr features(const Array<const int64_t>& row_ptr, const Array<const int32_t>& col_idx,
                      const Array<const float>& values, int64_t n_rows) {
    if (row_ptr.size() == 0) return {};
    if (values.size() != 0) check_size("number of feature values", values.size(), col_idx.size());
    return {row_ptr.data(), col_idx.data(), values.data_or_null(), row_ptr.size() - 1, n_rows};
  }

  static SgdTable table(SgdOptimizer optimizer, bool moves, const Array<float>& rows, const Array<float>& bias,
                        const Array<float>& state, const Array<float>& bias_state, const Array<int32_t>& steps,
                        Csr features) {
    SgdTable t{rows.rows("dimensions of a table"), bias.data_or_null(), nullptr, nullptr, nullptr, features, 0};
    t.n = features.row_ptr != nullptr ? features.n_rows : t.rows.n;
    if (t.bias != nullptr) check_size("length of a bias", bias.size(), t.rows.n);
    const auto s = static_cast<int64_t>(optimizer);
    if (!moves || s == 0) return t;
    check_size("size of a state", state.size(), t.rows.n * t.rows.d * s);
    if (t.bias != nullptr) check_size("size of a bias state", bias_state.size(), t.rows.n * s);
    if (optimizer == SgdOptimizer::kAdam) check_size("length of steps", steps.size(), t.rows.n);
    t.state = state.data();
    t.bias_state = bias_state.data();
    t.steps = steps.data();
    return t;
  }

  Array<float> users_, items_, user_bias_, item_bias_, user_state_, item_state_, user_bias_state_, item_bias_state_;
  Array<int32_t> user_steps_, item_steps_;
  Array<const int64_t> row_ptr_;
  Array<const int32_t> col_idx_;
  Array<const float> values_, rates_;
  Array<const int64_t> uf_row_ptr_;
  Array<const int32_t> uf_col_idx_;
  Array<const float> uf_values_;
  Array<const int64_t> if_row_ptr_;
  Array<const int32_t> if_col_idx_;
  Array<const float> if_values_;
};

// Running sums of the items' weights, or nothing.
class Cdf {
 public:
  explicit Cdf(Arguments& args) : cdf_(args.next(), "cdf") {}
  const double* read(int64_t n_items) const {
    if (cdf_.size() != 0) check_size("length of cdf", cdf_.size(), n_items);
    return cdf_.data_or_null();
  }

 private:
  Array<const double> cdf_;
};

template <class Epoch>
py::tuple run(const Epoch& epoch) {
  const SgdTotals totals = without_gil(epoch);
  return py::make_tuple(totals.loss, totals.n_trained, totals.n_skipped);
}

py::tuple bpr(const py::args& positional) {
  Arguments args(positional, kShared + 2);
  const Problem arrays(args);
  const Cdf cdf(args);
  const int n_candidates = args.next_as<int>();
  const SgdProblem problem = arrays.read(args);
  const double* weights = cdf.read(problem.items.n);
  const int n_threads = args.next_as<int>();
  return run([&] { return bpr_epoch<Device>(problem, weights, n_candidates, n_threads); });
}

py::tuple warp(const py::args& positional) {
  Arguments args(positional, kShared + 4);
  const Problem arrays(args);
  const Cdf cdf(args);
  const int max_trials = args.next_as<int>(), k_os = args.next_as<int>(), n_os = args.next_as<int>();
  const SgdProblem problem = arrays.read(args);
  const double* weights = cdf.read(problem.items.n);
  const int n_threads = args.next_as<int>();
  return run([&] { return warp_epoch<Device>(problem, weights, max_trials, k_os, n_os, n_threads); });
}

py::tuple logistic(const py::args& positional) {
  Arguments args(positional, kShared + 2);
  const Problem arrays(args);
  const Cdf cdf(args);
  const int n_negatives = args.next_as<int>();
  const SgdProblem problem = arrays.read(args);
  const double* weights = cdf.read(problem.items.n);
  const int n_threads = args.next_as<int>();
  return run([&] { return logistic_epoch<Device>(problem, weights, n_negatives, n_threads); });
}

py::tuple rating(const py::args& positional) {
  Arguments args(positional, kShared + 2);
  const Problem arrays(args);
  const auto mean = args.next_as<float>();
  const auto loss = static_cast<SgdRatingLoss>(args.next_as<int>());
  const SgdProblem problem = arrays.read(args);
  const int n_threads = args.next_as<int>();
  return run([&] { return rating_epoch<Device>(problem, mean, loss, n_threads); });
}

}  // namespace

void bind_sgd(py::module_& m) {
  m.def("bpr_epoch", &bpr);
  m.def("warp_epoch", &warp);
  m.def("logistic_epoch", &logistic);
  m.def("rating_epoch", &rating);
}

}  // namespace recsys_fast::bindings
