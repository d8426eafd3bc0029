// SIMD through the compiler's vector extensions. The only file that knows the instruction set; a module is compiled
// once per level and every loop here takes its width from kLanes. Reductions here, and only here, reassociate.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define RF_INLINE inline __attribute__((always_inline))

namespace recsys_fast {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16, kVectorRegisters = 32;
#elif defined(__AVX__)
inline constexpr int kLanes = 8, kVectorRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kLanes = 4, kVectorRegisters = 32;
#else
inline constexpr int kLanes = 4, kVectorRegisters = 16;
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t VecInt __attribute__((vector_size(kLanes * sizeof(int32_t))));
typedef uint32_t VecBits __attribute__((vector_size(kLanes * sizeof(uint32_t))));
typedef uint64_t VecWide __attribute__((vector_size(kLanes * sizeof(int32_t))));
inline constexpr int kWideLanes = kLanes / 2;

RF_INLINE Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
RF_INLINE VecInt load(const int32_t* p) {
  VecInt v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
RF_INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
RF_INLINE void store(int32_t* p, VecInt v) { std::memcpy(p, &v, sizeof v); }
RF_INLINE Vec broadcast(float x) { return x - Vec{}; }  // x - 0 is x for every x, so it compiles to nothing more

// Smallest multiple of the vector width that holds d floats.
constexpr int64_t padded(int64_t d) { return (d + kLanes - 1) / kLanes * kLanes; }

// Sum of the lanes, as a tree of halves.
RF_INLINE float reduce_add(Vec v) {
  typedef float Quad __attribute__((vector_size(16)));
#if defined(__AVX512F__)
  typedef float Oct __attribute__((vector_size(32)));
  const Oct low = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  const Oct half = low + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const Quad quad = __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif defined(__AVX__)
  const Quad quad = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  const Quad quad = v;
#endif
  return (quad[0] + quad[2]) + (quad[1] + quad[3]);
}

// out[i] = sum of the lanes of v[i], i < 8: the eight trees share their shuffles.
RF_INLINE void reduce_add8(const Vec* v, float* out) {
  typedef float Oct __attribute__((vector_size(32)));
#if defined(__AVX512F__)
  Oct w[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    w[i] = __builtin_shufflevector(v[i], v[i], 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(v[i], v[i], 8, 9, 10, 11, 12, 13, 14, 15);
  }
#elif defined(__AVX__)
  const Vec* w = v;
#endif
#if defined(__AVX__)
  Oct pair[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Oct a = w[i], b = w[i + 4];
    pair[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
              __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
  const Oct x = __builtin_shufflevector(pair[0], pair[2], 0, 1, 8, 9, 4, 5, 12, 13) +
                __builtin_shufflevector(pair[0], pair[2], 2, 3, 10, 11, 6, 7, 14, 15);
  const Oct y = __builtin_shufflevector(pair[1], pair[3], 0, 1, 8, 9, 4, 5, 12, 13) +
                __builtin_shufflevector(pair[1], pair[3], 2, 3, 10, 11, 6, 7, 14, 15);
  const Oct sums = __builtin_shufflevector(x, y, 0, 8, 2, 10, 4, 12, 6, 14) +
                   __builtin_shufflevector(x, y, 1, 9, 3, 11, 5, 13, 7, 15);
  std::memcpy(out, &sums, sizeof sums);
#else
  (void)sizeof(Oct);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) out[i] = reduce_add(v[i]);
#endif
}

// The first n < kLanes elements at p, zeros behind them; reads no further.
RF_INLINE Vec load_first(const float* p, int64_t n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#else
  Vec v = {};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

RF_INLINE VecInt load_first(const int32_t* p, int64_t n) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecInt>(_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << n) - 1), p));
#else
  VecInt v = {};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

// Stores the first n <= kLanes lanes of v; writes no further.
RF_INLINE void store_first(float* p, Vec v, int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), v);
#else
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// Bit i of the result: a[i] >= b[i].
RF_INLINE uint32_t mask_ge(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
#elif defined(__AVX__)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
#elif defined(__x86_64__)
  return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpge_ps(a, b)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint32_t>(a[i] >= b[i]) << i;
  return bits;
#endif
}

// Bit i of the result: v[i] is a number other than 0.
RF_INLINE uint32_t mask_nonzero(Vec v) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_OQ);
#else
  return mask_ge(v, Vec{}) ^ mask_ge(Vec{}, v);
#endif
}

// Bit i of the result: a[i] >= b[i].
RF_INLINE uint32_t mask_ge(VecInt a, VecInt b) {
#if defined(__AVX512F__)
  return _mm512_cmpge_epi32_mask(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b));
#elif defined(__AVX__)
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(a >= b)));
#elif defined(__x86_64__)
  return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(a >= b)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint32_t>(a[i] >= b[i]) << i;
  return bits;
#endif
}

// Bit i of the result: a[i] == b[i].
RF_INLINE uint32_t mask_eq(VecInt a, VecInt b) {
#if defined(__AVX512F__)
  return _mm512_cmpeq_epi32_mask(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b));
#elif defined(__AVX__)
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(a == b)));
#elif defined(__x86_64__)
  return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(a == b)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint32_t>(a[i] == b[i]) << i;
  return bits;
#endif
}

// The second one where a number is NaN.
#if defined(__AVX512F__)  // one operation: of the other form gcc 12 makes a comparison and a choice
RF_INLINE Vec max(Vec a, Vec b) { return _mm512_maskz_max_ps(0xFFFF, a, b); }
RF_INLINE Vec min(Vec a, Vec b) { return _mm512_maskz_min_ps(0xFFFF, a, b); }
#else
RF_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
RF_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
#endif
RF_INLINE VecInt max(VecInt a, VecInt b) { return a > b ? a : b; }

// Products of bytes, four to a lane: sum + a . b, a unsigned and b signed. VNNI multiplies 64 at once, but no level
// promises it: functions that use it are marked RF_BYTE_DOT, and only called where has_byte_dot() says so.
#if defined(__AVX512F__)
#define RF_BYTE_DOT __attribute__((target("avx512vnni")))
inline bool has_byte_dot() {
  static const bool has = __builtin_cpu_supports("avx512vnni");
  return has;
}
RF_BYTE_DOT RF_INLINE VecInt byte_dot(VecInt sum, VecInt a, VecInt b) {
  return reinterpret_cast<VecInt>(
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
#else
#define RF_BYTE_DOT
inline constexpr bool has_byte_dot() { return false; }
RF_INLINE VecInt byte_dot(VecInt sum, VecInt a, VecInt b) {
  for (int shift = 0; shift < 32; shift += 8) sum += ((a >> shift) & 255) * ((b << (24 - shift)) >> 24);
  return sum;
}
#endif

RF_INLINE Vec sqrt(Vec v) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xFFFF, v);  // gcc 12 warns about the header's unmasked form
#elif defined(__AVX__)
  return _mm256_sqrt_ps(v);
#elif defined(__x86_64__)
  return _mm_sqrt_ps(v);
#else
  for (int i = 0; i < kLanes; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}

// Products of the lower halves of a's and b's lanes; the upper halves are not read.
RF_INLINE VecWide multiply_low(VecWide a, VecWide b) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecWide>(
      _mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<VecWide>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

// Writes the lanes of v whose bit is set to out, in order, and may write up to kLanes elements. Returns their number.
template <class T, class V>
RF_INLINE int compress(T* out, V v, uint32_t bits) {
#if defined(__AVX512F__)
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), reinterpret_cast<__m512i>(v)));
  return __builtin_popcount(bits);
#else
  T* at = out;
  for (; bits != 0; bits &= bits - 1) *at++ = v[__builtin_ctz(bits)];
  return static_cast<int>(at - out);
#endif
}

// table[index[i]] in lane i.
template <class T, class V = std::conditional_t<std::is_same_v<T, float>, Vec, VecInt>>
RF_INLINE V gather(const T* table, VecInt index) {
#if defined(__AVX512F__)
  const __m512i zero = _mm512_setzero_si512(), at = reinterpret_cast<__m512i>(index);
  return reinterpret_cast<V>(_mm512_mask_i32gather_epi32(zero, 0xffff, at, table, 4));
#elif defined(__AVX2__)
  return reinterpret_cast<V>(
      _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), reinterpret_cast<__m256i>(index), 4));
#else
  V v;
  for (int i = 0; i < kLanes; ++i) v[i] = table[index[i]];
  return v;
#endif
}

// Bytes, as many as fit into a vector.
inline constexpr int kByteLanes = 4 * kLanes;
typedef uint8_t VecByte __attribute__((vector_size(kByteLanes)));

// Lane i of v plus 1 where bit i at `bits` is set.
RF_INLINE VecByte increment_where(VecByte v, const uint8_t* bits) {
#if defined(__AVX512BW__)
  uint64_t mask;
  std::memcpy(&mask, bits, sizeof mask);
  const __m512i sum = reinterpret_cast<__m512i>(v);
  return reinterpret_cast<VecByte>(_mm512_mask_sub_epi8(sum, mask, sum, _mm512_set1_epi8(-1)));
#elif defined(__AVX2__)  // each byte of the mask to the eight lanes that its bits stand for
  int32_t mask;
  std::memcpy(&mask, bits, sizeof mask);
  constexpr int64_t kEight = 0x0101010101010101;
  const __m256i lanes = _mm256_setr_epi64x(0, kEight, 2 * kEight, 3 * kEight);
  const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(mask), lanes);
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
  return v - reinterpret_cast<VecByte>(set);
#elif defined(__SSSE3__)
  int16_t mask;
  std::memcpy(&mask, bits, sizeof mask);
  const __m128i lanes = _mm_set_epi64x(0x0101010101010101, 0);
  const __m128i bit = _mm_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m128i spread = _mm_shuffle_epi8(_mm_set1_epi16(mask), lanes);
  const __m128i set = _mm_cmpeq_epi8(_mm_and_si128(spread, bit), bit);
  return v - reinterpret_cast<VecByte>(set);
#else
  VecByte spread, bit;
  for (int i = 0; i < kByteLanes; ++i) {
    spread[i] = bits[i / 8];
    bit[i] = static_cast<uint8_t>(1 << i % 8);
  }
  return v - reinterpret_cast<VecByte>((spread & bit) == bit);
#endif
}

// Lane i of v plus that of x where bit i of mask is set; other lanes keep their bits.
RF_INLINE Vec add_where(Vec v, uint32_t mask, Vec x) {
#if defined(__AVX512F__)
  return _mm512_mask_add_ps(v, static_cast<__mmask16>(mask), v, x);
#else
  VecInt bit;
  for (int i = 0; i < kLanes; ++i) bit[i] = 1 << i;
  const VecInt set = ((VecInt{} + static_cast<int32_t>(mask)) & bit) == bit;
  return set ? v + x : v;
#endif
}

// out[i] += v[i] for the kByteLanes lanes of v.
RF_INLINE void add_bytes(float* out, VecByte v) {
  typedef uint8_t Part __attribute__((vector_size(kLanes)));
  Part part[4];
  std::memcpy(part, &v, sizeof v);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    store(out + i * kLanes, load(out + i * kLanes) + __builtin_convertvector(part[i], Vec));
  }
}

// Lane sums of the products of two rows of any length d: reduce_add of them is dot.
RF_INLINE Vec dot_lanes(const float* a, const float* b, int64_t d) {
  Vec sum[4] = {};
  int64_t k = 0;
  for (; k + 4 * kLanes <= d; k += 4 * kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sum[j] += load(a + k + j * kLanes) * load(b + k + j * kLanes);
  }
  for (; k + kLanes <= d; k += kLanes) sum[0] += load(a + k) * load(b + k);
  if (k < d) sum[1] += load_first(a + k, d - k) * load_first(b + k, d - k);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// Lanes of a and b in alternating groups of Distance: the even groups of both (Odd false) or the odd ones.
template <int Distance, bool Odd, int... Lane>
RF_INLINE Vec interleave(Vec a, Vec b, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(
      a, b, (Lane / Distance % 2 == 0 ? Lane + Odd * Distance : kLanes + Lane - (1 - Odd) * Distance)...);
}

template <int Distance>
RF_INLINE void transpose_groups(Vec* row) {
  using Lanes = std::make_integer_sequence<int, kLanes>;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & Distance) != 0) continue;
    const Vec a = row[i], b = row[i + Distance];
    row[i] = interleave<Distance, false>(a, b, Lanes{});
    row[i + Distance] = interleave<Distance, true>(a, b, Lanes{});
  }
  if constexpr (Distance > 1) transpose_groups<Distance / 2>(row);
}

// Transposes a kLanes x kLanes tile between rows `in_row` and `out_row` apart.
RF_INLINE void transpose_tile(float* out, int64_t out_row, const float* in, int64_t in_row) {
  Vec row[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) row[i] = load(in + i * in_row);
  transpose_groups<kLanes / 2>(row);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(out + i * out_row, row[i]);
}

// Inner product of two rows of any length d. Whole vectors throughout, so that the bits never depend on the caller.
RF_INLINE float dot(const float* a, const float* b, int64_t d) { return reduce_add(dot_lanes(a, b, d)); }

// y += alpha x over d elements.
RF_INLINE void axpy(float* y, float alpha, const float* x, int64_t d) {
  int64_t k = 0;
  for (; k + kLanes <= d; k += kLanes) store(y + k, load(y + k) + alpha * load(x + k));
  for (; k < d; ++k) y[k] += alpha * x[k];
}

// Asks the caches for the `bytes` at p, whose last may lie one line further than a multiple of a line. The empty asm
// stands for an effect: gcc drops calls of functions that do nothing but prefetch.
RF_INLINE void prefetch(const void* p, int64_t bytes) {
  const char* first = static_cast<const char*>(p);
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(first + at);
  __builtin_prefetch(first + bytes - 1);
  __asm__ volatile("");
}

}  // namespace recsys_fast
