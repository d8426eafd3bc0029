// iALS++ (Rendle et al. 2021): Newton steps over blocks of columns, given the rest. In the eigenbasis the blocks of the
// unobserved part do not couple, so a block's system is I + V_B^T C V_B and its gradient needs the predictions only.
#pragma once

#include "cpu/als_cg.h"
#include "cpu/als_cholesky.h"

namespace recsys_fast {

inline int64_t als_subspace_bytes(int64_t n, int64_t dp, int64_t block) {
  const int64_t panel = als_panel_rows(block);
  return static_cast<int64_t>(als_primal_bytes(block) + 3 * Arena::padded<float>(block) + 2 * Arena::padded<float>(n) +
                              Arena::padded<float>(panel * std::max(block, dp)));
}

// z (dp) in: start, out: after n_steps passes over all blocks. Returns the row's objective at z.
inline double als_subspace(const AlsRow& row, float* z, const float* root_weight, int n_steps, int64_t block,
                           Arena& arena) {
  const int64_t n = row.size(), dp = row.d_padded;
  float *prediction = arena.take<float>(n), *residual = arena.take<float>(n);
  float *gradient = arena.take<float>(block), *step = arena.take<float>(block);
  const int64_t panel_rows = als_panel_rows(block);
  float* panel = arena.take<float>(panel_rows * std::max(block, dp));
  for (int64_t j = 0; j < n; j += panel_rows) {
    const int64_t rows = std::min(panel_rows, n - j);
    row.gather(panel, j, rows, 0, dp, nullptr);
    for (int64_t i = 0; i < rows; ++i) prediction[j + i] = dot(panel + i * dp, z, dp);
  }
  const size_t mark = arena.mark();
  for (int pass = 0; pass < n_steps; ++pass) {
    for (int64_t first = 0; first < dp; first += block) {
      const int64_t width = std::min(block, dp - first);
      for (int64_t j = 0; j < n; ++j) residual[j] = row.target[j] - row.weight[j] * prediction[j];
      for (int64_t k = 0; k < width; ++k) gradient[k] = -z[first + k];
      if (std::isnan(als_primal(row, step, first, width, root_weight, residual, gradient, arena))) return NAN;
      arena.rewind(mark);
      for (int64_t k = 0; k < width; ++k) z[first + k] += step[k];
      for (int64_t j = 0; j < n; j += panel_rows) {
        const int64_t rows = std::min(panel_rows, n - j);
        row.gather(panel, j, rows, first, width, nullptr);
        for (int64_t i = 0; i < rows; ++i) prediction[j + i] += dot(panel + i * width, step, width);
      }
    }
  }
  double objective = row.constant + dot(z, z, dp);
  for (int64_t j = 0; j < n; ++j) {
    objective += double{prediction[j]} * (double{row.weight[j]} * prediction[j] - 2.0 * row.target[j]);
  }
  return objective;
}

}  // namespace recsys_fast
