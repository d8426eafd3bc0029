// Inverse of a symmetric positive definite matrix by the block sweep, as on the CPU (Goodnight 1979; cpu/spd_invert.cc
// has the formulas): for every block k of 128 columns, with a_kk = L L^T, w = L^-1 and y = a_ik w^T,
//   a_ij -= y_i y_j^T,  a_ik <- y_i w,  a_kk <- -w^T w,   and in the end a is the inverse, negated.
// One block of threads inverts the pivot, w a 4 x 4 piece per thread in registers; the rest are products of tiles over
// the whole grid, of n^3 operations n^3 (1 - 1 / k) in the update of the lower triangle. That reads and writes the
// triangle once per 128 columns, at n = 20,000 in a third of the time that its arithmetic takes; a wider pivot would
// make the one block's work, 128 steps of a barrier each, count.
//
// Nothing waits for the device before the end: a pivot that fails is noted there, and what follows is noise.
#include <algorithm>

#include "cuda/gemm.h"
#include "cuda/symmetric.h"
#include "cuda/tile_product.h"
#include "ops/linear.h"

namespace recsys_fast {
namespace {

constexpr int kPivot = 128;                          // columns swept at once
constexpr int kPivotThreads = kPivot * kPivot / 16;  // 4 x 4 of the pivot each
constexpr float kNoise = 2e-7f;                      // a pivot that lost all but this share of the diagonal
static_assert(kPivot % kGemmTile == 0);

__global__ void __launch_bounds__(256) spd_diagonal_kernel(float* diagonal, const float* a, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i < n) diagonal[i] = a[i * n + i];
}

// w (kPivot, kPivot) = L^-1 for the pivot L L^T, the b x b block of a at (k, k); y (b, kPivot) = -w^T. Step p takes
// column p of what is left of the pivot into L, subtracts its product from what lies right of it, and eliminates it
// from the rows of w, which grow in the place of the columns that are done.
__global__ void __launch_bounds__(kPivotThreads)
    spd_pivot_kernel(float* w, float* y, const float* a, const float* diagonal, int64_t* failed, int64_t n, int64_t k,
                     int b) {
  RF_SHARED(float, columns, 2 * kPivot);  // column p below the diagonal, and row p of w left of it; two steps by turns
  RF_SHARED(float, rows, 2 * kPivot);
  const int row = static_cast<int>(threadIdx.x) / (kPivot / 4) * 4,
            col = static_cast<int>(threadIdx.x) % (kPivot / 4) * 4;
  float s[4][4];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const bool inside = row + r < b && col + c <= row + r;
      s[r][c] = inside ? a[(k + row + r) * n + k + col + c] : 0.0f;
    }
  }
#pragma unroll 1
  for (int p = 0; p < b; ++p) {
    const Shared<float> column = columns + p % 2 * kPivot, left = rows + p % 2 * kPivot;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (col + c == p && row + r >= p) column[row + r] = s[r][c];
        if (row + r == p && col + c < p) left[col + c] = s[r][c];
      }
    }
    __syncthreads();
    float pivot = column[p];
    if (!(pivot > kNoise * diagonal[k + p])) {  // NaN, too
      if (threadIdx.x == 0 && *failed < 0) *failed = k;
      pivot = 1.0f;
    }
    const float inverse = tile_rsqrt(pivot);
    float below[4], right[4];  // of L: the thread's rows below p; of w row p, and behind it of L^T row p
#pragma unroll
    for (int r = 0; r < 4; ++r) below[r] = row + r > p && row + r < b ? column[row + r] * inverse : 0.0f;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int j = col + c;
      right[c] = j == p ? inverse : j >= b ? 0.0f : inverse * (j < p ? float{left[j]} : float{column[j]});
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (row + r == p && col + c <= p) s[r][c] = right[c];
        if (row + r > p) s[r][c] = fmaf(-below[r], right[c], col + c == p ? 0.0f : s[r][c]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float value = col + c <= row + r && row + r < b ? s[r][c] : 0.0f;
      w[(row + r) * kPivot + col + c] = value;
      if (col + c < b) y[(col + c) * kPivot + row + r] = -value;
    }
  }
}

// a_ij -= y_i y_j^T for the tiles on and below the diagonal that the pivot's tiles [first, last) do not cross. Rows of
// tiles i and even - 1 - i together have even + 1 tiles: block (one of them, i).
__global__ void __launch_bounds__(kGemmThreads)
    spd_update_kernel(float* a, const float* y, int64_t n, int64_t b, int first, int last) {
  RF_SHARED(float, panels, kGemmPanels);
  const int even = static_cast<int>(gridDim.x) - 1, x = static_cast<int>(blockIdx.x), i = static_cast<int>(blockIdx.y);
  const bool far = x < even - i;
  const int tile_i = far ? even - 1 - i : i, tile_j = far ? x : x - (even - i);
  if ((tile_i >= first && tile_i < last) || (tile_j >= first && tile_j < last)) return;
  const int64_t row = int64_t{tile_i} * kGemmTile, col = int64_t{tile_j} * kGemmTile;
  if (row >= n) return;
  float sum[8][4] = {};
  const AlongDepth rows{y, kPivot};
  gemm_tile(sum, panels, rows, row, n, rows, col, n, 0, b);
  const GemmPlace place;
  float before[8][4];  // apart from the sum, which is rounded to its own size; loaded together
#pragma unroll
  for (int r = 0; r < 8; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int64_t at_row = row + place.row + r, at_col = col + place.col + c;
      before[r][c] = at_row < n && at_col <= at_row ? a[at_row * n + at_col] : 0.0f;
    }
  }
#pragma unroll
  for (int r = 0; r < 8; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int64_t at_row = row + place.row + r, at_col = col + place.col + c;
      if (at_row < n && at_col <= at_row) a[at_row * n + at_col] = before[r][c] - sum[r][c];
    }
  }
}

// Sweeps the block of b columns at k. y (n, kPivot), w (kPivot, kPivot): scratch.
void sweep(float* a, float* y, float* w, const float* diagonal, int64_t* failed, int64_t n, int64_t k, Stream stream) {
  const int64_t b = std::min<int64_t>(kPivot, n - k), below = k + b;
  launch(spd_pivot_kernel, dim3(1), dim3(kPivotThreads), 0, stream, w, y + k * kPivot, a, diagonal, failed, n, k,
         static_cast<int>(b));
  const AlongDepth factor{w, kPivot};
  gemm(AcrossDepth{a + k * n, n}, factor, BiasOut{y, kPivot, nullptr}, k, b, b, stream);
  gemm(AlongDepth{a + below * n + k, n}, factor, BiasOut{y + below * kPivot, kPivot, nullptr}, n - below, b, b, stream);
  if (n > b) {
    const auto n_tiles = static_cast<int>(blocks_for(n, kGemmTile)), even = (n_tiles + 1) / 2 * 2;
    launch(spd_update_kernel, dim3(static_cast<unsigned>(even + 1), static_cast<unsigned>(even / 2)),
           dim3(kGemmThreads), 0, stream, a, static_cast<const float*>(y), n, b, static_cast<int>(k / kGemmTile),
           static_cast<int>((below + kGemmTile - 1) / kGemmTile));
  }
  // The pivot's rows of the triangle, and its columns; w lies across the depth of both.
  const AcrossDepth across{w, kPivot};
  gemm(across, AlongDepth{y, kPivot}, BiasOut{a + k * n, n, nullptr}, b, k, b, stream);
  gemm(AlongDepth{y + k * kPivot, kPivot}, across, BiasOut{a + k * n + k, n, nullptr}, n - k, b, b, stream);
}

}  // namespace

template <>
int64_t spd_invert<Cuda>(float* a, int64_t n, int) {
  if (n == 0) return -1;
  const Stream stream = current_stream();
  DeviceBuffer<float> y(n * kPivot, stream), w(kPivot * kPivot, stream), diagonal(n, stream);
  DeviceBuffer<int64_t> failed(1, stream);
  const int64_t none = -1;
  copy_to_device(failed.data(), &none, 1, stream);
  launch(spd_diagonal_kernel, dim3(blocks_for(n, 256)), dim3(256), 0, stream, diagonal.data(),
         static_cast<const float*>(a), n);
  for (int64_t k = 0; k < n; k += kPivot) {
    sweep(a, y.data(), w.data(), diagonal.data(), failed.data(), n, k, stream);
  }
  mirror_lower(a, n, -1.0f, stream);
  return read_element(failed.data(), stream);
}

}  // namespace recsys_fast
