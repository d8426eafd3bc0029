// One row of an ALS sweep: its entries, and its least squares problem scaled so that everything but the entries is I.
//
// y is in the eigenbasis of its Gram matrix, so a row's normal equations are (D + sum_j c_j y_j y_j^T) x = sum_j t_j
// y_j with D = w0 diag(spectrum) + reg_u diagonal. With s = D^-1/2, v_j = s * y_j and x = s * z they read (I + V^T C V)
// z = V^T t: no product with a Gram matrix anywhere, and a well conditioned system.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/arena.h"
#include "core/simd.h"
#include "ops/als.h"

namespace recsys_fast {

// Confidence, target and t' of an entry.
struct AlsEntry {
  float weight, target, constant;
};

RF_INLINE AlsEntry als_entry(const AlsProblem& problem, Rows<const float> y, const int32_t* col_idx, int64_t j) {
  const float w = problem.weights != nullptr ? problem.weights[j] : 1.0f;
  if (problem.targets == nullptr) {
    const float t = w > 0.0f ? w + problem.target_offset : 0.0f;
    return {std::abs(w), t, t};
  }
  const float t = problem.biased ? problem.targets[j] - y.row(col_idx[j])[y.d - 1] : problem.targets[j];
  return {std::abs(w), t, t * t};
}

// scale (d_padded) = D^-1/2 of a row with n entries, no element of D below smallest; zero in the padding. unobserved
// (d_padded) is w0 * spectrum.
inline void als_scale(float* scale, const AlsProblem& problem, const float* unobserved, int64_t n, Rows<const float> y,
                      float smallest) {
  const float size = static_cast<float>(n) + problem.unobserved_weight * static_cast<float>(y.n);
  const float reg = problem.regularization * std::pow(size, problem.nu);
  const int64_t dp = padded(y.d);
  for (int64_t k = 0; k < dp; ++k) scale[k] = 1.0f / std::sqrt(std::max(unobserved[k] + reg, smallest));
  std::fill(scale + y.d, scale + dp, 0.0f);
}

// Whether rows of y lack padding or the bias's feature, which als_complete adds.
inline bool als_incomplete(const AlsProblem& problem, Rows<const float> y) {
  return y.d != padded(y.d) || problem.biased;
}

// out (padded) = a row of y, zeros in the padding; a bias counts as feature 1.
inline void als_complete(float* out, const float* source, const AlsProblem& problem, int64_t d) {
  std::copy_n(source, d, out);
  std::fill(out + d, out + padded(d), 0.0f);
  if (problem.biased) out[d - 1] = 1.0f;
}

struct AlsRow {
  const AlsProblem& problem;
  Rows<const float> y;
  const int32_t* col_idx;  // all entries of the matrix: prefetching runs ahead into the next rows
  int64_t begin, end;      // this row's entries
  int64_t nnz;             // of the whole matrix
  int64_t d_padded;
  const float* scale;  // (d_padded) s, zero in the padding
  float* weight;       // (n) c_j >= 0
  float* target;       // (n) t_j
  double constant;     // sum of t'_j

  int64_t size() const { return end - begin; }

  // Fills weight, target and constant; returns the smallest weight.
  float read_entries() {
    if (problem.weights == nullptr && problem.targets == nullptr) {
      std::fill_n(weight, size(), 1.0f);
      std::fill_n(target, size(), 1.0f + problem.target_offset);
      constant = double{1.0f + problem.target_offset} * static_cast<double>(size());
      return 1.0f;
    }
    float smallest = std::numeric_limits<float>::infinity();
    constant = 0.0;
    for (int64_t j = begin; j < end; ++j) {
      const AlsEntry entry = als_entry(problem, y, col_idx, j);
      weight[j - begin] = entry.weight;
      target[j - begin] = entry.target;
      constant += entry.constant;
      smallest = std::min(smallest, entry.weight);
    }
    return smallest;
  }

  // out (n, d_padded) = factor_j * v_j, j counted from the row's begin; factor null means 1.
  void gather(float* out, int64_t j0, int64_t n, const float* factor) const {
    constexpr int64_t kAhead = 24;
    const int64_t whole = y.d / kLanes * kLanes;
    for (int64_t i = 0; i < n; ++i, out += d_padded) {
      const int64_t j = begin + j0 + i;
      if (j + kAhead < nnz) prefetch(y.row(col_idx[j + kAhead]), y.d * 4);
      const float* source = y.row(col_idx[j]);
      const Vec f = broadcast(factor != nullptr ? factor[j0 + i] : 1.0f);
      for (int64_t k = 0; k < whole; k += kLanes) store(out + k, load(source + k) * load(scale + k) * f);
      if (whole < d_padded) {  // the vector that holds the last, incomplete columns
        float tail[kLanes] = {};
        for (int64_t k = whole; k < y.d; ++k) tail[k - whole] = source[k];
        store(out + whole, load(tail) * load(scale + whole) * f);
      }
      if (problem.biased) out[y.d - 1] = scale[y.d - 1] * f[0];
    }
  }
};

}  // namespace recsys_fast
