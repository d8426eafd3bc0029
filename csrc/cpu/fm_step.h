// The optimizer's step of one row of parameters.
#pragma once

#include <vector>

#include "core/simd.h"
#include "ops/fm_arithmetic.h"

namespace recsys_fast {

// Adagrad: Duchi, Hazan, Singer 2011. Adam: Kingma, Ba 2015, with the step count of each row, which rests while the
// row does not occur.
class FmStep {
 public:
  FmStep(FmOptimizer kind, float learning_rate) : kind_(kind), rate_(learning_rate) {}

  float adam_rate(int32_t t) const { return static_cast<float>(fm_adam_rate(double{rate_}, t)); }

  // The rate of a row's next update; counts it.
  float row_rate(int32_t* steps, int64_t row) const {
    if (kind_ != FmOptimizer::kAdam) return rate_;
    const int32_t t = steps[row] < kFmForever ? ++steps[row] : kFmForever;
    if (t >= kFmForever) return rate_;
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
        store_first(p, value - broadcast(rate) * gradient / (sqrt(sum) + broadcast(kFmEpsilon)), n);
        break;
      }
      case FmOptimizer::kAdam: {
        Vec m = load_first(state, n), v = load_first(state + stride, n);
        m += broadcast(1.0f - kFmBeta1) * (gradient - m);
        v += broadcast(1.0f - kFmBeta2) * (gradient * gradient - v);
        store_first(state, m, n);
        store_first(state + stride, v, n);
        store_first(p, value - broadcast(rate) * m / (sqrt(v) + broadcast(kFmEpsilon)), n);
        break;
      }
    }
  }

  void apply_bias(double* bias, double gradient) const { fm_bias_step(kind_, rate_, bias, gradient); }

 private:
  FmOptimizer kind_;
  float rate_;
  std::vector<float> table_;
};

}  // namespace recsys_fast
