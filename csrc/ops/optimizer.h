// Steps of optimizers over flat parameters and over rows of tables, and the norm that clipping needs.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// kAdagradRoot divides by sqrt(v + eps), kAdagrad by sqrt(v) + eps.
enum class OptimizerKind { kSgd = 0, kAdagrad = 1, kAdam = 2, kAdagradRoot = 3 };

// g = grad_scale grad + weight_decay param (decoupled: param -= lr weight_decay param instead). SGD: m = beta1 m + g,
// param -= lr m. Adagrad: v += g^2, u = g / root, m = beta1 m + u, param -= lr m. Adam (Kingma & Ba 2015): moments
// m and v, both corrected by the number of the step, from 1. SGD and Adagrad without momentum have a null m.
struct OptimizerForm {
  OptimizerKind kind;
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
  double grad_scale;
  int64_t step;
};

// One step of param (n) by grad (n); m, v (n) or null. In place.
template <class Device>
void optimizer_step(float* param, const float* grad, float* m, float* v, int64_t n, const OptimizerForm& form,
                    int n_threads);

// One step of the rows `rows` (R), ascending, of a table (n, d) by drows (R, d); m, v (n, d) or null. In place. Other
// rows stay as they are (lazy), or take a step with a gradient of zero.
template <class Device>
void optimizer_step_rows(Rows<float> table, float* m, float* v, const int32_t* rows, Rows<const float> drows, bool lazy,
                         const OptimizerForm& form, int n_threads);

// Sum of x[k]^2 over n elements; the tree of the sum depends on n alone.
template <class Device>
double square_sum(const float* x, int64_t n, int n_threads);

}  // namespace recsys_fast
