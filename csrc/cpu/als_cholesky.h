// Exact ALS rows. Two forms of the scaled system, with W = C^1/2 V (n x d) and h = C^-1/2 t:
//   primal  (I + W^T W) z = W^T h             n d^2 + d^3 / 3 operations
//   dual    z = W^T (I + W W^T)^-1 h          n^2 d + n^3 / 3 operations, for rows shorter than d
#pragma once

#include "core/cholesky.h"
#include "cpu/als_row.h"

namespace recsys_fast {

// Rows gathered together before a rank-k update: a panel of about 64 KB.
inline int64_t als_panel_rows(int64_t width) { return std::clamp<int64_t>(16384 / width, 16, 256); }

inline int64_t als_primal_bytes(int64_t width) {
  return static_cast<int64_t>(Arena::padded<float>(width * (width + kLanes)) + 2 * Arena::padded<float>(width) +
                              Arena::padded<float>(als_panel_rows(width) * width));
}

// Solves (I + sum_j c_j v_j v_j^T) z = sum_j t_j v_j. root_weight (n) is c^1/2. Overwrites z (d_padded). Returns
// z . (right-hand side), NaN when the factorization failed.
inline double als_primal(const AlsRow& row, float* z, const float* root_weight, Arena& arena) {
  const int64_t n = row.size(), width = row.d_padded, stride = width + kLanes, panel_rows = als_panel_rows(width);
  float* a = arena.take<float>(width * stride);
  float *inv = arena.take<float>(width), *b = arena.take<float>(width);
  float* panel = arena.take<float>(panel_rows * width);
  std::fill_n(a, width * stride, 0.0f);
  for (int64_t k = 0; k < width; ++k) a[k * stride + k] = 1.0f;
  std::fill_n(b, width, 0.0f);
  for (int64_t j = 0; j < n; j += panel_rows) {
    const int64_t rows = std::min(panel_rows, n - j);
    row.gather(panel, j, rows, root_weight);
    syrk_upper(a, stride, panel, width, width, rows, 1.0f, true);
    for (int64_t i = 0; i < rows; ++i) {
      // The panel holds c^1/2 v; where c is 0 it has lost v, and t * v is gathered again.
      const float root = root_weight[j + i];
      if (root > 0.0f) {
        axpy(b, row.target[j + i] / root, panel + i * width, width);
      } else if (row.target[j + i] != 0.0f) {
        row.gather(panel + i * width, j + i, 1, nullptr);
        axpy(b, row.target[j + i], panel + i * width, width);
      }
    }
  }
  for (int64_t k = 0; k < width; ++k) a[k * stride + width] = b[k];
  const bool positive = cholesky_upper(a, stride, width, stride, inv);
  for (int64_t k = 0; k < width; ++k) z[k] = a[k * stride + width];
  solve_upper(a, stride, inv, z, width);
  return positive ? dot(b, z, width) : NAN;
}

inline int64_t als_dual_bytes(int64_t n, int64_t width) {
  const int64_t np = padded(n);
  return static_cast<int64_t>(Arena::padded<float>(np * (np + kLanes)) + 3 * Arena::padded<float>(np) +
                              2 * Arena::padded<float>(width * np));
}

// z (d_padded) = W^T u with (I + W W^T) u = h; all weights must be positive. Returns z . W^T h, NaN when the
// factorization failed.
inline double als_dual(const AlsRow& row, float* z, const float* root_weight, Arena& arena) {
  const int64_t n = row.size(), np = padded(n), stride = np + kLanes, width = row.d_padded;
  float* a = arena.take<float>(np * stride);
  float *inv = arena.take<float>(np), *h = arena.take<float>(np), *u = arena.take<float>(np);
  float* transposed = arena.take<float>(width * np);
  float* panel = arena.take<float>(np * width);
  row.gather(panel, 0, n, root_weight);
  for (int64_t i = 0; i < np; ++i) h[i] = i < n ? row.target[i] / root_weight[i] : 0.0f;
  std::fill(panel + n * width, panel + np * width, 0.0f);
  for (int64_t i = 0; i < np; i += kLanes) {
    for (int64_t k = 0; k < width; k += kLanes)
      transpose_tile(transposed + k * np + i, np, panel + i * width + k, width);
  }
  syrk_upper(a, stride, transposed, np, np, width, 1.0f, false);
  for (int64_t i = 0; i < np; ++i) {
    a[i * stride + i] += 1.0f;
    std::fill_n(a + i * stride + np, kLanes, 0.0f);
    a[i * stride + np] = h[i];
  }
  const bool positive = cholesky_upper(a, stride, np, stride, inv);
  for (int64_t i = 0; i < np; ++i) u[i] = a[i * stride + np];
  solve_upper(a, stride, inv, u, np);
  for (int64_t k = 0; k < width; ++k) z[k] = dot(transposed + k * np, u, np);
  double explained = 0.0;  // W z = (K - I) u = h - u
  for (int64_t i = 0; i < n; ++i) explained += double{h[i]} * (double{h[i]} - u[i]);
  return positive ? explained : NAN;
}

}  // namespace recsys_fast
