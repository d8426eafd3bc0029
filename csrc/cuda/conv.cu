// The convolutional block: products of shifted rows with the taps, and between them a layer norm with relu that keeps
// the normed rows.
#include "ops/conv.h"

#include "core/dropout_hash.h"
#include "cuda/column_sums.h"
#include "cuda/conv_rows.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128, kRowsPerBlock = kThreads / kWarpSize;

__global__ void __launch_bounds__(kThreads)
    places_kernel(int32_t* places, const int64_t* row_ptr, int64_t n_sequences, int64_t n) {
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= n) return;
  int64_t low = 0, high = n_sequences;  // the sequence is the last one that begins at or before the row
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (row_ptr[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  places[row] = static_cast<int32_t>(row - row_ptr[low]);
}

// One of a block's two norms: its rows, 1 / std of them in column `which`, and its parameters.
template <class T>
struct ConvNorm {
  T *normal, *inverse;
  int which;
  const float *gamma, *beta;
  int64_t n, d;
  __device__ __forceinline__ float scaled(int64_t at, int64_t k) const { return normal[at] * gamma[k] + beta[k]; }
};

// out = relu(normal gamma + beta) for normal = (c - mean) / std, or residual + D of it; out may be c. A warp per row.
__global__ void __launch_bounds__(kThreads)
    conv_norm_kernel(ConvNorm<float> norm, float* out, const float* c, const float* residual, float eps, Dropout drop) {
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kWarpSize, d = norm.d;
  if (row >= norm.n) return;
  const float* in = c + row * d;
  const int lane = Warp::lane();
  float sum = 0.0f, square = 0.0f;
  for (int64_t k = lane; k < d; k += kWarpSize) sum += in[k];
  const float mean = Warp::sum(sum) / static_cast<float>(d);
  for (int64_t k = lane; k < d; k += kWarpSize) square += (in[k] - mean) * (in[k] - mean);
  const float inverse = 1.0f / sqrtf(Warp::sum(square) / static_cast<float>(d) + eps);
  if (lane == 0) norm.inverse[2 * row + norm.which] = inverse;
  for (int64_t k = lane; k < d; k += kWarpSize) {
    const int64_t at = row * d + k;
    norm.normal[at] = (in[k] - mean) * inverse;
    const float scaled = norm.scaled(at, k);
    float value = scaled < 0.0f ? 0.0f : scaled;  // NaN stays
    if (drop.active()) value *= dropout_at(drop, row, k, dropout_groups(d));
    out[at] = residual == nullptr ? value : residual[at] + value;
  }
}

// out = relu(normal gamma + beta) once more.
__global__ void __launch_bounds__(kThreads) conv_relu_kernel(float* out, ConvNorm<const float> norm) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < norm.n * norm.d) out[at] = fmaxf(norm.scaled(at, at % norm.d), 0.0f);
}

// The gradient before relu and mask, of the gradient behind them.
struct ReluBack {
  ConvNorm<const float> norm;
  const float* given;
  Dropout drop;
  __device__ __forceinline__ float gradient(int64_t row, int64_t k) const {
    const int64_t at = row * norm.d + k;
    if (!(norm.scaled(at, k) > 0.0f)) return 0.0f;
    return drop.active() ? given[at] * dropout_at(drop, row, k, dropout_groups(norm.d)) : given[at];
  }
  // What the gradients of gamma and beta are sums of.
  __device__ float2 operator()(int64_t row, int64_t k) const {
    const float g = gradient(row, k);
    return make_float2(g * norm.normal[row * norm.d + k], g);
  }
};

// g = the gradient of what was normed; may be what is given. A warp per row.
__global__ void __launch_bounds__(kThreads) conv_norm_back_kernel(float* g, ReluBack back) {
  const ConvNorm<const float>& norm = back.norm;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kWarpSize, d = norm.d;
  if (row >= norm.n) return;
  float sum = 0.0f, along = 0.0f;
  for (int64_t k = Warp::lane(); k < d; k += kWarpSize) {
    const float inner = back.gradient(row, k) * norm.gamma[k];
    sum += inner;
    along += inner * norm.normal[row * d + k];
  }
  const float mean = Warp::sum(sum) / static_cast<float>(d), slope = Warp::sum(along) / static_cast<float>(d);
  const float inverse = norm.inverse[2 * row + norm.which];
  for (int64_t k = Warp::lane(); k < d; k += kWarpSize) {
    const int64_t at = row * d + k;
    g[at] = inverse * (back.gradient(row, k) * norm.gamma[k] - mean - norm.normal[at] * slope);
  }
}

// y = sum + b, or sum + add; null is nothing.
struct ConvOut {
  float* y;
  const float *b, *add;
  int64_t d;
  __device__ void operator()(int64_t row, int64_t col, float value) const {
    const int64_t at = row * d + col;
    if (b != nullptr) value += b[col];
    y[at] = add == nullptr ? value : value + add[at];
  }
};

// What both passes have: places of the rows, and launches over rows and elements.
struct ConvRows {
  int64_t n, d;
  Stream stream;
  DeviceBuffer<int32_t> places;

  explicit ConvRows(const Packed<const float>& x)
      : n(x.n_rows), d(x.d), stream(current_stream()), places(x.n_rows, stream) {
    if (n == 0) return;
    launch(places_kernel, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0, stream, places.data(), x.row_ptr,
           x.n_sequences, n);
  }
  dim3 warps() const { return dim3(blocks_for(n, kRowsPerBlock)); }

  // g <- the gradient of a convolution's result, and the gradients of its norm, from `given`.
  void norm_back(float* g, const ConvLayerGradients& to, const ReluBack& back) const {
    sum_columns(to.gamma, to.beta, back, n, d, stream);
    if (n > 0) launch(conv_norm_back_kernel, warps(), dim3(kThreads), 0, stream, g, back);
  }
  // The gradients of a convolution's weights and bias.
  void weights_back(const ConvLayerGradients& to, const float* x, const float* g, const Taps& taps) const {
    for (int64_t tap = 0; tap < taps.kernel_size; ++tap) {
      gemm_over_rows(to.w + tap * d * d, d, tap == 0 ? to.b : nullptr,
                     ShiftedColumns{x, places.data(), d, taps.shift(tap)}, AcrossDepth{g, d}, d, d, n, stream);
    }
  }
};

}  // namespace

template <>
void causal_conv_block_forward<Cuda>(float* y, ConvSaved<float> saved, Packed<const float> x, const ConvBlock& block,
                                     float eps, int) {
  const ConvRows rows(x);
  const int64_t n = rows.n, d = rows.d;
  if (n == 0) return;
  DeviceBuffer<float> c(n * d, rows.stream), h(n * d, rows.stream);
  const Taps first{block.first.w, block.kernel_size, block.dilation};
  const Taps second{block.second.w, block.kernel_size, 2 * block.dilation};
  convolve<false>(ConvOut{h.data(), block.first.b, nullptr, d}, x.data, rows.places.data(), first, n, d, rows.stream);
  launch(conv_norm_kernel, rows.warps(), dim3(kThreads), 0, rows.stream,
         ConvNorm<float>{saved.normal1, saved.inverse, 0, block.first.gamma, block.first.beta, n, d}, h.data(),
         static_cast<const float*>(h.data()), nullptr, eps, Dropout());
  convolve<false>(ConvOut{c.data(), block.second.b, nullptr, d}, h.data(), rows.places.data(), second, n, d,
                  rows.stream);
  launch(conv_norm_kernel, rows.warps(), dim3(kThreads), 0, rows.stream,
         ConvNorm<float>{saved.normal2, saved.inverse, 1, block.second.gamma, block.second.beta, n, d}, y,
         static_cast<const float*>(c.data()), x.data, eps, Dropout(block.dropout));
}

template <>
void causal_conv_block_backward<Cuda>(float* dx, ConvLayerGradients first, ConvLayerGradients second, const float* dy,
                                      ConvSaved<const float> saved, Packed<const float> x, const ConvBlock& block,
                                      int) {
  const ConvRows rows(x);
  const int64_t n = rows.n, d = rows.d;
  const Taps taps1{block.first.w, block.kernel_size, block.dilation};
  const Taps taps2{block.second.w, block.kernel_size, 2 * block.dilation};
  const ConvNorm<const float> norm1{saved.normal1, saved.inverse, 0, block.first.gamma, block.first.beta, n, d};
  const ConvNorm<const float> norm2{saved.normal2, saved.inverse, 1, block.second.gamma, block.second.beta, n, d};
  DeviceBuffer<float> g(n * d, rows.stream), h(n * d, rows.stream), into(n * d, rows.stream);
  rows.norm_back(g.data(), second, ReluBack{norm2, dy, Dropout(block.dropout)});
  if (n > 0) {
    launch(conv_relu_kernel, dim3(blocks_for(n * d, kThreads)), dim3(kThreads), 0, rows.stream, h.data(), norm1);
  }
  rows.weights_back(second, h.data(), g.data(), taps2);
  convolve<true>(ConvOut{into.data(), nullptr, nullptr, d}, g.data(), rows.places.data(), taps2, n, d, rows.stream);
  rows.norm_back(g.data(), first, ReluBack{norm1, into.data(), Dropout()});
  rows.weights_back(first, x.data, g.data(), taps1);
  convolve<true>(ConvOut{dx, nullptr, dy, d}, g.data(), rows.places.data(), taps1, n, d, rows.stream);
}

}  // namespace recsys_fast
