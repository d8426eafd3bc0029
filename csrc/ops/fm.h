// Factorization machines over sparse rows: one epoch of gradient descent, one sweep of alternating least squares,
// predictions. Field-aware machines are the same with a vector per field; a machine of one field is a plain one.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

enum class FmLoss { kSquared = 0, kLogistic = 1, kBpr = 2 };
enum class FmOptimizer { kSgd = 0, kAdagrad = 1, kAdam = 2 };

// Row j of table (n_features, n_fields d + 1) holds feature j's vectors, one per field of the partner, and its weight:
//   score = bias + sum_j w_j x_j + sum_{j < i} v_{j, f(i)} . v_{i, f(j)} x_j x_i.
// state (n_features, s (n_fields d + 1)), s = 0, 1, 2: what the optimizer remembers; steps (n_features): updates of
// each row, Adam only. bias (4): the bias, its two states, its number of updates; bpr leaves it alone.
struct FmModel {
  Rows<float> table;
  Rows<float> state;
  int32_t* steps;
  double* bias;
  const int32_t* fields;  // (n_features), null: one field
  int64_t n_fields;
};

// targets (n_rows) numbers, 0/1 for logistic; weights (n_rows), null: 1. bpr has no targets: each row of positives is
// trained against a row drawn from negatives[negative_ptr[g]..negative_ptr[g + 1]), g its group.
struct FmData {
  Csr rows;
  const float* targets;
  const float* weights;
  const int32_t* positives;
  const int32_t* groups;
  int64_t n_positives;
  const int64_t* negative_ptr;
  const int32_t* negatives;
};

struct FmTraining {
  FmLoss loss;
  FmOptimizer optimizer;
  float learning_rate, weight_regularization, factor_regularization;
  int64_t batch_size;
  uint64_t seed;
  uint32_t epoch;
};

// One pass over the rows in an order drawn from (seed, epoch). A batch's gradients are taken from the values before it;
// each feature in it then steps once, along the mean over its rows plus regularization times its values. Returns the
// sum of the losses, each from the values before its batch. In place; the same bits for any n_threads. Rendle 2010.
template <class Device>
double fm_epoch(const FmModel& model, const FmData& data, const FmTraining& training, int n_threads);

// The same for field-aware machines. Juan et al. 2016.
template <class Device>
double ffm_epoch(const FmModel& model, const FmData& data, const FmTraining& training, int n_threads);

// out (n_rows) = scores. Overwrites; deterministic.
template <class Device>
void fm_predict(float* out, Rows<const float> table, double bias, Csr rows, int n_threads);
template <class Device>
void ffm_predict(float* out, Rows<const float> table, double bias, const int32_t* fields, int64_t n_fields, Csr rows,
                 int n_threads);

// Solves the bias, then each feature's weight and vector together given everything else, in the order of the features:
// least of 1/2 sum_r weight_r (score_r - target_r)^2 + 1/2 sum_j n_j (wreg w_j^2 + freg |v_j|^2), n_j entries of column
// j. table (n_features, d + 1) and bias (4) in place; residual (n_rows) and sums (n_rows, d) are scratch, overwritten.
// columns is the transpose of rows. Returns the objective. The same bits for any n_threads. Rendle 2012 (libFM), who
// solves one number at a time.
template <class Device>
double fm_als_sweep(Rows<float> table, double* bias, float* residual, Rows<float> sums, Csr rows, Csr columns,
                    const float* targets, const float* weights, float weight_regularization,
                    float factor_regularization, int n_threads);

}  // namespace recsys_fast
