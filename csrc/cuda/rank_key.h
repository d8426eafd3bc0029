// A score and an item in one word that orders as lists do: by score, then by id descending, so that larger is better.
#pragma once

#include <cstring>

#include "core/device.h"
#include "cuda/kernel.h"

namespace recsys_fast {

// Larger than 0 for every score that is a number; -0 equals 0.
__device__ inline uint32_t ordered_bits(float score) {
  const float plain = score + 0.0f;
  uint32_t bits;
  memcpy(&bits, &plain, sizeof bits);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ inline float ordered_score(uint32_t ordered) {
  const uint32_t bits = (ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered;
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

__device__ inline uint64_t rank_key(float score, int32_t id) {
  return uint64_t{ordered_bits(score)} << 32 | ~static_cast<uint32_t>(id);
}

__device__ inline int32_t key_id(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }
__device__ inline float key_score(uint64_t key) { return ordered_score(static_cast<uint32_t>(key >> 32)); }

// The least score above that of the key: what a later item (of a larger id) must reach to be better. Above infinity
// comes NaN, which nothing reaches.
__device__ inline float score_above(uint64_t key) { return ordered_score(static_cast<uint32_t>(key >> 32) + 1); }

}  // namespace recsys_fast
