// Membership in a row of sorted ids.
#pragma once

#include <algorithm>

#include "core/simd.h"
#include "core/sorted_ids.h"

namespace recsys_fast {

// Mask of the first n lanes; none for n <= 0, all from kLanes on.
RF_INLINE uint32_t first_lanes(int64_t n) { return (1u << std::clamp<int64_t>(n, 0, kLanes)) - 1; }

struct IdRow {
  const int32_t* ids = nullptr;
  int64_t n = 0;

  // Halves the row without branches down to a few vectors, then compares them all.
  RF_INLINE bool contains(int32_t id) const {
    const int32_t* at = ids;
    int64_t left = n;
    while (left > 4 * kLanes) {
      const int64_t half = left / 2;
      at += half & -static_cast<int64_t>(at[half - 1] < id);
      left -= half;
    }
    const VecInt key = VecInt{} + id;
    uint32_t found = 0;
    for (; left >= kLanes; left -= kLanes, at += kLanes) found |= mask_eq(load(at), key);
    return (found | (mask_eq(load_first(at, left), key) & first_lanes(left))) != 0;
  }
};

}  // namespace recsys_fast
