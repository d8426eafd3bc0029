// Vectors where a row of any width ends: what lies behind it is neither read nor written.
#pragma once

#include "core/simd.h"

namespace recsys_fast {

// The first min(n, kLanes) elements at p, zeros behind them; and the way back.
RF_INLINE Vec load_up_to(const float* p, int64_t n) { return n >= kLanes ? load(p) : load_first(p, n); }
RF_INLINE VecInt load_up_to(const int32_t* p, int64_t n) { return n >= kLanes ? load(p) : load_first(p, n); }
RF_INLINE void store_up_to(float* p, Vec v, int64_t n) {
  if (n >= kLanes) {
    store(p, v);
  } else {
    store_first(p, v, n);
  }
}

// Lanes from n on become 0.
RF_INLINE Vec keep_first(Vec v, int64_t n) {
  if (n >= kLanes) return v;
  VecInt lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < static_cast<int32_t>(n) ? v : Vec{};
}

}  // namespace recsys_fast
