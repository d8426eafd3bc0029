// Activation functions and their derivatives, for vectors.
#pragma once

#include "core/sigmoid.h"
#include "ops/activation.h"

namespace recsys_fast {

// Phi(x), the normal distribution function, to 1e-7: erf by Abramowitz, Stegun 1964, 7.1.26.
RF_INLINE Vec normal_share(Vec x, Vec* density) {
  const Vec size = (x < 0.0f ? -x : x) * 0.70710678f, e = exp(-0.5f * x * x);
  const Vec t = 1.0f / (1.0f + 0.3275911f * size);
  const Vec p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const Vec tail = 0.5f * p * e;
  *density = 0.39894228f * e;
  return x < 0.0f ? tail : 1.0f - tail;
}

// The argument of the sigmoid in x sigmoid(u) = x (1 + tanh(u / 2)) / 2: Hendrycks, Gimpel 2016.
RF_INLINE Vec gelu_argument(Vec x) { return x * (1.59576912f + 0.07135481f * x * x); }

template <Activation kind>
RF_INLINE Vec activate(Vec x) {
  if constexpr (kind == Activation::kRelu) return max(Vec{}, x);  // NaN stays
  if constexpr (kind == Activation::kGeluTanh) return x * sigmoid(gelu_argument(x));
  if constexpr (kind == Activation::kTanh) return tanh(x);
  if constexpr (kind == Activation::kSigmoid) return sigmoid(x);
  if constexpr (kind == Activation::kGelu) {
    Vec density;
    return x * normal_share(x, &density);
  }
  return x;
}

template <Activation kind>
RF_INLINE Vec activation_slope(Vec x) {
  if constexpr (kind == Activation::kRelu) return x > 0.0f ? broadcast(1.0f) : Vec{};
  if constexpr (kind == Activation::kGeluTanh) {
    const Vec s = sigmoid(gelu_argument(x));
    return s + x * s * (1.0f - s) * (1.59576912f + 0.21406443f * x * x);
  }
  if constexpr (kind == Activation::kTanh) {
    const Vec t = tanh(x);
    return 1.0f - t * t;
  }
  if constexpr (kind == Activation::kSigmoid) {
    const Vec s = sigmoid(x);
    return s * (1.0f - s);
  }
  if constexpr (kind == Activation::kGelu) {
    Vec density;
    const Vec share = normal_share(x, &density);
    return share + x * density;
  }
  return broadcast(1.0f);
}

// The derivative by the result y; x is looked at only where that does not tell it.
template <Activation kind>
RF_INLINE Vec activation_slope(Vec y, Vec x) {
  if constexpr (kind == Activation::kRelu) return y > 0.0f ? broadcast(1.0f) : Vec{};
  if constexpr (kind == Activation::kTanh) return 1.0f - y * y;
  if constexpr (kind == Activation::kSigmoid) return y * (1.0f - y);
  return activation_slope<kind>(x);
}

// Calls body with the kind as a compile-time constant.
template <class Body>
RF_INLINE void with_activation(Activation kind, Body&& body) {
  switch (kind) {
    case Activation::kRelu:
      return body.template operator()<Activation::kRelu>();
    case Activation::kGeluTanh:
      return body.template operator()<Activation::kGeluTanh>();
    case Activation::kTanh:
      return body.template operator()<Activation::kTanh>();
    case Activation::kSigmoid:
      return body.template operator()<Activation::kSigmoid>();
    case Activation::kGelu:
      return body.template operator()<Activation::kGelu>();
    case Activation::kIdentity:
      return body.template operator()<Activation::kIdentity>();
  }
}

}  // namespace recsys_fast
