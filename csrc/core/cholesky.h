// Cholesky factorization of small to medium symmetric matrices, in place on the upper triangle: A = U^T U.
// Row-major with rows padded to the vector width. Right-looking over panels of kLanes rows, so nearly all work is the
// rank-k update of gemm.h.
#pragma once

#include <cmath>

#include "core/gemm.h"

namespace recsys_fast {

// Lane K of v in every lane.
template <int K, int... Lane>
RF_INLINE Vec spread(Vec v, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(v, v, (K + 0 * Lane)...);
}
template <int K>
RF_INLINE Vec spread(Vec v) {
  return spread<K>(v, std::make_integer_sequence<int, kLanes>{});
}

// The first K lanes of v, zeros in the others.
template <int K, int... Lane>
RF_INLINE Vec first_lanes(Vec v, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(v, Vec{}, (Lane < K ? Lane : Lane + kLanes)...);
}
template <int K>
RF_INLINE Vec first_lanes(Vec v) {
  return first_lanes<K>(v, std::make_integer_sequence<int, kLanes>{});
}

// The rows of a block below row K lose their multiples of it; itself it stays unscaled.
template <int K>
RF_INLINE void eliminate(Vec (&u)[kLanes], float* multipliers) {
  if constexpr (K + 1 < kLanes) {
    const Vec share = u[K] / spread<K>(u[K]);
    // The next pivot waits for its row alone, which goes ahead of the others' way through memory.
    u[K + 1] -= spread<K + 1>(share) * u[K];
    store(multipliers, share);
#pragma GCC unroll 16
    for (int i = K + 2; i < kLanes; ++i) u[i] -= broadcast(multipliers[i]) * u[K];
  }
}

// Factors the kLanes x kLanes block at a, held in registers; inv receives 1 / U[k][k]. False when not positive.
// The square roots come last, all at once, so that a pivot's chain is a division and a product-sum. A function of its
// own: among others' variables gcc spills its rows.
[[gnu::noinline]] inline bool potrf_block(float* a, int64_t row, float* inv) {
  Vec u[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) u[i] = load(a + i * row);
  [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
    (eliminate<K>(u, a + K * row), ...);
    ((inv[K] = u[K][K]), ...);
  }(std::make_integer_sequence<int, kLanes>{});
  bool positive = true;
  for (int k = 0; k < kLanes; ++k) positive &= inv[k] > 0.0f;  // false for NaN too
  store(inv, 1.0f / sqrt(load(inv)));
#pragma GCC unroll 16
  for (int k = 0; k < kLanes; ++k) store(a + k * row, u[k] * broadcast(inv[k]));
  return positive;
}

// Solves U11^T X = A12 in place for the kLanes rows of a panel; n columns right of the block at `block`.
RF_INLINE void trsm_panel(const float* block, float* right, int64_t row, const float* inv, int64_t n) {
  for (int64_t j = 0; j < n; j += kLanes) {
    Vec x[kLanes];
#pragma GCC unroll 16
    for (int k = 0; k < kLanes; ++k) x[k] = load(right + k * row + j);
#pragma GCC unroll 16
    for (int k = 0; k < kLanes; ++k) {
      x[k] *= broadcast(inv[k]);
      store(right + k * row + j, x[k]);
#pragma GCC unroll 16
      for (int i = k + 1; i < kLanes; ++i) x[i] -= broadcast(block[k * row + i]) * x[k];
    }
  }
}

// Factors a (n, n), rows `row` >= padded(n) apart, whose padding rows and columns hold the identity, and carries the
// right-hand sides in columns [n_padded, n_columns) along: they become U^-T times themselves. n_padded = padded(n).
// inv (n_padded) receives the inverse diagonal. Returns false where a pivot is not positive (result unusable).
inline bool cholesky_upper(float* a, int64_t row, int64_t n_padded, int64_t n_columns, float* inv) {
  bool positive = true;
  for (int64_t k = 0; k < n_padded; k += kLanes) {
    float* block = a + k * row + k;
    positive &= potrf_block(block, row, inv + k);
    const int64_t rest = n_columns - k - kLanes;
    if (rest <= 0) break;
    trsm_panel(block, block + kLanes, row, inv + k, rest);
    const float* panel = block + kLanes;
    for (int64_t i = 0; i < n_padded - k - kLanes; i += kTileRows) {
      const int n_rows = static_cast<int>(std::min<int64_t>(kTileRows, n_padded - k - kLanes - i));
      for (int64_t j = i / kLanes * kLanes; j < rest; j += kTileVectors * kLanes) {
        const int n_vectors = static_cast<int>(std::min<int64_t>(kTileVectors, (rest - j) / kLanes));
        gemm_tile_any(n_rows, n_vectors, kLanes, panel + i, 1, row, panel + j, row,
                      block + (kLanes + i) * row + kLanes + j, row, -1.0f, true);
      }
    }
  }
  return positive;
}

// w = U^-1 x for a block's rows u, given as columns of U, and w = x / diagonal.
template <int K>
RF_INLINE void substitute(const Vec (&column)[kLanes], Vec inv, Vec& w) {
  w -= spread<K>(w) * first_lanes<K>(column[K] * inv);
  if constexpr (K > 1) substitute<K - 1>(column, inv, w);
}

// Solves U x = y in place; x (n_padded).
inline void solve_upper(const float* u, int64_t row, const float* inv, float* x, int64_t n_padded) {
  for (int64_t k = n_padded - kLanes; k >= 0; k -= kLanes) {
    const float* block = u + k * row;
    Vec w = load(x + k), lanes[kLanes] = {};
    if (k + kLanes < n_padded) {
      for (int64_t j = k + kLanes; j < n_padded; j += kLanes) {
        const Vec known = load(x + j);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) lanes[i] += load(block + i * row + j) * known;
      }
      transpose_groups<kLanes / 2>(lanes);
      Vec sum[4] = {};
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) sum[i % 4] += lanes[i];
      w -= (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) lanes[i] = load(block + i * row + k);
    transpose_groups<kLanes / 2>(lanes);
    w *= load(inv + k);
    substitute<kLanes - 1>(lanes, load(inv + k), w);
    store(x + k, w);
  }
}

}  // namespace recsys_fast
