// Epochs of stochastic gradient descent over the entries of a sparse matrix: pairwise, by estimated rank, logistic, and
// ratings. All share the tables, the schedule, the optimizers and the sampler of negatives; only the loss differs.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

enum class SgdOptimizer { kSgd = 0, kAdagrad = 1, kAdam = 2 };
enum class SgdFrozen { kNone = 0, kItems = 1, kAllButPositives = 2 };
enum class SgdRatingLoss { kSquared = 0, kSmoothL1 = 1, kLogistic = 2 };

// Users or items: their rows, or the rows of their features. With features (features.row_ptr != nullptr) the vector of
// one is the sum of its feature rows times their values, and a row's gradient is the vector's times the value.
// state: per element the optimizer's numbers, s = 0 (SGD), 1 (Adagrad: sum of squares), 2 (Adam: m of the whole row,
// then v). A null bias is absent.
struct SgdTable {
  Rows<float> rows;   // (n_rows, d)
  float* bias;        // (n_rows) or null
  float* state;       // (n_rows, s d)
  float* bias_state;  // (n_rows, s)
  int32_t* steps;     // (n_rows) updates so far, Adam only
  Csr features;       // (n, n_rows) or null
  int64_t n;          // users or items: features.n_rows or rows.n
};

struct SgdProblem {
  SgdTable users, items;
  Csr data;            // (n_users, n_items), rows sorted without duplicates
  const float* rates;  // (nnz) visits of each entry: floor, plus one more with probability of the fraction; null: one
  SgdOptimizer optimizer;
  float learning_rate;
  float regularization;  // row += learning_rate * (gradient - regularization * row), scaled by the optimizer
  SgdFrozen frozen;
  uint64_t seed;
  uint32_t epoch;
  // true: blocks of users x items that share nothing run in parallel, and the bits do not depend on n_threads; where
  // that is impossible (features, k-th order statistics) the epoch is sequential. false: no order between users.
  // CUDA has neither features nor k-th order statistics.
  bool deterministic;
};

// loss: sum over the samples, each before its update. n_skipped: visits of users who have every item.
struct SgdTotals {
  double loss = 0.0;
  int64_t n_trained = 0, n_skipped = 0;
};

// One visit: negative j; loss -w log sigmoid(x), x = u.(i - j) + b_i - b_j, w = data.values. Of n_candidates verified
// negatives the one with the highest score is taken (Zhang et al. 2013); cdf (n_items) running sums of the items'
// weights, or null: uniform. Rendle et al. 2009. Updates the tables in place.
template <class Device>
SgdTotals bpr_epoch(const SgdProblem& problem, const double* cdf, int n_candidates, int n_threads);

// One visit: verified negatives until s_j > s_i - 1, at most max_trials; loss w L (1 - s_i + s_j) with rank weight
// L = max(1, log(max(1, (n_items - 1) / trials))). Weston et al. 2011. n_os > 0: the positive is the k_os-th best of
// n_os entries drawn from the user's row (Weston et al. 2013).
template <class Device>
SgdTotals warp_epoch(const SgdProblem& problem, const double* cdf, int max_trials, int k_os, int n_os, int n_threads);

// One visit: the entry with label 1 and weight data.values, n_negatives with label 0, all scored before any of them
// moves; loss -w log sigmoid(s_i) - sum_j log sigmoid(-s_j), s = u.i + b_u + b_i. Johnson 2014.
template <class Device>
SgdTotals logistic_epoch(const SgdProblem& problem, const double* cdf, int n_negatives, int n_threads);

// One visit: the entry's rating r = data.values; loss of s = mean + b_u + b_i + u.i: e^2 / 2 with e = r - s, smooth L1
// of e, or -log sigmoid for r in {0, 1}. Koren, Bell & Volinsky 2009; with user features SVD++ (Koren 2008).
template <class Device>
SgdTotals rating_epoch(const SgdProblem& problem, float mean, SgdRatingLoss loss, int n_threads);

}  // namespace recsys_fast
