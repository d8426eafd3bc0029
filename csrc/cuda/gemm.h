// Products of matrices of floats: a 64 x 64 piece of the result per block, 32 numbers of it per thread in registers,
// both operands passing through shared memory a panel of the depth at a time.
//
// Operands and results are functors: an operand gives element (i, k) from wherever it comes (rows, a transpose, earlier
// rows of a sequence), a result takes (row, column, value) and finishes it (bias, activation, mask, residual). How
// panels are multiplied is a type, `Product`: float32 here, bfloat16 on tensor cores in cuda/gemm_bf16.h. It says
//   kDepth, kPanel, kFetched  steps of the depth in a panel, its words, and how many of its elements a thread fetches
//   Elements<kAlongDepth>     which of them: the first (i, k), and the way to the next
//   kPair                     how many of them, kDepth / kPair steps of the depth apart, come before the next
//   keep                      puts what was fetched into a panel
//   multiply                  adds to a thread's 32 sums
//   spread                    puts the sums where they belong in a tile with rows kGemmStride apart
// Two pairs of panels: what is needed next is on its way from L2 while this one is multiplied, and there is one barrier
// per panel.
#pragma once

#include <algorithm>

#include "cuda/part_sums.h"

namespace recsys_fast {

constexpr int kGemmTile = 64, kGemmDepth = 16, kGemmThreads = 128;
// Distance of two columns of a panel: a multiple of 4 keeps vectors aligned, and the padding spreads the columns that
// a transposing store writes at the same time over the banks.
constexpr int kGemmStride = kGemmTile + 4;
constexpr int kGemmPanel = kGemmDepth * kGemmStride;
constexpr int kGemmPanels = 4 * kGemmPanel;  // words of shared memory

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

// Where a thread's 8 x 4 piece begins, of a product in float32.
struct GemmPlace {
  int row = static_cast<int>(threadIdx.x) / 16 * 8, col = static_cast<int>(threadIdx.x) % 16 * 4;
};

// float32, panels of columns. Why 8 x 4: a step of the depth costs a thread three 16-byte loads of shared memory for 32
// multiply-adds; a warp has 16 x 64 of the tile, so those loads take 4 cycles of the banks where the arithmetic
// takes 8. A warp has whole rows of the tile, which attention's softmax needs.
struct FloatProduct {
  static constexpr int kDepth = kGemmDepth, kPair = 1, kPanel = kGemmPanel;
  static constexpr int kFetched = kGemmTile * kGemmDepth / kGemmThreads;

  // Neighbouring threads read neighbouring numbers.
  template <bool kAlongDepth>
  struct Elements {
    int i = static_cast<int>(threadIdx.x) / (kAlongDepth ? kDepth : 1) % kGemmTile;
    int k = kAlongDepth ? static_cast<int>(threadIdx.x) % kDepth : static_cast<int>(threadIdx.x) / kGemmTile;
    static constexpr int kStepI = kAlongDepth ? kGemmThreads / kDepth : 0;
    static constexpr int kStepK = kAlongDepth ? 0 : kGemmThreads / kGemmTile;
  };

  template <bool kAlongDepth>
  static __device__ __forceinline__ void keep(Shared<float> panel, const float (&next)[kFetched]) {
    const Elements<kAlongDepth> at;
#pragma unroll
    for (int e = 0; e < kFetched; ++e) {
      panel[(at.k + e * at.kStepK) * kGemmStride + at.i + e * at.kStepI] = next[e];
    }
  }

  // sum += left^T right for panels of kDepth columns.
  static __device__ __forceinline__ void multiply(float (&sum)[8][4], Shared<float> left, Shared<float> right) {
    const GemmPlace place;
    const Shared<float4> a = left.as<float4>(), b = right.as<float4>();
#pragma unroll 4
    for (int k = 0; k < kDepth; ++k) {
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

  static __device__ __forceinline__ void spread(Shared<float> tile, const float (&sum)[8][4]) {
    const GemmPlace place;
    const Shared<float4> vectors = tile.as<float4>();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int at = (place.row + i) * kGemmStride + place.col;
      vectors[at / 4] = make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
    }
  }
};

// Words of shared memory for a product: two pairs of panels; a tile of the result fits in too.
template <class Product>
constexpr int kGemmPanelsOf = 4 * Product::kPanel;
static_assert(kGemmPanelsOf<FloatProduct> == kGemmPanels && kGemmPanels >= kGemmTile * kGemmStride);

// Rows [first, n) of an operand, steps [from, end) of the depth; zeros elsewhere.
template <class Product, class Operand>
__device__ __forceinline__ void gemm_fetch(float (&next)[Product::kFetched], const Operand& operand, int64_t first,
                                           int64_t n, int64_t from, int64_t end) {
  constexpr bool kAlong = Operand::kAlongDepth;
  const typename Product::template Elements<kAlong> at;
  const int n_i = static_cast<int>(min(n - first, int64_t{kGemmTile}));
  const int n_k = static_cast<int>(min(end - from, int64_t{Product::kDepth}));
  constexpr int kPair = Product::kPair, kApart = Product::kDepth / kPair;
  if constexpr (Operand::kStrided) {
    const float* p = operand.at(first + at.i, from + at.k);
    const int64_t step = kAlong ? at.kStepI * operand.stride + at.kStepK : at.kStepK * operand.stride + at.kStepI;
    const int64_t apart = kAlong ? kApart : kApart * operand.stride;
#pragma unroll
    for (int e = 0; e < Product::kFetched; ++e) {
      const int i = at.i + e / kPair * at.kStepI, k = at.k + e / kPair * at.kStepK + e % kPair * kApart;
      next[e] = i < n_i && k < n_k ? p[e / kPair * step + e % kPair * apart] : 0.0f;
    }
  } else {
#pragma unroll
    for (int e = 0; e < Product::kFetched; ++e) {
      const int i = at.i + e / kPair * at.kStepI, k = at.k + e / kPair * at.kStepK + e % kPair * kApart;
      next[e] = i < n_i && k < n_k ? operand(first + i, from + k) : 0.0f;
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

// sum += left(row + i, k) right(col + j, k) over begin <= k < end, in the thread's places of the tile; rows from m and
// columns from n on are zeros. each(panel of the right operand) is called for every panel. All threads of the block
// take part.
template <class Product = FloatProduct, class Left, class Right, class Each = NoPanel>
__device__ __forceinline__ void gemm_tile(float (&sum)[8][4], Shared<float> panels, const Left& left, int64_t row,
                                          int64_t m, const Right& right, int64_t col, int64_t n, int64_t begin,
                                          int64_t end, Each&& each = Each()) {
  constexpr int kDepth = Product::kDepth, kPanel = Product::kPanel;
  if (begin >= end) return;  // operands without rows may have no memory
  float next_left[Product::kFetched], next_right[Product::kFetched];
  int slot = 0;
  gemm_fetch<Product>(next_left, left, row, m, begin, end);
  gemm_fetch<Product>(next_right, right, col, n, begin, end);
  __syncthreads();  // what was in the panels has been read
#pragma unroll 1
  for (int64_t from = begin; from < end; from += kDepth) {
    const Shared<float> a = panels + slot * kPanel, b = panels + (2 + slot) * kPanel;
    Product::template keep<Left::kAlongDepth>(a, next_left);
    Product::template keep<Right::kAlongDepth>(b, next_right);
    __syncthreads();
    if (from + kDepth < end) {
      gemm_fetch<Product>(next_left, left, row, m, from + kDepth, end);
      gemm_fetch<Product>(next_right, right, col, n, from + kDepth, end);
    }
    Product::multiply(sum, a, b);
    each(b);
    slot ^= 1;
  }
}

// The same in float32 with a left operand that lies in shared memory already, element (i, begin + k) at
// k kGemmStride + i; it may have been written just before. Behind `end`, to a whole panel, it holds finite numbers.
template <class Right>
__device__ __forceinline__ void gemm_kept(float (&sum)[8][4], Shared<float> kept, Shared<float> panels,
                                          const Right& right, int64_t col, int64_t n, int64_t begin, int64_t end) {
  float next[FloatProduct::kFetched];
  int slot = 0;
  gemm_fetch<FloatProduct>(next, right, col, n, begin, end);
  __syncthreads();
#pragma unroll 1
  for (int64_t from = begin; from < end; from += kGemmDepth) {
    const Shared<float> b = panels + slot * kGemmPanel;
    FloatProduct::keep<Right::kAlongDepth>(b, next);
    __syncthreads();
    if (from + kGemmDepth < end) gemm_fetch<FloatProduct>(next, right, col, n, from + kGemmDepth, end);
    FloatProduct::multiply(sum, kept + (from - begin) * kGemmStride, b);
    slot ^= 1;
  }
}

// Calls out(row + i, col + j, sum) for the tile's elements below (m, n), neighbouring columns by neighbouring threads,
// so that the text of `out` exists once and its stores are whole.
template <class Product = FloatProduct, class Out>
__device__ __forceinline__ void gemm_write(const float (&sum)[8][4], Shared<float> panels, int64_t row, int64_t m,
                                           int64_t col, int64_t n, const Out& out) {
  __syncthreads();
  Product::spread(panels, sum);
  __syncthreads();
#pragma unroll 1
  for (int e = static_cast<int>(threadIdx.x); e < kGemmTile * kGemmTile; e += kGemmThreads) {
    const int r = e / kGemmTile, c = e % kGemmTile;
    if (row + r < m && col + c < n) out(row + r, col + c, static_cast<float>(panels[r * kGemmStride + c]));
  }
}

// out(row, column, sum over k < depth of left(row, k) right(column, k)). A block per tile, those of the rows first: in
// one dimension, since a second one holds 65,535 tiles only.
template <class Product, class Left, class Right, class Out>
__global__ void __launch_bounds__(kGemmThreads)
    gemm_kernel(Left left, Right right, Out out, int64_t m, int64_t n, int64_t depth) {
  RF_SHARED(float, panels, kGemmPanelsOf<Product>);
  const unsigned tiles = static_cast<unsigned>((m + kGemmTile - 1) / kGemmTile);
  const int64_t row = int64_t{blockIdx.x % tiles} * kGemmTile, col = int64_t{blockIdx.x / tiles} * kGemmTile;
  float sum[8][4] = {};
  gemm_tile<Product>(sum, panels, left, row, m, right, col, n, 0, depth);
  gemm_write<Product>(sum, panels, row, m, col, n, out);
}

template <class Product = FloatProduct, class Left, class Right, class Out>
void gemm(const Left& left, const Right& right, const Out& out, int64_t m, int64_t n, int64_t depth, Stream stream) {
  if (m == 0 || n == 0) return;
  const int64_t tiles = int64_t{blocks_for(m, kGemmTile)} * blocks_for(n, kGemmTile);
  launch(gemm_kernel<Product, Left, Right, Out>, dim3(blocks_for(tiles, 1)), dim3(kGemmThreads), 0, stream, left, right,
         out, m, n, depth);
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
