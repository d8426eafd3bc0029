#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/attention.h"

namespace recsys_fast::bindings {
namespace {

// The parameters of a call, or their gradients.
template <class T>
struct Parameters {
  Array<T> gamma, beta, w_qkv, b_qkv, w_out, b_out;

  AttentionParameters<T> read(int64_t d) const {
    check_size("size of w_qkv", w_qkv.size(), 3 * d * d);
    return {optional("length of gamma", gamma, d),
            optional("length of beta", beta, d),
            w_qkv.data(),
            optional("length of b_qkv", b_qkv, 3 * d),
            optional("size of w_out", w_out, d * d),
            optional("length of b_out", b_out, d)};
  }
};

template <class T>
struct Saved {
  Array<T> qkv, context, lse, stats, mid;

  AttentionSaved<T> read(const AttentionShape& s) const {
    check_size("size of qkv", qkv.size(), s.n_rows * 3 * s.d);
    check_size("size of context", context.size(), s.n_rows * s.d);
    check_size("size of lse", lse.size(), s.n_rows * s.n_heads);
    if (s.norm != BlockNorm::kNone) check_size("size of stats", stats.size(), s.n_rows * 2);
    if (s.norm == BlockNorm::kPost) check_size("size of mid", mid.size(), s.n_rows * s.d);
    return {qkv.data(), context.data(), lse.data(), stats.data(), mid.data()};
  }
};

AttentionShape read_attention_shape(Arguments& args, const Array<const int64_t>& row_ptr, const Rows<const float>& x) {
  check_row_ptr(row_ptr, x.n);
  AttentionShape s{};
  s.row_ptr = row_ptr.data();
  s.n_sequences = row_ptr.size() - 1;
  s.n_rows = x.n;
  s.d = x.d;
  s.n_heads = args.next_as<int64_t>();
  if (s.n_heads < 1 || s.d % s.n_heads != 0) throw ShapeError("n_heads", s.n_heads, s.d);
  s.causal = args.next_as<bool>();
  s.norm = static_cast<BlockNorm>(args.next_as<int>());
  return s;
}

void run_attention_forward(const py::args& positional) {
  Arguments args(positional, 24);
  const Array<float> y(args.next(), "y");
  const Saved<float> saved{{args.next(), "qkv"},
                           {args.next(), "context"},
                           {args.next(), "lse"},
                           {args.next(), "stats"},
                           {args.next(), "mid"}};
  const Array<const float> x(args.next(), "x");
  const Array<const int64_t> row_ptr(args.next(), "row_ptr");
  const Parameters<const float> parameters{{args.next(), "gamma"}, {args.next(), "beta"},  {args.next(), "w_qkv"},
                                           {args.next(), "b_qkv"}, {args.next(), "w_out"}, {args.next(), "b_out"}};
  const auto rows = x.rows("dimensions of x");
  AttentionShape s = read_attention_shape(args, row_ptr, rows);
  s.eps = args.next_as<float>();
  s.masks = read_masks(args);
  const int n_threads = args.next_as<int>();
  check_size("size of y", y.size(), x.size());
  const auto p = parameters.read(s.d);
  const auto kept = saved.read(s);
  without_gil([&] { attention_block_forward<Device>(s, p, x.data(), y.data(), kept, n_threads); });
}

void run_attention_backward(const py::args& positional) {
  Arguments args(positional, 28);
  const Array<float> dx(args.next(), "dx");
  const Parameters<float> gradients{{args.next(), "dgamma"}, {args.next(), "dbeta"},  {args.next(), "dw_qkv"},
                                    {args.next(), "db_qkv"}, {args.next(), "dw_out"}, {args.next(), "db_out"}};
  const Array<const float> dy(args.next(), "dy");
  const Saved<const float> saved{{args.next(), "qkv"},
                                 {args.next(), "context"},
                                 {args.next(), "lse"},
                                 {args.next(), "stats"},
                                 {args.next(), "mid"}};
  const Array<const float> x(args.next(), "x");
  const Array<const int64_t> row_ptr(args.next(), "row_ptr");
  const Array<const float> gamma(args.next(), "gamma"), beta(args.next(), "beta");
  const Array<const float> w_qkv(args.next(), "w_qkv"), w_out(args.next(), "w_out");
  const auto rows = x.rows("dimensions of x");
  AttentionShape s = read_attention_shape(args, row_ptr, rows);
  s.masks = read_masks(args);
  const int n_threads = args.next_as<int>();
  check_size("size of dx", dx.size(), x.size());
  check_size("size of dy", dy.size(), x.size());
  check_size("size of w_qkv", w_qkv.size(), 3 * s.d * s.d);
  const AttentionParameters<const float> p{optional("length of gamma", gamma, s.d),
                                           optional("length of beta", beta, s.d),
                                           w_qkv.data(),
                                           nullptr,
                                           optional("size of w_out", w_out, s.d * s.d),
                                           nullptr};
  const auto sums = gradients.read(s.d);
  const auto kept = saved.read(s);
  without_gil([&] { attention_block_backward<Device>(s, p, x.data(), kept, dy.data(), dx.data(), sums, n_threads); });
}

void run_attention_step(const py::args& positional) {
  Arguments args(positional, 15);
  const Array<float> y(args.next(), "y"), keys(args.next(), "keys"), values(args.next(), "values");
  const Array<const float> x(args.next(), "x");
  const auto place = args.next_as<int64_t>();
  const Parameters<const float> parameters{{args.next(), "gamma"}, {args.next(), "beta"},  {args.next(), "w_qkv"},
                                           {args.next(), "b_qkv"}, {args.next(), "w_out"}, {args.next(), "b_out"}};
  AttentionShape s{};
  s.d = x.size();
  s.n_heads = args.next_as<int64_t>();
  if (s.n_heads < 1 || s.d % s.n_heads != 0) throw ShapeError("n_heads", s.n_heads, s.d);
  s.norm = static_cast<BlockNorm>(args.next_as<int>());
  s.eps = args.next_as<float>();
  args.next_as<int>();
  check_size("length of y", y.size(), s.d);
  check_size("size of values", values.size(), keys.size());
  const int64_t capacity = s.d == 0 ? 0 : keys.size() / s.d;
  if (place < 0 || place >= capacity) throw ShapeError("place", place, capacity);
  const auto p = parameters.read(s.d);
  without_gil([&] { attention_block_step<Device>(s, p, x.data(), y.data(), keys.data(), values.data(), place); });
}

}  // namespace

void bind_attention(py::module_& m) {
  m.def("attention_block_forward", &run_attention_forward);
  m.def("attention_block_backward", &run_attention_backward);
  m.def("attention_block_step", &run_attention_step);
}

}  // namespace recsys_fast::bindings
