// Optimizers of the SGD epochs: what a gradient becomes before it is added to a row. The same arithmetic serves vectors
// of a row (Whole, Part) and single numbers (One), which say where in a row they stand.
#pragma once

#include <array>
#include <cmath>

#include "core/simd.h"
#include "ops/sgd.h"

namespace recsys_fast {

struct Whole {
  int64_t k;
  RF_INLINE Vec load(const float* row) const { return recsys_fast::load(row + k); }
  RF_INLINE void store(float* row, Vec v) const { recsys_fast::store(row + k, v); }
};

struct Part {
  int64_t k, n;
  RF_INLINE Vec load(const float* row) const { return load_first(row + k, n); }
  RF_INLINE void store(float* row, Vec v) const { store_first(row + k, v, n); }
};

struct One {
  RF_INLINE float load(const float* at) const { return *at; }
  RF_INLINE void store(float* at, float x) const { *at = x; }
};

// Calls body(where) for all d elements of a row; V > 0: d = V vectors, unrolled.
template <int V, class Body>
RF_INLINE void for_lanes(int64_t d, Body&& body) {
  if constexpr (V > 0) {
#pragma GCC unroll 32
    for (int k = 0; k < V; ++k) body(Whole{k * kLanes});
  } else {
    int64_t k = 0;
    for (; k + kLanes <= d; k += kLanes) body(Whole{k});
    if (k < d) body(Part{k, d - k});
  }
}

RF_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }

struct PlainSgd {
  static constexpr int kState = 0;
  struct Step {};
  float rate;
  Step begin(int32_t*) const { return {}; }
  template <class Where, class T>
  RF_INLINE T step(Step, Where, T gradient, float*, int64_t) const {
    return rate * gradient;
  }
};

// Duchi, Hazan & Singer 2011. state: sum of squared gradients.
struct Adagrad {
  static constexpr int kState = 1;
  struct Step {};
  float rate;
  Step begin(int32_t*) const { return {}; }
  template <class Where, class T>
  RF_INLINE T step(Step, Where where, T gradient, float* state, int64_t) const {
    const T sum = where.load(state) + gradient * gradient;
    where.store(state, sum);
    return rate * gradient / (sqrt(sum) + 1e-8f);
  }
};

// Kingma & Ba 2015, with a count of steps for each row, which is touched only when it is seen. state: m, then v.
struct Adam {
  static constexpr int kState = 2;
  static constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
  struct Step {
    float m_scale, v_scale;
  };
  float rate;

  static Step scales(int32_t t) {
    return {static_cast<float>(1.0 / (1.0 - std::pow(kBeta1, t))),
            static_cast<float>(1.0 / (1.0 - std::pow(kBeta2, t)))};
  }
  Step begin(int32_t* steps) const {
    constexpr int32_t kKnown = 1024;
    static const auto known = [] {
      std::array<Step, kKnown> table;
      for (int32_t t = 0; t < kKnown; ++t) table[t] = scales(t);
      return table;
    }();
    const int32_t t = ++*steps;
    return t < kKnown ? known[t] : scales(t);
  }
  template <class Where, class T>
  RF_INLINE T step(Step step, Where where, T gradient, float* state, int64_t d) const {
    const T m = static_cast<float>(kBeta1) * where.load(state) + static_cast<float>(1.0 - kBeta1) * gradient;
    const T v =
        static_cast<float>(kBeta2) * where.load(state + d) + static_cast<float>(1.0 - kBeta2) * gradient * gradient;
    where.store(state, m);
    where.store(state + d, v);
    return rate * (m * step.m_scale) / (sqrt(v * step.v_scale) + 1e-8f);
  }
};

}  // namespace recsys_fast
