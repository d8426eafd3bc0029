// Sums, maxima and scans over the lanes of a warp and the threads of a block. Every tree is fixed.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

constexpr int kWarpSize = 32;

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};
struct Min {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};

// The threads of one full warp. Neither member orders memory: __syncwarp() does.
struct Warp {
  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x % kWarpSize); }

  // The result in every lane. `width` lanes, a power of two, each group on its own; all 32 lanes call.
  template <class T, class Op = Sum>
  static __device__ __forceinline__ T reduce(T value, Op op = Op(), int width = kWarpSize) {
    for (int step = width / 2; step > 0; step /= 2) value = op(value, __shfl_xor_sync(kFullMask, value, step));
    return value;
  }
  template <class T>
  static __device__ __forceinline__ T sum(T value) {
    return reduce(value, Sum());
  }
  template <class T>
  static __device__ __forceinline__ T maximum(T value) {
    return reduce(value, Max());
  }
  template <class T>
  static __device__ __forceinline__ T from(T value, int lane) {
    return __shfl_sync(kFullMask, value, lane);
  }
  // Sum of the lanes up to and with the caller's.
  template <class T>
  static __device__ __forceinline__ T scan(T value) {
    for (int step = 1; step < kWarpSize; step *= 2) {
      const T below = __shfl_up_sync(kFullMask, value, static_cast<unsigned>(step));
      if (lane() >= step) value = below + value;
    }
    return value;
  }
};

// The threads of a one-dimensional block of a whole number of warps. scratch: one element per warp (32 are always
// enough). Every thread calls; barriers inside: before scratch is written and before it is read.
struct Block {
  template <class T, class Op = Sum>
  static __device__ __forceinline__ T reduce(T value, Shared<T> scratch, Op op = Op()) {
    const int n_warps = static_cast<int>(blockDim.x / kWarpSize);
    value = Warp::reduce(value, op);
    __syncthreads();
    if (Warp::lane() == 0) scratch[threadIdx.x / kWarpSize] = value;
    __syncthreads();
    T total = scratch[0];
    for (int w = 1; w < n_warps; ++w) total = op(total, static_cast<T>(scratch[w]));
    return total;
  }
  template <class T>
  static __device__ __forceinline__ T sum(T value, Shared<T> scratch) {
    return reduce(value, scratch, Sum());
  }
  template <class T>
  static __device__ __forceinline__ T maximum(T value, Shared<T> scratch) {
    return reduce(value, scratch, Max());
  }
  // Sum of the threads up to and with the caller's.
  template <class T>
  static __device__ __forceinline__ T scan(T value, Shared<T> scratch) {
    const int warp = static_cast<int>(threadIdx.x / kWarpSize);
    value = Warp::scan(value);
    __syncthreads();
    if (Warp::lane() == kWarpSize - 1) scratch[warp] = value;
    __syncthreads();
    T before = T(0);
    for (int w = 0; w < warp; ++w) before = before + static_cast<T>(scratch[w]);
    return before + value;
  }
};

}  // namespace recsys_fast
