#include "ops/feed_forward.h"

#include "cuda/activated_out.h"
#include "cuda/block_frame.h"

namespace recsys_fast {
namespace {

BlockFrame frame_of(const FeedForwardShape& s, const FeedForwardParameters<const float>& w) {
  return {s.norm, s.eps, s.n_rows, s.d, w.gamma, w.beta, Dropout(s.masks.outer), current_stream()};
}

// From the gradient of `inner`: inner once more, and the gradient of hidden.
struct HiddenBackOut {
  float *inner, *dhidden;
  const float* hidden;
  int64_t h;
  Activation activation;
  Dropout drop;
  __device__ void operator()(int64_t row, int64_t col, float gradient) const {
    const int64_t at = row * h + col;
    const float before = hidden[at], after = activate(activation, before);
    const float mask = drop.active() ? dropout_at(drop, row, col, dropout_groups(h)) : 1.0f;
    inner[at] = after * mask;
    dhidden[at] = gradient * mask * activation_slope(activation, after, before);
  }
};

}  // namespace

template <>
void feed_forward_block_forward<Cuda>(const FeedForwardShape& s, const FeedForwardParameters<const float>& w,
                                      const float* x, float* y, const FeedForwardSaved<float>& saved, int) {
  const BlockFrame f = frame_of(s, w);
  DeviceBuffer<float> normed, inner(s.n_rows * s.h, f.stream);
  const float* input = f.input(normed, x, saved.stats);
  gemm(AlongDepth{input, s.d}, AcrossDepth{w.w1, s.h},
       ActivatedOut{inner.data(), saved.hidden, w.b1, s.h, s.activation, Dropout(s.masks.inner)}, s.n_rows, s.h, s.d,
       f.stream);
  gemm(AlongDepth{inner.data(), s.h}, AcrossDepth{w.w2, s.d}, f.residual(y, saved.mid, x, input, w.b2), s.n_rows, s.d,
       s.h, f.stream);
  f.finish(y, saved.mid, saved.stats);
}

template <>
void feed_forward_block_backward<Cuda>(const FeedForwardShape& s, const FeedForwardParameters<const float>& w,
                                       const float* x, const FeedForwardSaved<const float>& saved, const float* dy,
                                       float* dx, const FeedForwardParameters<float>& gradients, int) {
  const BlockFrame f = frame_of(s, w);
  const int64_t n = s.n_rows, d = s.d, h = s.h;
  const ResidualGradients to(f, dy, saved.mid, saved.stats, gradients.gamma, gradients.beta);
  DeviceBuffer<float> normed, inner(n * h, f.stream), dhidden(n * h, f.stream), back(n * d, f.stream);
  const float* input = f.input_again(normed, x, saved.stats);
  gemm(AlongDepth{to.out, d}, AlongDepth{w.w2, d},
       HiddenBackOut{inner.data(), dhidden.data(), saved.hidden, h, s.activation, Dropout(s.masks.inner)}, n, h, d,
       f.stream);
  gemm_over_rows(gradients.w2, d, gradients.b2, AcrossDepth{inner.data(), h}, AcrossDepth{to.out, d}, h, d, n,
                 f.stream);
  gemm_over_rows(gradients.w1, h, gradients.b1, AcrossDepth{input, d}, AcrossDepth{dhidden.data(), h}, d, h, n,
                 f.stream);
  gemm(AlongDepth{dhidden.data(), h}, AlongDepth{w.w1, h}, BiasOut{back.data(), d, nullptr}, n, d, h, f.stream);
  input_back(f, dx, back.data(), to.sum, nullptr, x, saved.stats, gradients.gamma, gradients.beta);
}

}  // namespace recsys_fast
