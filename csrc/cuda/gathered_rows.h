// Rows of a table by id, as operands of cuda/gemm.h; an id of -1 stands for zeros.
#pragma once

#include "cuda/gemm.h"

namespace recsys_fast {

// Element k of row ids[i]. Ids: a pointer, or Shared<int32_t>.
template <class Ids = const int32_t*>
struct GatheredRows {
  static constexpr bool kAlongDepth = true, kStrided = false;
  const float* table;
  Ids ids;
  int64_t stride;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const {
    const int32_t id = ids[i];
    return id >= 0 ? table[id * stride + k] : 0.0f;
  }
};

// Column i of row ids[k].
template <class Ids = const int32_t*>
struct GatheredColumns {
  static constexpr bool kAlongDepth = false, kStrided = false;
  const float* table;
  Ids ids;
  int64_t stride;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const {
    const int32_t id = ids[k];
    return id >= 0 ? table[id * stride + i] : 0.0f;
  }
};

}  // namespace recsys_fast
