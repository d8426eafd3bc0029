// Rows of packed sequences that lie a number of places before or after others: the operands of a convolution over time.
#pragma once

#include "cuda/gemm.h"

namespace recsys_fast {

// Element k of the row `shift` places before row i, or behind it where kAhead; zeros beyond the ends of a sequence.
template <bool kAhead>
struct ShiftedRows {
  static constexpr bool kAlongDepth = true, kStrided = false;
  const float* data;
  const int32_t* places;  // of every row in its sequence
  int64_t n_rows, d, shift;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const {
    if constexpr (kAhead) {
      return i + shift < n_rows && places[i + shift] >= shift ? data[(i + shift) * d + k] : 0.0f;
    }
    return places[i] >= shift ? data[(i - shift) * d + k] : 0.0f;
  }
};

// The same rows one below the other: column i of the row before row k.
struct ShiftedColumns {
  static constexpr bool kAlongDepth = false, kStrided = false;
  const float* data;
  const int32_t* places;
  int64_t d, shift;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const {
    return places[k] >= shift ? data[(k - shift) * d + i] : 0.0f;
  }
};

// The taps of a convolution: w (kernel_size d, d), oldest tap first.
struct Taps {
  const float* w;
  int64_t kernel_size, dilation;
  RF_HOST_DEVICE int64_t shift(int64_t tap) const { return (kernel_size - 1 - tap) * dilation; }
};

// out(row, column, sum over taps of the shifted row times w_tap), or, where kBack, the gradient of the convolution's
// inputs: rows ahead times the transposes. Block (tile of rows, tile of columns).
template <bool kBack, class Out>
__global__ void __launch_bounds__(kGemmThreads)
    conv_kernel(Out out, const float* x, const int32_t* places, Taps taps, int64_t n, int64_t d) {
  RF_SHARED(float, panels, kGemmPanels);
  const int64_t row = int64_t{blockIdx.x} * kGemmTile, col = int64_t{blockIdx.y} * kGemmTile;
  float sum[8][4] = {};
#pragma unroll 1
  for (int64_t tap = 0; tap < taps.kernel_size; ++tap) {
    const ShiftedRows<kBack> rows{x, places, n, d, taps.shift(tap)};
    const float* w = taps.w + tap * d * d;
    if constexpr (kBack) {
      gemm_tile(sum, panels, rows, row, n, AlongDepth{w, d}, col, d, 0, d);
    } else {
      gemm_tile(sum, panels, rows, row, n, AcrossDepth{w, d}, col, d, 0, d);
    }
  }
  gemm_write(sum, panels, row, n, col, d, out);
}

template <bool kBack, class Out>
void convolve(const Out& out, const float* x, const int32_t* places, const Taps& taps, int64_t n, int64_t d,
              Stream stream) {
  if (n == 0) return;
  launch(conv_kernel<kBack, Out>, dim3(blocks_for(n, kGemmTile), blocks_for(d, kGemmTile)), dim3(kGemmThreads), 0,
         stream, out, x, places, taps, n, d);
}

}  // namespace recsys_fast
