// Products of float32 matrices: a 64 x 64 piece of the result per block, 8 x 4 of it per thread in registers, both
// operands passing through shared memory 16 steps of the depth at a time.
//
// Operands and results are functors: an operand gives element (i, k) from wherever it comes (rows, a transpose, earlier
// rows of a sequence), a result takes (row, column, value) and finishes it (bias, activation, mask, residual).
//
// Why 8 x 4: a step of the depth costs a thread three 16-byte loads of shared memory for 32 multiply-adds; a warp has
// 16 x 64 of the tile, so those loads take 4 cycles of the banks where the arithmetic takes 8. A warp has whole rows of
// the tile, which attention's softmax needs. Two pairs of panels: what is needed next is on its way from L2 while
// this one is multiplied, and there is one barrier per panel.
#pragma once

#include <algorithm>

#include "cuda/part_sums.h"

namespace recsys_fast {

constexpr int kGemmTile = 64, kGemmDepth = 16, kGemmThreads = 128;
// Distance of two columns of a panel: a multiple of 4 keeps vectors aligned, and the padding spreads the columns that
// a transposing store writes at the same time over the banks.
constexpr int kGemmStride = kGemmTile + 4;
constexpr int kGemmPanel = kGemmDepth * kGemmStride;
constexpr int kGemmEach = kGemmTile * kGemmDepth / kGemmThreads;  // elements of a panel that a thread fetches
constexpr int kGemmPanels = 4 * kGemmPanel;                       // floats of shared memory; a tile fits in too
static_assert(kGemmPanels >= kGemmTile * kGemmStride);

// Element (i, k) of rows whose columns run along the depth, and of those whose rows do. kStrided: a step in i or k is
// a step in memory, so that addresses cost no registers.
struct AlongDepth {
  static constexpr bool kAlongDepth = true, kStrided = true;
  const float* data;
  int64_t stride;
  __device__ __forceinline__ const float* at(int64_t i, int64_t k) const { return data + i * stride + k; }
};
struct AcrossDepth {
  static constexpr bool kAlongDepth = false, kStrided = true;
  const float* data;
  int64_t stride;
  __device__ __forceinline__ const float* at(int64_t i, int64_t k) const { return data + k * stride + i; }
};

// Where a thread's 8 x 4 piece begins.
struct GemmPlace {
  int row = static_cast<int>(threadIdx.x) / 16 * 8, col = static_cast<int>(threadIdx.x) % 16 * 4;
};

// Of a panel's elements the first of the thread and the way to its next one: neighbouring threads read neighbouring
// numbers.
template <bool kAlongDepth>
struct GemmElements {
  static constexpr int kStepI = kAlongDepth ? kGemmThreads / kGemmDepth : 0;
  static constexpr int kStepK = kAlongDepth ? 0 : kGemmThreads / kGemmTile;
  int i = static_cast<int>(threadIdx.x) / (kAlongDepth ? kGemmDepth : 1) % kGemmTile;
  int k = kAlongDepth ? static_cast<int>(threadIdx.x) % kGemmDepth : static_cast<int>(threadIdx.x) / kGemmTile;
};

// Rows [first, n) of an operand, steps [from, end) of the depth; zeros elsewhere.
template <class Operand>
__device__ __forceinline__ void gemm_fetch(float (&next)[kGemmEach], const Operand& operand, int64_t first, int64_t n,
                                           int64_t from, int64_t end) {
  using Elements = GemmElements<Operand::kAlongDepth>;
  const Elements at;
  const int n_i = static_cast<int>(min(n - first, int64_t{kGemmTile}));
  const int n_k = static_cast<int>(min(end - from, int64_t{kGemmDepth}));
  if constexpr (Operand::kStrided) {
    const float* p = operand.at(first + at.i, from + at.k);
    const int64_t step = Operand::kAlongDepth ? Elements::kStepI * operand.stride : Elements::kStepK * operand.stride;
#pragma unroll
    for (int e = 0; e < kGemmEach; ++e) {
      next[e] = at.i + e * Elements::kStepI < n_i && at.k + e * Elements::kStepK < n_k ? p[e * step] : 0.0f;
    }
  } else {
#pragma unroll
    for (int e = 0; e < kGemmEach; ++e) {
      const int i = at.i + e * Elements::kStepI, k = at.k + e * Elements::kStepK;
      next[e] = i < n_i && k < n_k ? operand(first + i, from + k) : 0.0f;
    }
  }
}
template <class Operand>
__device__ __forceinline__ void gemm_keep(Shared<float> panel, const float (&next)[kGemmEach]) {
  using Elements = GemmElements<Operand::kAlongDepth>;
  const Elements at;
#pragma unroll
  for (int e = 0; e < kGemmEach; ++e) {
    panel[(at.k + e * Elements::kStepK) * kGemmStride + at.i + e * Elements::kStepI] = next[e];
  }
}

// sum += left^T right for panels of kGemmDepth columns.
__device__ __forceinline__ void gemm_multiply(float (&sum)[8][4], Shared<float> left, Shared<float> right) {
  const GemmPlace place;
  const Shared<float4> a = left.as<float4>(), b = right.as<float4>();
#pragma unroll 4
  for (int k = 0; k < kGemmDepth; ++k) {
    const float4 low = a[(k * kGemmStride + place.row) / 4], high = a[(k * kGemmStride + place.row) / 4 + 1];
    const float4 v = b[(k * kGemmStride + place.col) / 4];
    const float u[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}, w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[i][j] += u[i] * w[j];
    }
  }
}

// y = product + b, rows `stride` apart; b may be null.
struct BiasOut {
  float* y;
  int64_t stride;
  const float* b;
  __device__ void operator()(int64_t row, int64_t col, float value) const {
    y[row * stride + col] = b == nullptr ? value : value + b[col];
  }
};

struct NoPanel {
  __device__ __forceinline__ void operator()(Shared<float>) const {}
};

// sum[i][j] += left(row + i, k) right(col + j, k) over begin <= k < end; rows from m and columns from n on are zeros.
// each(panel of the right operand) is called for every panel. All threads of the block take part.
template <class Left, class Right, class Each = NoPanel>
__device__ __forceinline__ void gemm_tile(float (&sum)[8][4], Shared<float> panels, const Left& left, int64_t row,
                                          int64_t m, const Right& right, int64_t col, int64_t n, int64_t begin,
                                          int64_t end, Each&& each = Each()) {
  if (begin >= end) return;  // operands without rows may have no memory
  float next_left[kGemmEach], next_right[kGemmEach];
  int slot = 0;
  gemm_fetch(next_left, left, row, m, begin, end);
  gemm_fetch(next_right, right, col, n, begin, end);
  __syncthreads();  // what was in the panels has been read
#pragma unroll 1
  for (int64_t from = begin; from < end; from += kGemmDepth) {
    const Shared<float> a = panels + slot * kGemmPanel, b = panels + (2 + slot) * kGemmPanel;
    gemm_keep<Left>(a, next_left);
    gemm_keep<Right>(b, next_right);
    __syncthreads();
    if (from + kGemmDepth < end) {
      gemm_fetch(next_left, left, row, m, from + kGemmDepth, end);
      gemm_fetch(next_right, right, col, n, from + kGemmDepth, end);
    }
    gemm_multiply(sum, a, b);
    each(b);
    slot ^= 1;
  }
}

// The same with a left operand that lies in shared memory already, element (i, begin + k) at k kGemmStride + i; it may
// have been written just before. Behind `end`, to a whole panel, it holds finite numbers.
template <class Right>
__device__ __forceinline__ void gemm_kept(float (&sum)[8][4], Shared<float> kept, Shared<float> panels,
                                          const Right& right, int64_t col, int64_t n, int64_t begin, int64_t end) {
  float next[kGemmEach];
  int slot = 0;
  gemm_fetch(next, right, col, n, begin, end);
  __syncthreads();
#pragma unroll 1
  for (int64_t from = begin; from < end; from += kGemmDepth) {
    const Shared<float> b = panels + slot * kGemmPanel;
    gemm_keep<Right>(b, next);
    __syncthreads();
    if (from + kGemmDepth < end) gemm_fetch(next, right, col, n, from + kGemmDepth, end);
    gemm_multiply(sum, kept + (from - begin) * kGemmStride, b);
    slot ^= 1;
  }
}

// Calls out(row + i, col + j, sum) for the tile's elements below (m, n), neighbouring columns by neighbouring threads,
// so that the text of `out` exists once and its stores are whole.
template <class Out>
__device__ __forceinline__ void gemm_write(const float (&sum)[8][4], Shared<float> panels, int64_t row, int64_t m,
                                           int64_t col, int64_t n, const Out& out) {
  const GemmPlace place;
  const Shared<float4> vectors = panels.as<float4>();
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    vectors[((place.row + i) * kGemmStride + place.col) / 4] = make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
  }
  __syncthreads();
#pragma unroll 1
  for (int e = static_cast<int>(threadIdx.x); e < kGemmTile * kGemmTile; e += kGemmThreads) {
    const int r = e / kGemmTile, c = e % kGemmTile;
    if (row + r < m && col + c < n) out(row + r, col + c, static_cast<float>(panels[r * kGemmStride + c]));
  }
}

// out(row, column, sum over k < depth of left(row, k) right(column, k)). Block (tile of rows, tile of columns).
template <class Left, class Right, class Out>
__global__ void __launch_bounds__(kGemmThreads)
    gemm_kernel(Left left, Right right, Out out, int64_t m, int64_t n, int64_t depth) {
  RF_SHARED(float, panels, kGemmPanels);
  const int64_t row = int64_t{blockIdx.x} * kGemmTile, col = int64_t{blockIdx.y} * kGemmTile;
  float sum[8][4] = {};
  gemm_tile(sum, panels, left, row, m, right, col, n, 0, depth);
  gemm_write(sum, panels, row, m, col, n, out);
}

template <class Left, class Right, class Out>
void gemm(const Left& left, const Right& right, const Out& out, int64_t m, int64_t n, int64_t depth, Stream stream) {
  if (m == 0 || n == 0) return;
  launch(gemm_kernel<Left, Right, Out>, dim3(blocks_for(m, kGemmTile), blocks_for(n, kGemmTile)), dim3(kGemmThreads), 0,
         stream, left, right, out, m, n, depth);
}

// parts (n_parts, m, n) and, where there are any, sums (n_parts, n): the products of one run of rows each, and its
// sums of the right operand's rows. Block (tile of rows, tile of columns, part).
template <class Left, class Right>
__global__ void __launch_bounds__(kGemmThreads)
    gemm_parts_kernel(float* parts, float* sums, Left left, Right right, int64_t m, int64_t n, int64_t n_rows,
                      int64_t part_rows) {
  RF_SHARED(float, panels, kGemmPanels);
  const int64_t row = int64_t{blockIdx.x} * kGemmTile, col = int64_t{blockIdx.y} * kGemmTile, part = blockIdx.z;
  const int64_t first = part * part_rows, last = min(n_rows, first + part_rows);
  const int thread = static_cast<int>(threadIdx.x);
  const bool add = sums != nullptr && blockIdx.x == 0 && thread < kGemmTile;
  float sum[8][4] = {}, total = 0.0f;
  gemm_tile(sum, panels, left, row, m, right, col, n, first, last, [&](Shared<float> panel) {
    if (!add) return;
#pragma unroll
    for (int k = 0; k < kGemmDepth; ++k) total += static_cast<float>(panel[k * kGemmStride + thread]);
  });
  if (add && col + thread < n) sums[part * n + col + thread] = total;
  float* out = parts + part * m * n;
  gemm_write(sum, panels, row, m, col, n, [&](int64_t r, int64_t c, float value) { out[r * n + c] = value; });
}

// out (m, n), its rows `stride` apart, = sum over rows r of left(i, r) right(j, r); sums (n), which may be null, = the
// sums of right(j, r). The parts of a sum depend on sizes only.
template <class Left, class Right>
void gemm_over_rows(float* out, int64_t stride, float* sums, const Left& left, const Right& right, int64_t m, int64_t n,
                    int64_t n_rows, Stream stream) {
  const int64_t tiles_m = blocks_for(m, kGemmTile), tiles_n = blocks_for(n, kGemmTile);
  // Enough blocks to fill a device even when the result is one tile, 128 rows each at least, 64 MB of parts at most.
  const int64_t most = std::min({n_rows / 128, 1024 / (tiles_m * tiles_n), (int64_t{1} << 24) / (m * n), int64_t{512}});
  const int64_t n_parts = std::max<int64_t>(1, most);
  const int64_t part_rows =
      std::max<int64_t>(kGemmDepth, blocks_for((n_rows + n_parts - 1) / n_parts, kGemmDepth) * kGemmDepth);
  DeviceBuffer<float> parts(n_parts * m * n, stream), part_sums(sums == nullptr ? 0 : n_parts * n, stream);
  launch(gemm_parts_kernel<Left, Right>,
         dim3(static_cast<unsigned>(tiles_m), static_cast<unsigned>(tiles_n), static_cast<unsigned>(n_parts)),
         dim3(kGemmThreads), 0, stream, parts.data(), part_sums.data(), left, right, m, n, n_rows, part_rows);
  add_parts(out, stride, parts.data(), m * n, m, n, n_parts, stream);
  if (sums != nullptr) add_parts(sums, n, part_sums.data(), n, 1, n, n_parts, stream);
}

}  // namespace recsys_fast
