// Activations of a layer's results and their slopes, a vector at a time.
#pragma once

#include "core/sigmoid.h"
#include "ops/dense.h"

namespace recsys_fast {

// Near 0 an odd polynomial (relative error below 1e-8, fitted in Chebyshev points), elsewhere by e^2|x|.
RF_INLINE Vec tanh(Vec x) {
  const Vec size = x < 0.0f ? -x : x, z = x * x;
  const Vec near =
      x + x * z * (-0.333332821f + z * (0.133316637f + z * (-0.0537667584f + z * (0.020747494f - 0.00584538962f * z))));
  const Vec far = 1.0f - 2.0f / (1.0f + exp(2.0f * size));
  return size < 0.6f ? near : (x < 0.0f ? -far : far);
}

inline constexpr float kGeluScale = 0.797884561f, kGeluCubic = 0.044715f;  // sqrt(2 / pi)

template <Activation A>
RF_INLINE Vec activate(Vec x) {
  if constexpr (A == Activation::kRelu) return max(x, Vec{});
  if constexpr (A == Activation::kGelu) {
    return 0.5f * x * (1.0f + tanh(kGeluScale * (x + kGeluCubic * x * x * x)));
  }
  if constexpr (A == Activation::kTanh) return tanh(x);
  if constexpr (A == Activation::kSigmoid) return sigmoid(x);
  return x;
}

// The derivative by the result y; GELU looks at its argument x.
template <Activation A>
RF_INLINE Vec slope(Vec y, Vec x) {
  if constexpr (A == Activation::kRelu) return y > 0.0f ? broadcast(1.0f) : Vec{};
  if constexpr (A == Activation::kGelu) {
    const Vec t = tanh(kGeluScale * (x + kGeluCubic * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kGeluScale * (1.0f + 3.0f * kGeluCubic * x * x);
  }
  if constexpr (A == Activation::kTanh) return 1.0f - y * y;
  if constexpr (A == Activation::kSigmoid) return y * (1.0f - y);
  return broadcast(1.0f);
}

// Calls function.template operator()<A>() for the activation A.
template <class Function>
void with_activation(Activation activation, Function&& function) {
  switch (activation) {
    case Activation::kRelu:
      return function.template operator()<Activation::kRelu>();
    case Activation::kGelu:
      return function.template operator()<Activation::kGelu>();
    case Activation::kTanh:
      return function.template operator()<Activation::kTanh>();
    case Activation::kSigmoid:
      return function.template operator()<Activation::kSigmoid>();
    case Activation::kIdentity:
      return function.template operator()<Activation::kIdentity>();
  }
}

}  // namespace recsys_fast
