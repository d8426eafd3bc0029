// Dense float32 micro-kernels over row-major scratch whose rows are padded to the vector width (see padded()).
// One register tile serves all products: MR rows of broadcasts times NV vectors of columns, accumulated over k.
#pragma once

#include <algorithm>

#include "core/simd.h"

namespace recsys_fast {

// Registers: MR * NV sums, NV loads and a broadcast must fit; at least 8 independent sums hide the FMA's latency.
inline constexpr int kTileVectors = kVectorRegisters == 32 ? 4 : 2;
inline constexpr int kTileRows = 6;

// sum[i] += a(i, .) b over n_k columns, a(i, k) = a[i][k * a_col]: the tile's inner loop, for callers that keep the
// sums in registers and whose rows lie anywhere.
template <int MR, int NV>
RF_INLINE void gemm_accumulate(Vec (&sum)[MR][NV], int64_t n_k, const float* const (&a)[MR], int64_t a_col,
                               const float* b, int64_t b_row) {
  for (int64_t k = 0; k < n_k; ++k) {
    Vec right[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) right[v] = load(b + k * b_row + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const Vec left = broadcast(a[i][k * a_col]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sum[i][v] += left * right[v];
    }
  }
}

// c[i, j] (+)= sign * sum_k a(i, k) b(k, j): a(i, k) = a[i * a_row + k * a_col], b(k, j) = b[k * b_row + j]; MR x NV
// vectors.
template <int MR, int NV>
RF_INLINE void gemm_tile(int64_t n_k, const float* a, int64_t a_row, int64_t a_col, const float* b, int64_t b_row,
                         float* c, int64_t c_row, float sign, bool accumulate) {
  Vec sum[MR][NV] = {};
  for (int64_t k = 0; k < n_k; ++k) {
    Vec right[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) right[v] = load(b + k * b_row + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const Vec left = broadcast(a[i * a_row + k * a_col]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sum[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      float* at = c + i * c_row + v * kLanes;
      store(at, accumulate ? load(at) + sign * sum[i][v] : sign * sum[i][v]);
    }
  }
}

// Calls tile.template operator()<MR, NV>() with MR = n_rows <= MaxRows and NV = n_vectors <= MaxVectors.
template <int MaxRows, int MaxVectors, class Tile>
RF_INLINE void with_tile(int64_t n_rows, int64_t n_vectors, Tile&& tile) {
  if constexpr (MaxRows > 1) {
    if (n_rows < MaxRows) return with_tile<MaxRows - 1, MaxVectors>(n_rows, n_vectors, tile);
  }
  if constexpr (MaxVectors > 1) {
    if (n_vectors < MaxVectors) return with_tile<MaxRows, MaxVectors - 1>(n_rows, n_vectors, tile);
  }
  tile.template operator()<MaxRows, MaxVectors>();
}

// gemm_tile for n_rows <= kTileRows and n_vectors <= kTileVectors known only at run time.
template <int MR = kTileRows, int NV = kTileVectors>
inline void gemm_tile_any(int n_rows, int n_vectors, int64_t n_k, const float* a, int64_t a_row, int64_t a_col,
                          const float* b, int64_t b_row, float* c, int64_t c_row, float sign, bool accumulate) {
  if constexpr (MR > 1) {
    if (n_rows < MR) {
      return gemm_tile_any<MR - 1, NV>(n_rows, n_vectors, n_k, a, a_row, a_col, b, b_row, c, c_row, sign, accumulate);
    }
  }
  if constexpr (NV > 1) {
    if (n_vectors < NV) {
      return gemm_tile_any<MR, NV - 1>(n_rows, n_vectors, n_k, a, a_row, a_col, b, b_row, c, c_row, sign, accumulate);
    }
  }
  gemm_tile<MR, NV>(n_k, a, a_row, a_col, b, b_row, c, c_row, sign, accumulate);
}

// c (n_i, n_j) (+)= a (n_i, n_k) b (n_k, n_j). n_j is a multiple of kLanes; a's rows need no padding.
inline void gemm(float* c, int64_t c_row, const float* a, int64_t a_row, const float* b, int64_t b_row, int64_t n_i,
                 int64_t n_j, int64_t n_k, bool accumulate) {
  for (int64_t j = 0; j < n_j; j += kTileVectors * kLanes) {
    const int n_vectors = static_cast<int>(std::min<int64_t>(kTileVectors, (n_j - j) / kLanes));
    for (int64_t i = 0; i < n_i; i += kTileRows) {
      const int n_rows = static_cast<int>(std::min<int64_t>(kTileRows, n_i - i));
      gemm_tile_any(n_rows, n_vectors, n_k, a + i * a_row, a_row, 1, b + j, b_row, c + i * c_row + j, c_row, 1.0f,
                    accumulate);
    }
  }
}

// Upper triangle of c (n, n) += sign * a^T a, a (n_k, n) with rows a_row apart. n is a multiple of kLanes. Elements of
// c left of the diagonal inside the tiles that touch it are overwritten with the (symmetric) products too.
inline void syrk_upper(float* c, int64_t c_row, const float* a, int64_t a_row, int64_t n, int64_t n_k, float sign,
                       bool accumulate) {
  for (int64_t i = 0; i < n; i += kTileRows) {
    const int n_rows = static_cast<int>(std::min<int64_t>(kTileRows, n - i));
    for (int64_t j = i / kLanes * kLanes; j < n; j += kTileVectors * kLanes) {
      const int n_vectors = static_cast<int>(std::min<int64_t>(kTileVectors, (n - j) / kLanes));
      gemm_tile_any(n_rows, n_vectors, n_k, a + i, 1, a_row, a + j, a_row, c + i * c_row + j, c_row, sign, accumulate);
    }
  }
}

}  // namespace recsys_fast
