// bfloat16, the upper half of a float: 8 bits of mantissa and all of the range.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/device.h"

namespace recsys_fast {

// The nearest bfloat16 (ties to even) in the lower half; NaN stays NaN.
RF_HOST_DEVICE inline uint32_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return x == x ? (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 : bits >> 16 | 64;
}
// Of the lower half.
RF_HOST_DEVICE inline float from_bf16(uint32_t word) {
  word <<= 16;
  float x;
  std::memcpy(&x, &word, sizeof x);
  return x;
}
// Two in a word, the first in the lower half.
RF_HOST_DEVICE inline uint32_t bf16_pair(float first, float second) { return to_bf16(first) | to_bf16(second) << 16; }

}  // namespace recsys_fast
