// Products of attention's and feed-forward's tiles: any stride on the left, also transposed, results of any width, a
// bias to start from. core/gemm.h has the plain products, cpu/conv_tile.h those over listed rows.
#pragma once

#include <algorithm>

#include "core/gemm.h"

namespace recsys_fast {

// c (i, j) = start[j] + sum_k a(i, k) b(k, j), a(i, k) = a[i a_row + k a_col], or c += that without start. Rows of b
// have room for whole vectors; of c no more than n_j columns are written.
struct Product {
  const float* a;
  int64_t a_row, a_col;
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
  int64_t n_i, n_j, n_k;
  const float* start = nullptr;  // whole vectors
  bool accumulate = false;
};

template <int MR, int NV>
inline void product_tile(const Product& p, int64_t i, int64_t j, int64_t tail) {
  Vec sum[MR][NV] = {};
  if (p.start != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const Vec bias = load(p.start + j + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < MR; ++r) sum[r][v] = bias;
    }
  }
  const float* rows[MR];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) rows[r] = p.a + (i + r) * p.a_row;
  if (p.a_col == 1) {
    gemm_accumulate<MR, NV>(sum, p.n_k, rows, 1, p.b + j, p.b_row);
  } else {
    gemm_accumulate<MR, NV>(sum, p.n_k, rows, p.a_col, p.b + j, p.b_row);
  }
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
    float* at = p.c + (i + r) * p.c_row + j;
#pragma GCC unroll 8
    for (int v = 0; v < NV - 1; ++v) {
      store(at + v * kLanes, p.accumulate ? load(at + v * kLanes) + sum[r][v] : sum[r][v]);
    }
    float* last = at + (NV - 1) * kLanes;
    if (tail == kLanes) {
      store(last, p.accumulate ? load(last) + sum[r][NV - 1] : sum[r][NV - 1]);
    } else {
      store_first(last, p.accumulate ? load_first(last, tail) + sum[r][NV - 1] : sum[r][NV - 1], tail);
    }
  }
}

template <int MR = kTileRows, int NV = kTileVectors>
inline void product_tile_any(const Product& p, int64_t n_rows, int64_t n_vectors, int64_t i, int64_t j, int64_t tail) {
  if constexpr (MR > 1) {
    if (n_rows < MR) return product_tile_any<MR - 1, NV>(p, n_rows, n_vectors, i, j, tail);
  }
  if constexpr (NV > 1) {
    if (n_vectors < NV) return product_tile_any<MR, NV - 1>(p, n_rows, n_vectors, i, j, tail);
  }
  product_tile<MR, NV>(p, i, j, tail);
}

inline void product(const Product& p) {
  // Panels of nearly equal width: one of a single vector would wait for its loads.
  const int64_t n_vectors = (p.n_j + kLanes - 1) / kLanes, n_panels = (n_vectors + kTileVectors - 1) / kTileVectors;
  for (int64_t panel = 0, first = 0; panel < n_panels; ++panel) {
    const int64_t last = (panel + 1) * n_vectors / n_panels, j = first * kLanes;
    const int64_t tail = std::min<int64_t>(kLanes, p.n_j - (last - 1) * kLanes);
    for (int64_t i = 0; i < p.n_i; i += kTileRows) {
      product_tile_any(p, std::min<int64_t>(kTileRows, p.n_i - i), last - first, i, j, tail);
    }
    first = last;
  }
}

}  // namespace recsys_fast
