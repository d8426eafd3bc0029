// The names that CUDA C++ gives to a kernel, for the emulated grid. Only what our kernels use; the meaning is CUDA's.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "testing/grid.h"
#include "testing/shared.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

#define threadIdx (::recsys_fast::emulated::here.thread)
#define blockIdx (::recsys_fast::emulated::here.block)
#define blockDim (::recsys_fast::emulated::here.block_size)
#define gridDim (::recsys_fast::emulated::here.grid_size)

inline constexpr int warpSize = 32;

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define RF_VECTORS(T, name)                                  \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };         \
  struct alignas(4 * sizeof(T)) name##4 { T x, y, z, w; };   \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
RF_VECTORS(float, float)
RF_VECTORS(int, int)
RF_VECTORS(unsigned, uint)
#undef RF_VECTORS

using Place_ = recsys_fast::emulated::Place;

inline void __syncthreads(Place_ at = Place_::current()) { recsys_fast::emulated::barrier(false, at); }
inline int __syncthreads_count(int p, Place_ at = Place_::current()) {
  return recsys_fast::emulated::barrier(p != 0, at);
}
inline int __syncthreads_or(int p, Place_ at = Place_::current()) {
  return recsys_fast::emulated::barrier(p != 0, at) != 0;
}
inline int __syncthreads_and(int p, Place_ at = Place_::current()) {
  return recsys_fast::emulated::barrier(p == 0, at) == 0;
}

using Collective_ = recsys_fast::emulated::Collective;

inline void __syncwarp(unsigned mask = ~0u, Place_ at = Place_::current()) {
  // A last warp that is not full has only the lanes it has.
  const unsigned n = blockDim.x * blockDim.y * blockDim.z - recsys_fast::emulated::here.linear / 32 * 32;
  if (mask == ~0u && n < 32) mask = (1u << n) - 1;
  recsys_fast::emulated::meet(Collective_::kSync, mask, 1, 0, at);
}
inline unsigned __ballot_sync(unsigned mask, int p, Place_ at = Place_::current()) {
  return static_cast<unsigned>(recsys_fast::emulated::meet(Collective_::kVote, mask, p != 0, 0, at));
}
inline int __any_sync(unsigned mask, int p, Place_ at = Place_::current()) { return __ballot_sync(mask, p, at) != 0; }
inline int __all_sync(unsigned mask, int p, Place_ at = Place_::current()) { return __ballot_sync(mask, !p, at) == 0; }

template <class T>
T shuffle_(unsigned mask, T value, int source, Place_ at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = recsys_fast::emulated::meet(Collective_::kShuffle, mask, bits, static_cast<unsigned>(source), at);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
// A lane outside its segment of `width` lanes leaves the caller's own value.
template <class T>
T shuffle_within_(unsigned mask, T value, int delta, int width, bool is_xor, Place_ at) {
  const int lane = static_cast<int>(recsys_fast::emulated::here.linear % 32), first = lane / width * width;
  const int source = is_xor ? lane ^ delta : lane + delta;
  const bool inside = is_xor ? source < first + width : source >= first && source < first + width;
  return shuffle_(mask, value, inside ? source : lane, at);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, Place_ at = Place_::current()) {
  const int lane = static_cast<int>(recsys_fast::emulated::here.linear % 32);
  return shuffle_(mask, value, lane / width * width + (source & (width - 1)), at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, Place_ at = Place_::current()) {
  return shuffle_within_(mask, value, -static_cast<int>(delta), width, false, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, Place_ at = Place_::current()) {
  return shuffle_within_(mask, value, static_cast<int>(delta), width, false, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, Place_ at = Place_::current()) {
  return shuffle_within_(mask, value, lanes, width, true, at);
}

// Atomic functions: on device memory with the host's atomics, since blocks run on several OS threads; on shared memory
// through the shadow. Relaxed, as CUDA's are.
template <class T, class Change>
T atomic_change_(T* place, Change&& change) {
  T old, next;
  __atomic_load(place, &old, __ATOMIC_RELAXED);
  do {
    next = change(old);
  } while (!__atomic_compare_exchange(place, &old, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
template <class T, class Change>
T atomic_change_(recsys_fast::SharedAddress<T> place, Change&& change) {
  return place.update(change);
}
template <class T>
struct Same_ {
  using type = T;
};
template <class T>
using As_ = typename Same_<T>::type;  // the place alone says the type

#define RF_ATOMIC(name, expression)                                                  \
  template <class T>                                                                 \
  T name(T* place, As_<T> v) {                                                       \
    return atomic_change_(place, [&](T old) { return static_cast<T>(expression); }); \
  }                                                                                  \
  template <class T>                                                                 \
  T name(recsys_fast::SharedAddress<T> place, As_<T> v) {                            \
    return atomic_change_(place, [&](T old) { return static_cast<T>(expression); }); \
  }
RF_ATOMIC(atomicAdd, old + v)
RF_ATOMIC(atomicSub, old - v)
RF_ATOMIC(atomicMax, old < v ? v : old)
RF_ATOMIC(atomicMin, v < old ? v : old)
RF_ATOMIC(atomicExch, ((void)old, v))
RF_ATOMIC(atomicOr, old | v)
RF_ATOMIC(atomicAnd, old& v)
#undef RF_ATOMIC
template <class Place, class T>
T atomic_swap_(Place place, T expected, T desired) {
  return atomic_change_(place, [&](T old) { return old == expected ? desired : old; });
}
template <class T>
T atomicCAS(T* place, As_<T> expected, As_<T> desired) {
  return atomic_swap_(place, expected, desired);
}
template <class T>
T atomicCAS(recsys_fast::SharedAddress<T> place, As_<T> expected, As_<T> desired) {
  return atomic_swap_(place, expected, desired);
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline unsigned __brev(unsigned x) {
  unsigned out = 0;
  for (int i = 0; i < 32; ++i) out |= (x >> i & 1u) << (31 - i);
  return out;
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>(uint64_t{x} * y >> 32); }
template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
