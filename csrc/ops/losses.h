// Losses with their gradients: over all items of a table, over candidates that the rows share or that each row has of
// its own, and of plain predictions. Formulas in recsys_fast/ops/losses.py. All overwrite their outputs; the bits do
// not depend on n_threads.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

enum class ScoreLoss { kSoftmax = 0, kBce = 1, kBpr = 2, kBprMax = 3, kTop1 = 4, kTop1Max = 5 };

// Outputs h (T, d) that score rows (n, d) of items with biases (n) or null; gradients of the same shapes, times scale.
// targets (T): which row is the target, -1 for none. weights (T) or null: of the rows. With target_ptr (T + 1), in
// multinomial_loss only, row t has the targets and weights [target_ptr[t], target_ptr[t + 1]), none of them -1.
struct ScoreProblem {
  float *dh, *drows, *dbias;
  Rows<const float> h, rows;
  const float* bias;
  const int32_t* targets;
  const float* weights;
  float scale;
  bool bf16;  // operands of the products rounded to bfloat16; only where losses_have_bf16()
  const int64_t* target_ptr = nullptr;
};

struct ScoreLossOptions {
  ScoreLoss kind;
  float beta, regularization;
};

// Whether ScoreProblem::bf16 may be set.
bool losses_have_bf16();

// sum_t w_t (log sum_j exp s_tj - s_t,target), s = h . row + bias. Softmax cross-entropy over all items.
template <class Device>
double softmax_loss(const ScoreProblem& problem, int n_threads);

// The same with target_ptr: the negative multinomial log-likelihood of the targets' weights.
template <class Device>
double multinomial_loss(const ScoreProblem& problem, int n_threads);

// The rows are candidates of every h. ids (n): rows with the id of a row's target are left out for it, or null. log_q
// (n) is subtracted from the scores, or null.
template <class Device>
double shared_loss(const ScoreProblem& problem, const int32_t* ids, const float* log_q, const ScoreLossOptions& options,
                   int n_threads);

// Candidates of row t: its target and negatives (T, k), -1 for none. coef (T, 1 + k) = d loss / d score; problem.drows
// and dbias are not written. log_q (n) or null.
template <class Device>
double row_loss(const ScoreProblem& problem, float* coef, const int32_t* negatives, int64_t k, const float* log_q,
                const ScoreLossOptions& options, int n_threads);

// What is made of a prediction's error e = prediction - target: e^2; e^2 / 2 within 1 and |e| - 1/2 beyond; or, of a
// target from 0 to 1, log(1 + e^prediction) - target prediction.
enum class PredictionLoss : int { kSquared = 0, kSmooth = 1, kLogistic = 2 };

// sum_t w_t l_t, and scale times its gradient; weights may be null.
template <class Device>
double regression_loss(float* dprediction, const float* prediction, const float* target, const float* weights,
                       int64_t n, PredictionLoss kind, float scale, int n_threads);

}  // namespace recsys_fast
