// Products of pairs of bfloat16: a lane of 32 bits holds two of them, the first in the lower half. AVX512-BF16
// multiplies and adds 32 at once, but no level promises it: code that uses it stands between RF_BF16_BEGIN and
// RF_BF16_END, and is only called where has_bf16() says so.
#pragma once

#include "core/bf16.h"
#include "core/simd.h"

#if defined(__AVX512F__)
#define RF_BF16_BEGIN _Pragma("GCC push_options") _Pragma("GCC target(\"avx512bf16\")")
#define RF_BF16_END _Pragma("GCC pop_options")
#else
#define RF_BF16_BEGIN
#define RF_BF16_END
#endif

namespace recsys_fast {

#if defined(__AVX512F__)
inline bool has_bf16() {
  static const bool has = __builtin_cpu_supports("avx512bf16");
  return has;
}
#else
inline constexpr bool has_bf16() { return false; }
#endif

RF_BF16_BEGIN

// Lanes (first[i], second[i]).
RF_INLINE VecInt bf16_lanes(Vec first, Vec second) {
#if defined(__AVX512F__)
  typedef int16_t Half __attribute__((vector_size(64)));
  const Half both = reinterpret_cast<Half>(_mm512_cvtne2ps_pbh(second, first));
  return reinterpret_cast<VecInt>(__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22,
                                                          7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30,
                                                          15, 31));
#else
  VecInt out;
  for (int i = 0; i < kLanes; ++i) out[i] = bf16_pair(first[i], second[i]);
  return out;
#endif
}

// The 2 kLanes numbers (low, high) as kLanes pairs, in their order.
RF_INLINE VecInt bf16_run(Vec low, Vec high) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecInt>(_mm512_cvtne2ps_pbh(high, low));
#else
  VecInt out;
  for (int i = 0; i < kLanes / 2; ++i) {
    out[i] = bf16_pair(low[2 * i], low[2 * i + 1]);
    out[i + kLanes / 2] = bf16_pair(high[2 * i], high[2 * i + 1]);
  }
  return out;
#endif
}

// sum + a.first * b.first + a.second * b.second
RF_INLINE Vec bf16_dot(Vec sum, VecInt a, VecInt b) {
#if defined(__AVX512F__)
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
#else
  for (int i = 0; i < kLanes; ++i) {
    const uint32_t x = static_cast<uint32_t>(a[i]), y = static_cast<uint32_t>(b[i]);
    sum[i] += from_bf16(x & 0xFFFF) * from_bf16(y & 0xFFFF) + from_bf16(x >> 16) * from_bf16(y >> 16);
  }
  return sum;
#endif
}

RF_BF16_END

}  // namespace recsys_fast
