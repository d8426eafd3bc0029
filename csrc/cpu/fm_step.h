// The optimizer's step of one row of parameters.
#pragma once

#include <cmath>
#include <vector>

#include "core/simd.h"
#include "ops/fm.h"

namespace recsys_fast {

// Adagrad: Duchi, Hazan, Singer 2011. Adam: Kingma, Ba 2015, with the step count of each row, which rests while the
// row does not occur.
class FmStep {
 public:
  static constexpr float kBeta1 = 0.9f, kBeta2 = 0.999f, kEpsilon = 1e-8f;

  FmStep(FmOptimizer kind, float learning_rate) : kind_(kind), rate_(learning_rate) {}

  // lr sqrt(1 - beta2^t) / (1 - beta1^t), t >= 1.
  float adam_rate(int32_t t) const {
    return static_cast<float>(rate_ * std::sqrt(1.0 - std::pow(0.999, t)) / (1.0 - std::pow(0.9, t)));
  }

  // The rate of a row's next update; counts it.
  float row_rate(int32_t* steps, int64_t row) const {
    if (kind_ != FmOptimizer::kAdam) return rate_;
    const int32_t t = steps[row] < kForever ? ++steps[row] : kForever;
    if (t >= kForever) return rate_;
    if (static_cast<size_t>(t) >= table_.size()) return adam_rate(t);
    return table_[t];
  }

  // Rates of the first updates, which are the ones that are asked for most.
  void fill_table() {
    if (kind_ != FmOptimizer::kAdam) return;
    table_.resize(1024);
    for (int32_t t = 1; t < 1024; ++t) table_[t] = adam_rate(t);
  }

  // p: the values; gradient with the penalty in it; n <= kLanes lanes; state: where the row's state for these lanes is,
  // its second half `stride` further on.
  RF_INLINE void apply(float* p, Vec value, Vec gradient, float* state, int64_t stride, int64_t n, float rate) const {
    switch (kind_) {
      case FmOptimizer::kSgd:
        store_first(p, value - broadcast(rate) * gradient, n);
        break;
      case FmOptimizer::kAdagrad: {
        const Vec sum = load_first(state, n) + gradient * gradient;
        store_first(state, sum, n);
        store_first(p, value - broadcast(rate) * gradient / (sqrt(sum) + broadcast(kEpsilon)), n);
        break;
      }
      case FmOptimizer::kAdam: {
        Vec m = load_first(state, n), v = load_first(state + stride, n);
        m += broadcast(1.0f - kBeta1) * (gradient - m);
        v += broadcast(1.0f - kBeta2) * (gradient * gradient - v);
        store_first(state, m, n);
        store_first(state + stride, v, n);
        store_first(p, value - broadcast(rate) * m / (sqrt(v) + broadcast(kEpsilon)), n);
        break;
      }
    }
  }

  // The same for the bias (4): value, two states, number of updates.
  void apply_bias(double* bias, double gradient) const {
    double step = gradient;
    if (kind_ == FmOptimizer::kAdagrad) {
      bias[1] += gradient * gradient;
      step /= std::sqrt(bias[1]) + double{kEpsilon};
    } else if (kind_ == FmOptimizer::kAdam) {
      bias[3] += 1.0;
      bias[1] += 0.1 * (gradient - bias[1]);
      bias[2] += 0.001 * (gradient * gradient - bias[2]);
      step = std::sqrt(1.0 - std::pow(0.999, bias[3])) / (1.0 - std::pow(0.9, bias[3])) * bias[1] /
             (std::sqrt(bias[2]) + double{kEpsilon});
    }
    bias[0] -= double{rate_} * step;
  }

 private:
  static constexpr int32_t kForever = 20000;  // from here on the corrections are 1 in float32
  FmOptimizer kind_;
  float rate_;
  std::vector<float> table_;
};

}  // namespace recsys_fast
