// Operands of the products of cpu/loss_tiles.h as pairs of bfloat16. To be included between RF_BF16_BEGIN and
// RF_BF16_END.
#pragma once

#include "core/row_ends.h"
#include "core/simd_bf16.h"
#include "cpu/loss_tiles.h"

namespace recsys_fast {

// Pairs of bfloat16.
struct Bf16Product {
  using Word = int32_t;
  using Words = VecInt;
  static constexpr int64_t kPair = 2;
  static RF_INLINE VecInt spread(int32_t x) { return VecInt{} + x; }
  static RF_INLINE Vec add(Vec sum, VecInt a, VecInt b) { return bf16_dot(sum, a, b); }

  template <class Source>
  static RF_INLINE void pack_lanes(int32_t* out, int64_t n, int64_t d, const Source& source) {
    for (int64_t r = 0; r < kPanel; ++r) {
      const float* from = r < n ? source(r) : nullptr;
      for (int64_t k = 0; k < d; k += 2) {
        out[k / 2 * kPanel + r] = from != nullptr ? bf16_pair(from[k], k + 1 < d ? from[k + 1] : 0.0f) : 0;
      }
    }
  }
  // along (n, dp): pairs along d, only the first (d + 1) / 2 of each row are written; across ((n + 1) / 2, dp): of
  // neighbouring items.
  static RF_INLINE void pack_items(int32_t* along, int32_t* across, const float* rows, int64_t n, int64_t d,
                                   int64_t dp) {
    for (int64_t i = 0; i < n; ++i) {
      const float *row = rows + i * d, *next = i + 1 < n ? row + d : nullptr;
      for (int64_t k = 0; k < d; k += kLanes) {
        const Vec x = load_first(row + k, std::min<int64_t>(kLanes, d - k));
        const Vec y = k + kLanes < d ? load_first(row + k + kLanes, std::min<int64_t>(kLanes, d - k - kLanes)) : Vec{};
        if (k / kLanes % 2 == 0) store(along + i * dp + k / 2, bf16_run(x, y));
        if (i % 2 == 0) {
          const Vec z = next != nullptr ? load_first(next + k, std::min<int64_t>(kLanes, d - k)) : Vec{};
          store(across + i / 2 * dp + k, bf16_lanes(x, z));
        }
      }
    }
  }
  template <class Source>
  static RF_INLINE void pack_scaled(int32_t* out, int64_t n, int64_t d, int64_t dp, const float* factors,
                                    const Source& source) {
    for (int64_t r = 0; r < kPanel; r += 2) {
      const float* first = r < n ? source(r) : nullptr;
      const float* second = r + 1 < n ? source(r + 1) : nullptr;
      for (int64_t k = 0; k < dp; ++k) {
        const float x = first != nullptr && k < d ? factors[r] * first[k] : 0.0f;
        const float y = second != nullptr && k < d ? factors[r + 1] * second[k] : 0.0f;
        out[r / 2 * dp + k] = bf16_pair(x, y);
      }
    }
  }
  static RF_INLINE float dot(const float* a, const float* b, int64_t d) {
    Vec sum[2] = {};
    for (int64_t k = 0, odd = 0; k < d; k += 2 * kLanes, odd ^= 1)
      sum[odd] = bf16_dot(sum[odd], run(a, k, d), run(b, k, d));
    return reduce_add(sum[0] + sum[1]);
  }
  // The numbers of a row from k on, as many as fit.
  static RF_INLINE VecInt run(const float* row, int64_t k, int64_t d) {
    return bf16_run(load_up_to(row + k, d - k), k + kLanes < d ? load_up_to(row + k + kLanes, d - k - kLanes) : Vec{});
  }
  template <class Work>
  static RF_INLINE float* tile(const Work& work, int32_t*) {
    return work.tile;
  }
  template <class Work>
  static RF_INLINE int32_t* by_items(const Work& work, float* tile, int32_t* kept, int64_t n) {
    split(kept != nullptr ? kept : work.by_rows, work.by_items, tile, n);
    return work.by_items;
  }
  template <class Work>
  static RF_INLINE int32_t* rows_of(const Work& work, float*) {
    return work.by_rows;
  }
  template <class Work>
  static RF_INLINE int32_t* by_rows(const Work& work, float* tile, int64_t n) {
    split(work.by_rows, work.by_items, tile, n);
    return work.by_rows;
  }
  static RF_INLINE float weighted(const int32_t* numbers, const float* weights) {
    float sum = 0.0f;
    for (int64_t q = 0; q < kPanel / 2; ++q) {
      const uint32_t word = static_cast<uint32_t>(numbers[q]);
      sum += from_bf16(word & 0xFFFF) * weights[2 * q] + from_bf16(word >> 16) * weights[2 * q + 1];
    }
    return sum;
  }
  // tile (n, kPanel) floats as pairs of rows, (n, kPanel / 2), and as pairs of items, ((n + 1) / 2, kPanel).
  static RF_INLINE void split(int32_t* by_rows, int32_t* by_items, const float* tile, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      const float* at = tile + i * kPanel;
      for (int64_t r = 0; r < kPanel; r += 2 * kLanes) {
        store(by_rows + i * (kPanel / 2) + r / 2, bf16_run(load(at + r), load(at + r + kLanes)));
      }
      if (i % 2 != 0) continue;
      for (int64_t r = 0; r < kPanel; r += kLanes) {
        const Vec next = i + 1 < n ? load(at + kPanel + r) : Vec{};
        store(by_items + i / 2 * kPanel + r, bf16_lanes(load(at + r), next));
      }
    }
  }
};

}  // namespace recsys_fast
