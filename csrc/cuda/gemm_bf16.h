// The products of cuda/gemm.h on tensor cores: operands are rounded to bfloat16 on their way to shared memory, sums are
// float32. A warp has 32 x 32 of the tile.
#pragma once

#include "cuda/gemm.h"
#include "cuda/mma.h"

namespace recsys_fast {

struct Bf16Product {
  // A row of a panel has 16 words, of steps p and p + 16 each, which neighbouring threads read next to each other. Any
  // pairs would do, as long as both operands have the same. Rows are 20 words apart, so that 4 words of 8 neighbouring
  // rows, which a warp multiplies at a time, are in 32 banks.
  static constexpr int kPair = 2, kPairs = 16, kStride = kPairs + 4, kDepth = kPair * kPairs;
  static constexpr int kPanel = kGemmTile * kStride, kFetched = kGemmTile * kDepth / kGemmThreads;

  // Operands that lie across the depth are read 8 numbers at a time, the 32 bytes that memory gives at once, so that
  // stores too are of 4 words of 8 rows.
  template <bool kAlongDepth>
  struct Elements {
    int i = static_cast<int>(threadIdx.x) / (kAlongDepth ? kPairs : 1) % 8;
    int k = static_cast<int>(threadIdx.x) / (kAlongDepth ? 1 : 8) % kPairs;
    static constexpr int kStepI = 8, kStepK = 0;
  };

  template <bool kAlongDepth>
  static __device__ __forceinline__ void keep(Shared<float> panel, const float (&next)[kFetched]) {
    const Elements<kAlongDepth> at;
    const Shared<uint32_t> words = panel.as<uint32_t>();
#pragma unroll
    for (int e = 0; e < kFetched; e += 2) {
      words[(at.i + e / 2 * at.kStepI) * kStride + at.k] = round_pair(next[e], next[e + 1]);
    }
  }

  // Where a warp's 32 x 32 piece begins, and the lane's place in fragments. Sums 4 i + j are those of rows 16 i and
  // columns 8 j of the piece.
  struct Place {
    int row = static_cast<int>(threadIdx.x) / 64 * 32, col = static_cast<int>(threadIdx.x) / 32 % 2 * 32;
    int group = static_cast<int>(threadIdx.x) % 32 / 4, member = static_cast<int>(threadIdx.x) % 4;
  };

  static __device__ __forceinline__ void multiply(float (&sum)[8][4], Shared<float> left, Shared<float> right) {
    const Place place;
    const Shared<uint32_t> a = left.as<uint32_t>() + (place.row + place.group) * kStride + place.member;
    const Shared<uint32_t> b = right.as<uint32_t>() + (place.col + place.group) * kStride + place.member;
#pragma unroll
    for (int pair = 0; pair < kPairs; pair += 8) {
      uint32_t v[4][2];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        v[j][0] = b[8 * j * kStride + pair];
        v[j][1] = b[8 * j * kStride + pair + 4];
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int low = 16 * i * kStride + pair, high = low + 8 * kStride;
        const uint32_t u[4] = {a[low], a[high], a[low + 4], a[high + 4]};
#pragma unroll
        for (int j = 0; j < 4; ++j) mma_bf16(sum[4 * i + j], u, v[j]);
      }
    }
  }

  static __device__ __forceinline__ void spread(Shared<float> tile, const float (&sum)[8][4]) {
    const Place place;
    const Shared<float2> vectors = tile.as<float2>();
#pragma unroll
    for (int p = 0; p < 8; ++p) {
      const int row = place.row + p / 4 * 16 + place.group, col = place.col + p % 4 * 8 + 2 * place.member;
      vectors[(row * kGemmStride + col) / 2] = make_float2(sum[p][0], sum[p][1]);
      vectors[((row + 8) * kGemmStride + col) / 2] = make_float2(sum[p][2], sum[p][3]);
    }
  }
};

}  // namespace recsys_fast
