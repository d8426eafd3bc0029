// Tensor cores: the 32 lanes of a warp multiply two small matrices of bfloat16 together, each with its share of them in
// registers. sm_80 and later.
#pragma once

#include "core/bf16.h"
#include "cuda/kernel.h"

#ifdef RECSYS_FAST_EMULATED_GRID
#include "testing/mma.h"
#endif

namespace recsys_fast {

// Two floats as bfloat16, to nearest even, the first in the lower half.
__device__ __forceinline__ uint32_t round_pair(float first, float second) {
#ifdef __CUDA_ARCH__
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return bf16_pair(first, second);
#endif
}

// sum (16, 8) += a (16, 16) b (16, 8), sums in float32. Lane 4 g + q holds, in words of two numbers, the first in the
// lower half ("Matrix Fragments for mma.m16n8k16 with floating point type" of the PTX manual):
//   a[w]    columns 2 q + 8 (w / 2) and the next, of row g + 8 (w % 2)
//   b[w]    rows 2 q + 8 w and the next, of column g
//   sum[e]  row g + 8 (e / 2), column 2 q + e % 2
// All 32 lanes come, to the same place in the program.
#ifdef RECSYS_FAST_EMULATED_GRID
using emulated::mma_bf16;
#else
__device__ __forceinline__ void mma_bf16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

}  // namespace recsys_fast
