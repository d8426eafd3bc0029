// Cholesky factorization of small to medium symmetric matrices, in place on the upper triangle: A = U^T U.
// Row-major with rows padded to the vector width. Right-looking over panels of kLanes rows, so nearly all work is the
// rank-k update of gemm.h.
#pragma once

#include <cmath>

#include "core/gemm.h"

namespace recsys_fast {

// Factors the kLanes x kLanes block at a, held in registers; inv receives 1 / U[k][k]. False when not positive.
RF_INLINE bool potrf_block(float* a, int64_t row, float* inv) {
  Vec u[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) u[i] = load(a + i * row);
  bool positive = true;
#pragma GCC unroll 16
  for (int k = 0; k < kLanes; ++k) {
    const float pivot = u[k][k];
    positive &= pivot > 0.0f;  // false for NaN too
    inv[k] = 1.0f / std::sqrt(pivot);
    u[k] *= broadcast(inv[k]);
    store(a + k * row, u[k]);
#pragma GCC unroll 16
    for (int i = k + 1; i < kLanes; ++i) u[i] -= broadcast(a[k * row + i]) * u[k];
  }
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

// Solves U x = y in place; x (n_padded).
inline void solve_upper(const float* u, int64_t row, const float* inv, float* x, int64_t n_padded) {
  for (int64_t k = n_padded - 1; k >= 0; --k) {
    const int64_t begin = (k + 1 + kLanes - 1) / kLanes * kLanes;  // whole vectors right of k's own block
    float sum = 0.0f;
    for (int64_t j = k + 1; j < std::min(begin, n_padded); ++j) sum += u[k * row + j] * x[j];
    if (begin < n_padded) sum += dot(u + k * row + begin, x + begin, n_padded - begin);
    x[k] = (x[k] - sum) * inv[k];
  }
}

}  // namespace recsys_fast
