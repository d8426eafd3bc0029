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
    const float* weights = problem.weights;
    const float* targets = problem.targets;
    if (weights == nullptr && targets == nullptr) {
      std::fill_n(weight, size(), 1.0f);
      std::fill_n(target, size(), 1.0f + problem.target_offset);
      constant = double{1.0f + problem.target_offset} * static_cast<double>(size());
      return 1.0f;
    }
    float smallest = std::numeric_limits<float>::infinity();
    constant = 0.0;
    for (int64_t j = begin; j < end; ++j) {
      const float w = weights != nullptr ? weights[j] : 1.0f;
      float t = w > 0.0f ? w + problem.target_offset : 0.0f;
      float t_constant = t;
      if (targets != nullptr) {
        t = problem.biased ? targets[j] - y.row(col_idx[j])[y.d - 1] : targets[j];
        t_constant = t * t;
      }
      weight[j - begin] = std::abs(w);
      target[j - begin] = t;
      constant += t_constant;
      smallest = std::min(smallest, std::abs(w));
    }
    return smallest;
  }

  // out (n_columns, padded) = columns [first, first + n_columns) of factor_j * v_j, j counted from the row's begin;
  // factor null means 1. n_columns is a multiple of kLanes.
  void gather(float* out, int64_t j0, int64_t n, int64_t first, int64_t n_columns, const float* factor) const {
    constexpr int64_t kAhead = 24;
    const int64_t whole = std::min(first + n_columns, y.d / kLanes * kLanes);
    for (int64_t i = 0; i < n; ++i, out += n_columns) {
      const int64_t j = begin + j0 + i;
      if (j + kAhead < nnz) prefetch(y.row(col_idx[j + kAhead]) + first, std::min(n_columns, y.d - first) * 4);
      const float* source = y.row(col_idx[j]);
      const Vec f = broadcast(factor != nullptr ? factor[j0 + i] : 1.0f);
      for (int64_t k = first; k < whole; k += kLanes) store(out + k - first, load(source + k) * load(scale + k) * f);
      if (first + n_columns > whole) {  // the vector that holds the last, incomplete columns
        float tail[kLanes] = {};
        for (int64_t k = std::max(whole, first); k < y.d; ++k) tail[k % kLanes] = source[k];
        const int64_t k = std::max(whole, first);
        store(out + k - first, load(tail) * load(scale + k) * f);
      }
      if (problem.biased && y.d - 1 >= first && y.d - 1 < first + n_columns)
        out[y.d - 1 - first] = scale[y.d - 1] * f[0];
    }
  }
};

}  // namespace recsys_fast
