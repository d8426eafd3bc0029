// What the gradient of a layer's output is before its activation.
#pragma once

#include "core/dropout_hash.h"
#include "cuda/activation.h"

namespace recsys_fast {

// Mask times slope of one element; y / scale is the activation's result where it was kept.
__device__ __forceinline__ float slope_at(Activation activation, float y, float pre, const Dropout& drop, int64_t row,
                                          int64_t col, int64_t d) {
  const float mask = drop.active() ? dropout_at(drop, row, col, dropout_groups(d)) : 1.0f;
  return mask * activation_slope(activation, y / drop.scale, pre);
}

// g (n, d) = dy times mask and slope; the activation's result is y / (mask's scale) where an element was kept. pre may
// be null where the slope needs no argument; g may be dy. Overwrites.
void slope_rows(float* g, const float* dy, const float* y, const float* pre, int64_t n, int64_t d,
                Activation activation, const Dropout& drop, Stream stream);

}  // namespace recsys_fast
