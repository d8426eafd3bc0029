// What a step of an optimizer multiplies with.
#pragma once

#include <cmath>

#include "ops/optimizer.h"

namespace recsys_fast {

// What a step multiplies with, rounded once. What is taken away from a parameter is a small product, not one with a
// number near 1, whose rounding would add up over the steps.
struct OptimizerRates {
  float lr, beta1, beta2, beta1_rest, beta2_rest, eps, decay, shrink, grad_scale, second;
};

inline OptimizerRates optimizer_rates(const OptimizerForm& form) {
  const bool adam = form.kind == OptimizerKind::kAdam;
  const auto step = static_cast<double>(form.step);
  const double first = adam ? 1.0 - std::pow(form.beta1, step) : 1.0;
  const double second = adam ? std::sqrt(1.0 - std::pow(form.beta2, step)) : 1.0;
  const auto rounded = [](double x) { return static_cast<float>(x); };
  return {.lr = rounded(form.lr / first),
          .beta1 = rounded(form.beta1),
          .beta2 = rounded(form.beta2),
          .beta1_rest = rounded(1.0 - form.beta1),
          .beta2_rest = rounded(1.0 - form.beta2),
          .eps = rounded(form.eps),
          .decay = rounded(form.decoupled ? 0.0 : form.weight_decay),
          .shrink = rounded(form.decoupled ? form.lr * form.weight_decay : 0.0),
          .grad_scale = rounded(form.grad_scale),
          .second = rounded(1.0 / second)};
}

}  // namespace recsys_fast
