// Sigmoids of scores, and their logarithms.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
// log(1 + e^x); NaN stays.
__device__ __forceinline__ float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }
// 1 / (1 + e^-x) and 1 / (1 + e^x), both to float32's precision, also where one is near 1.
struct Sigmoids {
  float up, down;
  __device__ __forceinline__ explicit Sigmoids(float x) {
    const float e = expf(-fabsf(x)), most = 1.0f / (1.0f + e);
    up = x >= 0.0f ? most : e * most;
    down = x >= 0.0f ? e * most : most;
  }
};

}  // namespace recsys_fast
