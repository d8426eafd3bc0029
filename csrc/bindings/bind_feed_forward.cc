#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/feed_forward.h"
#include "ops/layer_norm.h"

namespace recsys_fast::bindings {
namespace {

// The parameters of a call, or their gradients, in the order of the gradients.
template <class T>
FeedForwardParameters<T> read_parameters(const FeedForwardShape& s, const Array<T>& gamma, const Array<T>& beta,
                                         const Array<T>& w1, const Array<T>& b1, const Array<T>& w2,
                                         const Array<T>& b2) {
  check_size("size of w1", w1.size(), s.d * s.h);
  check_size("size of w2", w2.size(), s.d * s.h);
  return {optional("length of gamma", gamma, s.d),
          optional("length of beta", beta, s.d),
          w1.data(),
          optional("length of b1", b1, s.h),
          w2.data(),
          optional("length of b2", b2, s.d)};
}

template <class T>
FeedForwardSaved<T> read_saved(const FeedForwardShape& s, const Array<T>& hidden, const Array<T>& stats,
                               const Array<T>& mid) {
  check_size("size of hidden", hidden.size(), s.n_rows * s.h);
  if (s.norm != BlockNorm::kNone) check_size("size of stats", stats.size(), s.n_rows * 2);
  if (s.norm == BlockNorm::kPost) check_size("size of mid", mid.size(), s.n_rows * s.d);
  return {hidden.data(), stats.data(), mid.data()};
}

FeedForwardShape read_feed_forward_shape(Arguments& args, const Rows<const float>& x, const Array<const float>& w1) {
  FeedForwardShape s{};
  s.n_rows = x.n;
  s.d = x.d;
  s.h = w1.rows("dimensions of w1").d;
  s.activation = static_cast<Activation>(args.next_as<int>());
  s.norm = static_cast<BlockNorm>(args.next_as<int>());
  return s;
}

void run_feed_forward_forward(const py::args& positional) {
  Arguments args(positional, 20);
  const Array<float> y(args.next(), "y"), hidden(args.next(), "hidden"), stats(args.next(), "stats");
  const Array<float> mid(args.next(), "mid");
  const Array<const float> x(args.next(), "x"), gamma(args.next(), "gamma"), beta(args.next(), "beta");
  const Array<const float> w1(args.next(), "w1"), b1(args.next(), "b1"), w2(args.next(), "w2"), b2(args.next(), "b2");
  FeedForwardShape s = read_feed_forward_shape(args, x.rows("dimensions of x"), w1);
  s.eps = args.next_as<float>();
  s.masks = read_masks(args);
  const int n_threads = args.next_as<int>();
  check_size("size of y", y.size(), x.size());
  const auto p = read_parameters(s, gamma, beta, w1, b1, w2, b2);
  const auto saved = read_saved(s, hidden, stats, mid);
  without_gil([&] { feed_forward_block_forward<Device>(s, p, x.data(), y.data(), saved, n_threads); });
}

void run_feed_forward_backward(const py::args& positional) {
  Arguments args(positional, 24);
  const Array<float> dx(args.next(), "dx"), dgamma(args.next(), "dgamma"), dbeta(args.next(), "dbeta");
  const Array<float> dw1(args.next(), "dw1"), db1(args.next(), "db1"), dw2(args.next(), "dw2"), db2(args.next(), "db2");
  const Array<const float> dy(args.next(), "dy"), hidden(args.next(), "hidden"), stats(args.next(), "stats");
  const Array<const float> mid(args.next(), "mid"), x(args.next(), "x"), gamma(args.next(), "gamma");
  const Array<const float> beta(args.next(), "beta"), w1(args.next(), "w1"), w2(args.next(), "w2");
  FeedForwardShape s = read_feed_forward_shape(args, x.rows("dimensions of x"), w1);
  s.masks = read_masks(args);
  const int n_threads = args.next_as<int>();
  check_size("size of dx", dx.size(), x.size());
  check_size("size of dy", dy.size(), x.size());
  check_size("size of w1", w1.size(), s.d * s.h);
  check_size("size of w2", w2.size(), w1.size());
  const FeedForwardParameters<const float> p{optional("length of gamma", gamma, s.d),
                                             optional("length of beta", beta, s.d),
                                             w1.data(),
                                             nullptr,
                                             w2.data(),
                                             nullptr};
  const auto gradients = read_parameters(s, dgamma, dbeta, dw1, db1, dw2, db2);
  const auto saved = read_saved(s, hidden, stats, mid);
  without_gil(
      [&] { feed_forward_block_backward<Device>(s, p, x.data(), saved, dy.data(), dx.data(), gradients, n_threads); });
}

void norm_forward(const py::object& y, const py::object& stats, const py::object& x, const py::object& gamma,
                  const py::object& beta, float eps, int n_threads) {
  const Array<float> y_array(y, "y"), stats_array(stats, "stats");
  const Array<const float> x_array(x, "x"), gamma_array(gamma, "gamma"), beta_array(beta, "beta");
  const auto rows = x_array.rows("dimensions of x");
  check_size("size of y", y_array.size(), x_array.size());
  check_size("size of stats", stats_array.size(), 2 * rows.n);
  check_size("length of gamma", gamma_array.size(), rows.d);
  check_size("length of beta", beta_array.size(), rows.d);
  without_gil([&] {
    layer_norm_forward<Device>(rows, gamma_array.data(), beta_array.data(), eps, y_array.data(), stats_array.data(),
                               n_threads);
  });
}

void norm_backward(const py::object& dx, const py::object& dgamma, const py::object& dbeta, const py::object& dy,
                   const py::object& x, const py::object& stats, const py::object& gamma, int n_threads) {
  const Array<float> dx_array(dx, "dx"), dgamma_array(dgamma, "dgamma"), dbeta_array(dbeta, "dbeta");
  const Array<const float> dy_array(dy, "dy"), x_array(x, "x"), stats_array(stats, "stats");
  const Array<const float> gamma_array(gamma, "gamma");
  const auto rows = x_array.rows("dimensions of x");
  check_size("size of dx", dx_array.size(), x_array.size());
  check_size("size of dy", dy_array.size(), x_array.size());
  check_size("size of stats", stats_array.size(), 2 * rows.n);
  check_size("length of gamma", gamma_array.size(), rows.d);
  check_size("length of dgamma", dgamma_array.size(), rows.d);
  check_size("length of dbeta", dbeta_array.size(), rows.d);
  without_gil([&] {
    layer_norm_backward<Device>(rows, stats_array.data(), gamma_array.data(), dy_array.data(), dx_array.data(),
                                dgamma_array.data(), dbeta_array.data(), n_threads);
  });
}

}  // namespace

void bind_feed_forward(py::module_& m) {
  m.def("feed_forward_block_forward", &run_feed_forward_forward);
  m.def("feed_forward_block_backward", &run_feed_forward_backward);
  m.def("layer_norm_forward", &norm_forward);
  m.def("layer_norm_backward", &norm_backward);
}

}  // namespace recsys_fast::bindings
