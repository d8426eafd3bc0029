// Activation functions and their derivatives, one number at a time; the formulas are those of cpu/activations.h.
#pragma once

#include "cuda/sigmoid.h"
#include "ops/activation.h"

namespace recsys_fast {

// Phi(x) to 1e-7: erf by Abramowitz, Stegun 1964, 7.1.26.
inline __device__ float normal_share(float x, float* density) {
  const float size = fabsf(x) * 0.70710678f, e = expf(-0.5f * x * x), t = 1.0f / (1.0f + 0.3275911f * size);
  const float p =
      t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const float tail = 0.5f * p * e;
  *density = 0.39894228f * e;
  return x < 0.0f ? tail : 1.0f - tail;
}

// The argument of the sigmoid in x sigmoid(u) = x (1 + tanh(u / 2)) / 2: Hendrycks, Gimpel 2016.
inline __device__ float gelu_argument(float x) { return x * (1.59576912f + 0.07135481f * x * x); }

inline __device__ float activate(Activation kind, float x) {
  float density;
  switch (kind) {
    case Activation::kRelu:
      return x < 0.0f ? 0.0f : x;  // NaN stays
    case Activation::kGeluTanh:
      return x * sigmoid(gelu_argument(x));
    case Activation::kTanh:
      return tanhf(x);
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kGelu:
      return x * normal_share(x, &density);
    case Activation::kIdentity:
      break;
  }
  return x;
}

// The derivative by the result y, and by the argument x where needs_argument(kind).
inline __device__ float activation_slope(Activation kind, float y, float x) {
  float density;
  switch (kind) {
    case Activation::kRelu:
      return y > 0.0f ? 1.0f : 0.0f;
    case Activation::kGeluTanh: {
      const float s = sigmoid(gelu_argument(x));
      return s + x * s * (1.0f - s) * (1.59576912f + 0.21406443f * x * x);
    }
    case Activation::kTanh:
      return 1.0f - y * y;
    case Activation::kSigmoid:
      return y * (1.0f - y);
    case Activation::kGelu: {
      const float share = normal_share(x, &density);
      return share + x * density;
    }
    case Activation::kIdentity:
      break;
  }
  return 1.0f;
}

}  // namespace recsys_fast
