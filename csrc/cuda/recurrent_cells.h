// The cells of recurrent layers, a unit to a thread.
#pragma once

#include "cuda/sigmoid.h"
#include "ops/recurrent_cells.h"

namespace recsys_fast {

struct ThreadMath {
  using Number = float;
  static __device__ __forceinline__ float sigmoid(float x) { return recsys_fast::sigmoid(x); }
  static __device__ __forceinline__ float tanh(float x) { return tanhf(x); }
};

}  // namespace recsys_fast
