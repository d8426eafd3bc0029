// Arithmetic of factorization machines that every device does alike: a sample's loss, steps of the bias, Adam's rates.
#pragma once

#include <cmath>

#include "core/device.h"
#include "ops/fm.h"

namespace recsys_fast {

// A sample's loss and its derivative with respect to the score.
struct FmSlope {
  double loss;
  float slope;
};

RF_HOST_DEVICE inline double fm_softplus(double z) {
  return (z > 0.0 ? z : 0.0) + std::log1p(std::exp(z > 0.0 ? -z : z));
}
RF_HOST_DEVICE inline float fm_sigmoid(float z) {
  const float e = std::exp(z > 0.0f ? -z : z);
  return (z >= 0.0f ? 1.0f : e) / (1.0f + e);
}

RF_HOST_DEVICE inline FmSlope fm_slope(FmLoss loss, float score, float target, float weight) {
  if (loss == FmLoss::kSquared) {
    const float error = score - target;
    return {0.5 * double{weight} * double{error} * double{error}, weight * error};
  }
  const bool positive = target > 0.5f;
  return {double{weight} * fm_softplus(double{positive ? -score : score}),
          weight * (positive ? -fm_sigmoid(-score) : fm_sigmoid(score))};
}

// Constants of the optimizers. From update kFmForever on Adam's corrections are 1 in float32.
constexpr float kFmBeta1 = 0.9f, kFmBeta2 = 0.999f, kFmEpsilon = 1e-8f;
constexpr int32_t kFmForever = 20000;

// lr sqrt(1 - beta2^t) / (1 - beta1^t), t >= 1.
RF_HOST_DEVICE inline double fm_adam_rate(double rate, double t) {
  return rate * std::sqrt(1.0 - std::pow(0.999, t)) / (1.0 - std::pow(0.9, t));
}

// A step of the bias (4): value, two states, number of updates.
RF_HOST_DEVICE inline void fm_bias_step(FmOptimizer kind, float rate, double* bias, double gradient) {
  double step = double{rate} * gradient;
  if (kind == FmOptimizer::kAdagrad) {
    bias[1] += gradient * gradient;
    step /= std::sqrt(bias[1]) + double{kFmEpsilon};
  } else if (kind == FmOptimizer::kAdam) {
    bias[3] += 1.0;
    bias[1] += 0.1 * (gradient - bias[1]);
    bias[2] += 0.001 * (gradient * gradient - bias[2]);
    step = fm_adam_rate(double{rate}, bias[3]) * bias[1] / (std::sqrt(bias[2]) + double{kFmEpsilon});
  }
  bias[0] -= step;
}

}  // namespace recsys_fast
