// Alternating least squares: one half-epoch over the rows of a sparse matrix, and the objective.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

enum class AlsSolver { kCholesky = 0, kCg = 1, kSubspace = 2 };

// Weights of one sweep's least squares problem. Row u minimises
//   sum_j c_j s_j^2 - 2 t_j s_j + t'_j  +  w0 sum_k spectrum_k x_k^2  +  reg_u |x|^2,   s_j = x . y_j,
// with c = weights (1 if null), t = targets if given (then t' = t^2), else c + target_offset (then t' = t);
// a negative weight counts as confidence |c| in target 0. reg_u = regularization * (n_u + w0 n_cols)^nu.
struct AlsProblem {
  const float* weights;
  const float* targets;
  const float* spectrum;  // (d), eigenvalues of y^T y; y is in their basis
  float target_offset;
  float regularization;
  float nu;
  float unobserved_weight;
  bool biased;  // the last column of x and y is a bias: y's counts as feature 1, its value is taken off the target
};

// Share of entry j in the objective, t' - 2 t s + c s^2 with s = x . y_j; the biases are the last numbers of both rows.
RF_HOST_DEVICE inline double als_entry_loss(const AlsProblem& problem, int64_t j, double s, float bias,
                                            float other_bias) {
  const double w = problem.weights != nullptr ? double{problem.weights[j]} : 1.0;
  double t = w > 0.0 ? w + problem.target_offset : 0.0, constant = t;
  if (problem.targets != nullptr) {
    t = problem.targets[j];
    if (problem.biased) {
      t -= double{bias} + other_bias;
      s -= double{bias} * other_bias;
    }
    constant = t * t;
  }
  return constant + s * ((w < 0.0 ? -w : w) * s - 2.0 * t);
}

// x (n, d) <- argmin per row, given y (m, d), m = matrix.n_cols; rows without entries become 0. Overwrites x; reads x
// as the start of cg and subspace. Returns the sum of the rows' minima. Deterministic for any n_threads. Hu, Koren &
// Volinsky 2008; Takacs, Pilaszy & Tikk 2011 (cg); Rendle et al. 2021 (subspace).
template <class Device>
double als_sweep(Rows<float> x, Rows<const float> y, Csr matrix, const AlsProblem& problem, AlsSolver solver,
                 int n_steps, int block_size, int n_threads);

// The whole objective: observed part + w0 <gram_x, gram_y> + sum_u reg_u |x_u|^2 + sum_i reg_i |y_i|^2, in float64.
// gram_x, gram_y (d, d); col_counts (m) entries per column. Deterministic for any n_threads.
template <class Device>
double als_loss(Rows<const float> x, Rows<const float> y, const float* gram_x, const float* gram_y, Csr matrix,
                const AlsProblem& problem, const int64_t* col_counts, int n_threads);

}  // namespace recsys_fast
