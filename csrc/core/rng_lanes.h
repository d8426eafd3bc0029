// The generator of core/rng.h for as many counters at a time as a vector holds; the same bits.
#pragma once

#include "core/rng.h"
#include "core/simd.h"

namespace recsys_fast {

// Draws are made for this many (sample, block) pairs at a time: two vectors, whose chains of rounds overlap.
inline constexpr int kDrawLanes = 2 * kWideLanes;

// out[4 * i + w] = word w of draw4(seed, epoch, sample[i], block[i]), i < kDrawLanes.
RF_INLINE void draw4_lanes(uint64_t seed, uint32_t epoch, const uint64_t* sample, const uint32_t* block,
                           uint32_t* out) {
  VecWide c[2][4];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    VecWide blocks;
    for (int i = 0; i < kWideLanes; ++i) blocks[i] = block[half * kWideLanes + i];
    std::memcpy(&c[half][0], sample + half * kWideLanes, sizeof(VecWide));
    c[half][1] = c[half][0] >> 32;
    c[half][2] = VecWide{} + epoch;
    c[half][3] = blocks;
  }
  uint64_t k0 = seed & 0xFFFFFFFFu, k1 = seed >> 32;
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      VecWide* v = c[half];
      // The upper halves of the lanes hold rests that the products do not read.
      const VecWide p0 = multiply_low(v[0], VecWide{} + uint64_t{0xD2511F53u});
      const VecWide p1 = multiply_low(v[2], VecWide{} + uint64_t{0xCD9E8D57u});
      v[0] = (p1 >> 32) ^ v[1] ^ k0;
      v[1] = p1;
      v[2] = (p0 >> 32) ^ v[3] ^ k1;
      v[3] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const VecWide low = (c[half][0] & 0xFFFFFFFFu) | c[half][1] << 32;
    const VecWide high = (c[half][2] & 0xFFFFFFFFu) | c[half][3] << 32;
    uint32_t* at = out + half * 4 * kWideLanes;
    for (int i = 0; i < kWideLanes; ++i) {
      const uint64_t pair[2] = {low[i], high[i]};
      std::memcpy(at + 4 * i, pair, sizeof pair);
    }
  }
}

}  // namespace recsys_fast
