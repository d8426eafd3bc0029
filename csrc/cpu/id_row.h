// Membership in a row of sorted ids.
#pragma once

#include <algorithm>

#include "core/simd.h"

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

// The first t in [0, n) for which above(t), else n; above ascends. No branch depends on the data: it would be a coin.
template <class Above>
int64_t first_above(int64_t n, Above&& above) {
  int64_t begin = 0;
  while (n > 1) {
    const int64_t half = n / 2;
    begin += above(begin + half - 1) ? 0 : half;
    n -= half;
  }
  return n == 1 && !above(begin) ? begin + 1 : begin;
}

// The n-th (from 0) item that is not in the row: n + t for the first t with row[t] - t > n, as t items lie below it.
inline int32_t nth_absent(IdRow row, int64_t n) {
  return static_cast<int32_t>(n + first_above(row.n, [&](int64_t t) { return row.ids[t] - t > n; }));
}

}  // namespace recsys_fast
