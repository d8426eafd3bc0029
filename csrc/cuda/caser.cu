// Caser's convolutions. Forward: a block has a few windows in shared memory and a thread per filter, so that a weight
// is read once for all of them. Backward: behind the maximum a filter has a gradient at one position per window only.
#include "ops/caser.h"

#include "core/dropout_hash.h"
#include "cuda/column_sums.h"
#include "cuda/transpose.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128, kWindows = 8;
constexpr int64_t kWindowBytes = 48 << 10;  // of shared memory for a block's windows

// Rows of w_h above those of a height.
__device__ __forceinline__ int64_t first_row(int64_t height, int64_t d) { return height * (height - 1) / 2 * d; }

// Windows first to first + N as they are read, one number of each: from shared memory, where element e of window i is
// at e N + i, or from where they lie.
struct KeptWindows {
  Shared<float> data;
  template <int N>
  __device__ __forceinline__ void load(float (&x)[N], int64_t e) const {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 four = data.as<float4>()[(e * N + i) / 4];
      x[i] = four.x;
      x[i + 1] = four.y;
      x[i + 2] = four.z;
      x[i + 3] = four.w;
    }
  }
};
struct GlobalWindow {
  const float* data;
  template <int N>
  __device__ __forceinline__ void load(float (&x)[N], int64_t e) const {
    x[0] = data[e];
  }
};

struct CaserOut {
  float* z;
  int32_t* argmax;
  Dropout drop;
};

// Columns of z of N windows from `first` on.
template <int N, class Windows>
__device__ __forceinline__ void caser_columns(const CaserOut& out, const Windows& windows, const CaserWeights& w,
                                              const CaserSizes& s, int64_t first) {
  const int64_t n_maxima = s.window * s.n_horizontal, width = n_maxima + s.n_vertical * s.d;
#pragma unroll 1
  for (int64_t col = threadIdx.x; col < width; col += kThreads) {
    float best[N] = {};
    int place[N];
#pragma unroll
    for (int i = 0; i < N; ++i) place[i] = -1;
    if (col < n_maxima) {
      const int64_t height = col / s.n_horizontal + 1, size = height * s.d;
      const float* weights = w.w_h + first_row(height, s.d) * s.n_horizontal + col % s.n_horizontal;
#pragma unroll 1
      for (int p = 0; p + height <= s.window; ++p) {
        float sum[N] = {}, x[N];
#pragma unroll 2
        for (int64_t k = 0; k < size; ++k) {
          const float weight = weights[k * s.n_horizontal];
          windows.load(x, p * s.d + k);
#pragma unroll
          for (int i = 0; i < N; ++i) sum[i] += weight * x[i];
        }
#pragma unroll
        for (int i = 0; i < N; ++i) {
          const float score = sum[i] + w.b_h[col];
          if (score > best[i]) {
            best[i] = score;
            place[i] = p;
          }
        }
      }
    } else {
      const int64_t filter = (col - n_maxima) / s.d, k = (col - n_maxima) % s.d;
#pragma unroll
      for (int i = 0; i < N; ++i) best[i] = w.b_v == nullptr ? 0.0f : w.b_v[filter];
      for (int64_t l = 0; l < s.window; ++l) {
        float x[N];
        windows.load(x, l * s.d + k);
#pragma unroll
        for (int i = 0; i < N; ++i) best[i] += x[i] * w.w_v[l * s.n_vertical + filter];
      }
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (first + i >= s.n) break;
      if (col < n_maxima) out.argmax[(first + i) * n_maxima + col] = place[i];
      const float mask = out.drop.active() ? dropout_at(out.drop, first + i, col, dropout_groups(width)) : 1.0f;
      out.z[(first + i) * width + col] = best[i] * mask;
    }
  }
}

// Block: kWindows windows, which its dynamic shared memory holds.
__global__ void __launch_bounds__(kThreads)
    caser_windows_kernel(CaserOut out, const float* x, CaserWeights w, CaserSizes s) {
  RF_DYNAMIC_SHARED(float, kept);
  const int64_t first = int64_t{blockIdx.x} * kWindows, size = s.window * s.d;
  for (int64_t e = threadIdx.x; e < kWindows * size; e += kThreads) {
    const int64_t i = e / size, k = e % size;
    kept[k * kWindows + i] = first + i < s.n ? x[(first + i) * size + k] : 0.0f;
  }
  __syncthreads();
  caser_columns<kWindows>(out, KeptWindows{kept}, w, s, first);
}

// Block: one window, too large for that.
__global__ void __launch_bounds__(kThreads)
    caser_window_kernel(CaserOut out, const float* x, CaserWeights w, CaserSizes s) {
  const int64_t first = blockIdx.x;
  caser_columns<1>(out, GlobalWindow{x + first * s.window * s.d}, w, s, first);
}

// g (n, width) = dz times its mask, 0 in columns whose maximum was 0.
__global__ void __launch_bounds__(kThreads)
    caser_mask_kernel(float* g, const float* dz, const int32_t* argmax, CaserSizes s, Dropout drop) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t n_maxima = s.window * s.n_horizontal, width = n_maxima + s.n_vertical * s.d;
  if (at >= s.n * width) return;
  const int64_t i = at / width, col = at % width;
  if (col < n_maxima && argmax[i * n_maxima + col] < 0) {
    g[at] = 0.0f;
  } else {
    g[at] = drop.active() ? dz[at] * dropout_at(drop, i, col, dropout_groups(width)) : dz[at];
  }
}

// dx (n, window d): what the filters whose maximum covers an element, and the vertical ones, give back. filters: w_h
// transposed height by height. Block: a window; a thread per element.
__global__ void __launch_bounds__(kThreads) caser_inputs_kernel(float* dx, const float* g, const int32_t* argmax,
                                                                const float* filters, const float* w_v, CaserSizes s) {
  const int64_t n_maxima = s.window * s.n_horizontal, width = n_maxima + s.n_vertical * s.d, size = s.window * s.d;
  const float* own = g + blockIdx.x * width;
  const int32_t* places = argmax + blockIdx.x * n_maxima;
  for (int64_t e = threadIdx.x; e < size; e += kThreads) {
    const int64_t l = e / s.d, k = e % s.d;
    float sum = 0.0f;
    for (int64_t c = 0; c < s.n_vertical; ++c) sum += own[n_maxima + c * s.d + k] * w_v[l * s.n_vertical + c];
    for (int64_t height = 1; height <= s.window; ++height) {
      const float* matrix = filters + first_row(height, s.d) * s.n_horizontal;
      for (int64_t f = 0; f < s.n_horizontal; ++f) {
        const int64_t col = (height - 1) * s.n_horizontal + f, p = max(places[col], 0);
        if (p <= l && l < p + height) sum += own[col] * matrix[f * height * s.d + e - p * s.d];
      }
    }
    dx[blockIdx.x * size + e] = sum;
  }
}

// parts (n_parts, as w_h): the gradients of w_h over a run of windows. Block (filter, part); a thread per weight.
__global__ void __launch_bounds__(kThreads) caser_filters_kernel(float* parts, const float* g, const int32_t* argmax,
                                                                 const float* x, CaserSizes s, int64_t part_windows) {
  const int64_t n_maxima = s.window * s.n_horizontal, width = n_maxima + s.n_vertical * s.d;
  const int64_t col = blockIdx.x, height = col / s.n_horizontal + 1, row = first_row(height, s.d);
  const int64_t first = blockIdx.y * part_windows, last = min(s.n, first + part_windows);
  float* out = parts + blockIdx.y * first_row(s.window + 1, s.d) * s.n_horizontal;
  for (int64_t k = threadIdx.x; k < height * s.d; k += kThreads) {
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t i = first; i < last; ++i) {
      const int64_t p = max(argmax[i * n_maxima + col], 0);
      sum += g[i * width + col] * x[(i * s.window + p) * s.d + k];
    }
    out[(row + k) * s.n_horizontal + col % s.n_horizontal] = sum;
  }
}

// parts (n_parts, window + 1, n_vertical): the gradients of w_v, and in the last row of b_v. Block (element, part).
__global__ void __launch_bounds__(kThreads)
    caser_vertical_kernel(float* parts, const float* g, const float* x, CaserSizes s, int64_t part_windows) {
  RF_SHARED(float, scratch, 32);
  const int64_t n_maxima = s.window * s.n_horizontal, width = n_maxima + s.n_vertical * s.d;
  const int64_t l = blockIdx.x / s.n_vertical, filter = blockIdx.x % s.n_vertical;
  const int64_t first = blockIdx.y * part_windows, last = min(s.n, first + part_windows);
  float sum = 0.0f;
  for (int64_t e = first * s.d + threadIdx.x; e < last * s.d; e += kThreads) {
    const int64_t i = e / s.d, k = e % s.d;
    sum += g[i * width + n_maxima + filter * s.d + k] * (l < s.window ? x[(i * s.window + l) * s.d + k] : 1.0f);
  }
  sum = Block::sum(sum, scratch);
  if (threadIdx.x == 0) parts[int64_t{blockIdx.y} * gridDim.x + blockIdx.x] = sum;
}

struct MaximaTerms {
  const float* g;
  int64_t width;
  __device__ float2 operator()(int64_t row, int64_t col) const { return make_float2(g[row * width + col], 0.0f); }
};

}  // namespace

template <>
void caser_forward<Cuda>(float* z, int32_t* argmax, const float* x, const CaserWeights& weights,
                         const CaserSizes& sizes, const DropoutMask& dropout, int) {
  if (sizes.n == 0) return;
  const CaserOut out{z, argmax, Dropout(dropout)};
  const int64_t bytes = kWindows * sizes.window * sizes.d * 4;
  if (bytes <= kWindowBytes) {
    launch(caser_windows_kernel, dim3(blocks_for(sizes.n, kWindows)), dim3(kThreads), static_cast<size_t>(bytes),
           current_stream(), out, x, weights, sizes);
  } else {
    launch(caser_window_kernel, dim3(static_cast<unsigned>(sizes.n)), dim3(kThreads), 0, current_stream(), out, x,
           weights, sizes);
  }
}

template <>
void caser_backward<Cuda>(float* dx, const CaserGradients& gradients, const float* dz, const int32_t* argmax,
                          const float* x, const CaserWeights& weights, const CaserSizes& sizes,
                          const DropoutMask& dropout, int) {
  const Stream stream = current_stream();
  const int64_t n = sizes.n, n_h = sizes.n_horizontal, n_v = sizes.n_vertical, d = sizes.d, window = sizes.window;
  const int64_t n_maxima = sizes.n_maxima(), width = sizes.width(), n_weights = window * (window + 1) / 2 * d * n_h;
  const int64_t n_parts = std::clamp<int64_t>(n / 64, 1, 64), part_windows = (n + n_parts - 1) / n_parts;
  const auto parts_y = static_cast<unsigned>(n_parts);
  DeviceBuffer<float> g(n * width, stream), filters(n_weights, stream);
  for (int64_t height = 1, row = 0; n_h > 0 && height <= window; row += height * d, ++height) {
    transpose(filters.data() + row * n_h, weights.w_h + row * n_h, height * d, n_h, stream);
  }
  if (n > 0) {
    launch(caser_mask_kernel, dim3(blocks_for(n * width, kThreads)), dim3(kThreads), 0, stream, g.data(), dz, argmax,
           sizes, Dropout(dropout));
    launch(caser_inputs_kernel, dim3(static_cast<unsigned>(n)), dim3(kThreads), 0, stream, dx,
           static_cast<const float*>(g.data()), argmax, static_cast<const float*>(filters.data()), weights.w_v, sizes);
  }
  if (n_h > 0) {
    DeviceBuffer<float> parts(n_parts * n_weights, stream), nothing(n_maxima, stream);
    launch(caser_filters_kernel, dim3(static_cast<unsigned>(n_maxima), parts_y), dim3(kThreads), 0, stream,
           parts.data(), static_cast<const float*>(g.data()), argmax, x, sizes, part_windows);
    add_parts(gradients.w_h, n_weights, parts.data(), n_weights, 1, n_weights, n_parts, stream);
    sum_columns(gradients.b_h, nothing.data(), MaximaTerms{g.data(), width}, n, n_maxima, stream);
  }
  if (n_v > 0) {
    const int64_t n_vertical = (window + 1) * n_v;
    DeviceBuffer<float> parts(n_parts * n_vertical, stream);
    launch(caser_vertical_kernel, dim3(static_cast<unsigned>(n_vertical), parts_y), dim3(kThreads), 0, stream,
           parts.data(), static_cast<const float*>(g.data()), x, sizes, part_windows);
    add_parts(gradients.w_v, n_v, parts.data(), n_vertical, window, n_v, n_parts, stream);
    if (gradients.b_v != nullptr) {
      add_parts(gradients.b_v, n_v, parts.data() + window * n_v, n_vertical, 1, n_v, n_parts, stream);
    }
  }
}

}  // namespace recsys_fast
