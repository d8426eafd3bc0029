// Products of tall matrices by a block of threads: a kTile x kTile piece of the result in registers, 4 x 4 per thread,
// both operands passing through shared memory kTileDepth columns at a time.
//
// Why 4 x 4: a step of the depth costs a thread two 16-byte loads of shared memory for 16 multiply-adds. A warp covers
// 16 x 32 of the tile, so its loads touch 4 and 8 distinct vectors: one bank cycle each, a quarter of the time the
// arithmetic takes. 8 x 8 would halve the loads but leave three times fewer threads to hide the gather's latency, and
// rows of ALS are gathered, not streamed. A tile of 64 x 64 makes 16 operations per byte from L2.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

constexpr int kTileDepth = 16;

template <int kTile>
constexpr int kTileThreads = kTile * kTile / 16;

// Distance of two columns of a panel in shared memory: a multiple of 4 keeps vectors aligned, and the padding spreads
// the columns that the transposing store below writes at the same time over the banks.
template <int kTile>
constexpr int kTileStride = kTile + 4;

// Floats of shared memory that tile_product needs: two panels and the depth's coefficients.
template <int kTile>
constexpr int kTilePanels = 2 * kTileDepth * kTileStride<kTile> + kTileDepth;

// Where a thread's 4 x 4 piece begins.
template <int kTile>
struct TilePlace {
  int row, col;
  __device__ TilePlace() {
    constexpr int kAcross = kTile / 32;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    row = warp / kAcross * 16 + lane / 8 * 4;
    col = warp % kAcross * 32 + lane % 8 * 4;
  }
  // Whether the thread's warp lies strictly above the diagonal: nothing there is needed of a symmetric tile.
  __device__ bool above() const { return col / 32 * 32 >= row / 16 * 16 + 16; }
};

// Roots and reciprocals of positive normal numbers, to an ulp: the library's call a routine for the others, which costs
// registers in the whole kernel.
inline __device__ float tile_rsqrt(float x) {
  const float r = rsqrtf(x);
  return fmaf(0.5f * r, fmaf(-x * r, r, 1.0f), r);
}
inline __device__ float tile_reciprocal(float x) {
  const float r = rsqrtf(x), y = r * r;
  return fmaf(y, fmaf(-x, y, 1.0f), y);
}
inline __device__ float tile_sqrt(float x) {
  const float r = rsqrtf(x), s = x * r;
  return fmaf(0.5f * r, fmaf(-s, s, x), s);
}

// sum[i][j] += left(row + i, k) right(col + j, k) over k < depth, and, for threads < kTile, along += coefficient(k)
// right(thread, k). left, right: (int i < kTile, int64_t k) -> float, read ahead of the barrier, so no shared memory
// that others write meanwhile. kAlongDepth: neighbouring threads read neighbouring k of right, not i; kLeftAlongDepth:
// of left. same: left is right, and what lies above the diagonal may be left out. All threads of the block take part.
template <int kTile, bool kAlongDepth, bool kLeftAlongDepth = kAlongDepth, class Left, class Right, class Coefficient>
__device__ void tile_product(float (&sum)[4][4], float& along, Shared<float> panels, int64_t depth, bool same,
                             const Left& left, const Right& right, const Coefficient& coefficient) {
  constexpr int kThreads = kTileThreads<kTile>, kEach = kTile * kTileDepth / kThreads, kStride = kTileStride<kTile>;
  constexpr int kRight = kTileDepth * kStride, kCoefficients = 2 * kTileDepth * kStride;
  const int thread = static_cast<int>(threadIdx.x), left_at = same ? kRight : 0;
  const int first_i = kAlongDepth ? thread / kTileDepth : thread % kTile;
  const int first_k = kAlongDepth ? thread % kTileDepth : thread / kTile;
  constexpr int kStepI = kAlongDepth ? kThreads / kTileDepth : 0, kStepK = kAlongDepth ? 0 : kThreads / kTile;
  // Of left, where it is read in the other direction; one place for both takes fewer registers.
  constexpr bool kAlike = kLeftAlongDepth == kAlongDepth;
  const auto left_i = [&](int e) {
    return kLeftAlongDepth ? thread / kTileDepth + e * (kThreads / kTileDepth) : thread % kTile;
  };
  const auto left_k = [&](int e) {
    return kLeftAlongDepth ? thread % kTileDepth : thread / kTile + e * (kThreads / kTile);
  };
  const TilePlace<kTile> place;
  const bool idle = same && place.above();
  const Shared<float4> vectors = panels.as<float4>();
  float next_left[kEach], next_right[kEach], next_coefficient = 0.0f;

  const auto fetch = [&](int64_t from) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int i = first_i + e * kStepI;
      const int64_t k = from + first_k + e * kStepK;
      next_right[e] = k < depth ? right(i, k) : 0.0f;
      if constexpr (kAlike) {
        if (!same) next_left[e] = k < depth ? left(i, k) : 0.0f;
      } else {
        if (!same) next_left[e] = from + left_k(e) < depth ? left(left_i(e), from + left_k(e)) : 0.0f;
      }
    }
    if (thread < kTileDepth) next_coefficient = from + thread < depth ? coefficient(from + thread) : 0.0f;
  };

  // One text of each part: what a panel needs is on its way while the panel before is multiplied.
#pragma unroll 1
  for (int64_t from = 0;; from += kTileDepth) {
    if (from < depth) fetch(from);
    if (from > 0) {
      if (!idle) {
#pragma unroll 2
        for (int k = 0; k < kTileDepth; ++k) {
          const float4 u = vectors[(left_at + k * kStride + place.row) / 4];
          const float4 v = vectors[(kRight + k * kStride + place.col) / 4];
          const float a[4] = {u.x, u.y, u.z, u.w}, b[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
          for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) sum[i][j] += a[i] * b[j];
          }
        }
      }
      if (same && thread < kTile) {
#pragma unroll 1
        for (int k = 0; k < kTileDepth; ++k) along += panels[kCoefficients + k] * panels[kRight + k * kStride + thread];
      }
    }
    if (from >= depth) break;
    __syncthreads();  // the panels before have been read
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int at = (first_k + e * kStepK) * kStride + first_i + e * kStepI;
      panels[kRight + at] = next_right[e];
      if (!same) panels[kAlike ? at : left_k(e) * kStride + left_i(e)] = next_left[e];
    }
    if (thread < kTileDepth) panels[kCoefficients + thread] = next_coefficient;
    __syncthreads();
  }
}

}  // namespace recsys_fast
