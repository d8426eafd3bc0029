// Products of the blocks' tiles: scratch of any stride, results of any width, a bias to start from.
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
  for (int64_t j = 0; j < p.n_j; j += kTileVectors * kLanes) {
    const int64_t n_columns = std::min<int64_t>(kTileVectors * kLanes, p.n_j - j);
    const int64_t n_vectors = (n_columns + kLanes - 1) / kLanes, tail = n_columns - (n_vectors - 1) * kLanes;
    for (int64_t i = 0; i < p.n_i; i += kTileRows) {
      product_tile_any(p, std::min<int64_t>(kTileRows, p.n_i - i), n_vectors, i, j, tail);
    }
  }
}

// out (n, padded(m)) = rows (n, m) that are `row` apart, zeros behind them.
inline void pack_rows(float* out, const float* rows, int64_t row, int64_t n, int64_t m) {
  const int64_t mp = padded(m);
  for (int64_t i = 0; i < n; ++i) {
    std::copy_n(rows + i * row, m, out + i * mp);
    std::fill(out + i * mp + m, out + (i + 1) * mp, 0.0f);
  }
}

// out (m, padded(n)) = the transpose of rows (n, m) that are `row` apart, zeros behind its rows.
inline void pack_transpose(float* out, const float* rows, int64_t row, int64_t n, int64_t m) {
  const int64_t np = padded(n);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    int64_t j = 0;
    for (; j + kLanes <= m; j += kLanes) transpose_tile(out + j * np + i, np, rows + i * row + j, row);
    for (; j < m; ++j) {
      for (int64_t k = i; k < i + kLanes; ++k) out[j * np + k] = rows[k * row + j];
    }
  }
  for (int64_t j = 0; j < m; ++j) {
    for (int64_t k = i; k < n; ++k) out[j * np + k] = rows[k * row + j];
    std::fill(out + j * np + n, out + (j + 1) * np, 0.0f);
  }
}

}  // namespace recsys_fast
