// What linear item models are made of: the Gram matrix of the items, its inverse, and regressions of single items.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// out (n_cols, n_cols) = x^T x + regularization I for the sparse x; t is x transposed, rows of both sorted. Overwrites.
// Each sum runs in float64 over the rows of x in order and is rounded before the regularization is added: the same bits
// for any n_threads.
template <class Device>
void csr_gram(float* out, const Csr& t, const Csr& x, float regularization, int n_threads);

// a (n, n) <- a^-1 in place; a symmetric positive definite, of which the lower triangle is read. Returns -1, or the
// first row of the block at which a turned out not to be positive definite (a is then destroyed). Deterministic.
template <class Device>
int64_t spd_invert(float* a, int64_t n, int n_threads);

// Weights that predict single items from the others; t is the sparse x (n_users, n_items) transposed, rows of both
// sorted. Row r of ids, values (m, width) receives the counts[r] <= width weights of largest magnitude that predict
// items[r], by ascending id; what lies behind them is not written. The same bits for any n_threads.
struct ItemWeights {
  Rows<int32_t> ids;
  Rows<float> values;
  int32_t* counts;
  const int32_t* items;
};

// The weight that minimises 1/2 norm w^2 - pull w + l1 |w| + l2/2 w^2, over w >= 0 if asked for.
struct ElasticNet {
  float l1, l2;
  bool nonnegative;

  RF_HOST_DEVICE float weight(float pull, float norm) const {
    if (pull > l1) return (pull - l1) / (norm + l2);
    if (pull < -l1 && !nonnegative) return (pull + l1) / (norm + l2);
    return 0.0f;
  }
  // Whether a weight of 0 would move.
  RF_HOST_DEVICE bool calls(float gradient) const { return gradient > l1 || (!nonnegative && gradient < -l1); }
};

// min_w 1/2 |x_j - x w|^2 + l1 |w|_1 + l2/2 |w|^2 with w_j = 0, and w >= 0 if asked for, for every item j of `out`
// (SLIM, Ning & Karypis 2011), by cyclic coordinate descent until a pass over all candidates changes no weight by more
// than `tolerance`. gram (n_items, n_items) is x^T x, which is faster where most pairs of items share users, or null.
// Returns the number of items for which n_passes were not enough.
template <class Device>
int64_t slim_solve(const ItemWeights& out, const Csr& t, const Csr& x, const float* gram, double l1, double l2,
                   bool nonnegative, double tolerance, int64_t n_passes, int n_threads);

// min_w |x_j - x w|^2 + regularization |w|^2 over the width items i != j of largest x_i . x_j / sqrt(|x_i|^2 +
// regularization), exactly, for every item j of `out`. Items that share no row with j come in only where width is
// n_items - 1 or more. Returns the number of items whose system was not positive definite; they get no weights.
template <class Device>
int64_t ridge_solve(const ItemWeights& out, const Csr& t, const Csr& x, double regularization, int n_threads);

}  // namespace recsys_fast
