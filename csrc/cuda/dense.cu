#include "ops/dense.h"

#include "core/dropout_hash.h"
#include "cuda/activation.h"
#include "cuda/gemm.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;

// y = D(activation(product + b)), pre = product + b.
struct DenseOut {
  float *y, *pre;
  const float* b;
  int64_t d;
  Activation activation;
  Dropout drop;
  __device__ void operator()(int64_t row, int64_t col, float value) const {
    const int64_t at = row * d + col;
    if (b != nullptr) value += b[col];
    if (pre != nullptr) pre[at] = value;
    value = activate(activation, value);
    if (drop.active()) value *= dropout_at(drop, row, col, dropout_groups(d));
    y[at] = value;
  }
};

// g (n, d) = dy times mask and slope; a thread per element.
__global__ void __launch_bounds__(kThreads)
    dense_slope_kernel(float* g, const float* dy, const float* y, const float* pre, int64_t size, int64_t d,
                       Activation activation, Dropout drop) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= size) return;
  // Where an element was kept, y / scale is the activation.
  const float slope = activation_slope(activation, y[at] / drop.scale, pre == nullptr ? 0.0f : pre[at]);
  const float mask = drop.active() ? dropout_at(drop, at / d, at % d, dropout_groups(d)) : 1.0f;
  g[at] = dy[at] * mask * slope;
}

}  // namespace

template <>
void dense_forward<Cuda>(float* y, float* pre, const float* x, int64_t n, const DenseLayer& layer, int) {
  const DenseOut out{y, pre, layer.b, layer.d_out, layer.activation, Dropout(layer.dropout)};
  gemm(AlongDepth{x, layer.d_in}, AcrossDepth{layer.w, layer.d_out}, out, n, layer.d_out, layer.d_in, current_stream());
}

template <>
void dense_backward<Cuda>(float* dx, float* dw, float* db, const float* dy, const float* y, const float* pre,
                          const float* x, int64_t n, const DenseLayer& layer, int) {
  const int64_t d_in = layer.d_in, d = layer.d_out, size = n * d;
  const Stream stream = current_stream();
  DeviceBuffer<float> g(size, stream);
  if (n > 0) {
    launch(dense_slope_kernel, dim3(blocks_for(size, kThreads)), dim3(kThreads), 0, stream, g.data(), dy, y, pre, size,
           d, layer.activation, Dropout(layer.dropout));
  }
  if (dx != nullptr) {
    gemm(AlongDepth{g.data(), d}, AlongDepth{layer.w, d}, BiasOut{dx, d_in, nullptr}, n, d_in, d, stream);
  }
  gemm_over_rows(dw, d, db, AcrossDepth{x, d_in}, AcrossDepth{g.data(), d}, d_in, d, n, stream);
}

}  // namespace recsys_fast
