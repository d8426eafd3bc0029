// Products of tiles of items with panels of rows, for losses over many scores. A panel holds kPanel rows in lanes, so
// that scores come out as (item, row): the arithmetic between the products needs no sums across lanes. Operands are
// words: a float, or a pair of bfloat16 (see core/bf16.h), in which case sums run over pairs.
#pragma once

#include <algorithm>

#include "core/bf16.h"
#include "core/gemm.h"

namespace recsys_fast {

inline constexpr int64_t kPanel = kTileVectors * kLanes;  // rows
inline constexpr int64_t kItemTile = 8 * kTileRows;       // items whose rows and scores stay in L1

// sums (n_i, n_v vectors) of a(i, k) b(k, .), a(i, k) = a[i * a_row + k * a_col]; end(i, sum) takes each row of sums.
template <class Product, int MR, int NV, class End>
RF_INLINE void product_tile(int64_t n_k, const typename Product::Word* a, int64_t a_row, int64_t a_col,
                            const typename Product::Word* b, int64_t b_row, const End& end) {
  Vec sum[MR][NV] = {};
  for (int64_t k = 0; k < n_k; ++k) {
    typename Product::Words right[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) right[v] = load(b + k * b_row + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const typename Product::Words left = Product::spread(a[i * a_row + k * a_col]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sum[i][v] = Product::add(sum[i][v], left, right[v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) end(i, sum[i]);
}

// product_tile for n_i <= MR rows.
template <class Product, int NV, class End, int MR = kTileRows>
inline void product_rows(int n_i, int64_t n_k, const typename Product::Word* a, int64_t a_row, int64_t a_col,
                         const typename Product::Word* b, int64_t b_row, const End& end) {
  if constexpr (MR > 1) {
    if (n_i < MR) return product_rows<Product, NV, End, MR - 1>(n_i, n_k, a, a_row, a_col, b, b_row, end);
  }
  product_tile<Product, MR, NV>(n_k, a, a_row, a_col, b, b_row, end);
}

// c (n_i, n_v vectors) += a b.
template <class Product, int NV = kTileVectors>
inline void product_add(int n_i, int n_v, int64_t n_k, const typename Product::Word* a, int64_t a_row, int64_t a_col,
                        const typename Product::Word* b, int64_t b_row, float* c, int64_t c_row) {
  if constexpr (NV > 1) {
    if (n_v < NV) return product_add<Product, NV - 1>(n_i, n_v, n_k, a, a_row, a_col, b, b_row, c, c_row);
  }
  product_rows<Product, NV>(n_i, n_k, a, a_row, a_col, b, b_row, [=](int i, const Vec(&sum)[NV]) RF_INLINE_LAMBDA {
    float* at = c + i * c_row;
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(at + v * kLanes, load(at + v * kLanes) + sum[v]);
  });
}

// c (n_i, dp) += a b, b's and c's rows dp apart.
template <class Product>
inline void product_block(int64_t n_i, int64_t dp, int64_t n_k, const typename Product::Word* a, int64_t a_row,
                          int64_t a_col, const typename Product::Word* b, float* c) {
  for (int64_t j = 0; j < dp; j += kPanel) {
    const int n_v = static_cast<int>(std::min<int64_t>(kTileVectors, (dp - j) / kLanes));
    for (int64_t i = 0; i < n_i; i += kTileRows) {
      const int n_rows = static_cast<int>(std::min<int64_t>(kTileRows, n_i - i));
      product_add<Product>(n_rows, n_v, n_k, a + i * a_row, a_row, a_col, b + j, dp, c + i * dp + j, dp);
    }
  }
}

// Float words. Scores of a tile are kept as they are: (item, row in the panel).
struct FloatProduct {
  using Word = float;
  using Words = Vec;
  static constexpr int64_t kPair = 1;
  static RF_INLINE Vec spread(float x) { return broadcast(x); }
  static RF_INLINE Vec add(Vec sum, Vec a, Vec b) { return sum + a * b; }

  // out (d, kPanel): the panel's rows as columns; a row is at source(r).
  template <class Source>
  static RF_INLINE void pack_lanes(float* out, int64_t n, int64_t d, const Source& source) {
    for (int64_t r = 0; r < kPanel; ++r) {
      const float* from = r < n ? source(r) : nullptr;
      for (int64_t k = 0; k < d; ++k) out[k * kPanel + r] = from != nullptr ? from[k] : 0.0f;
    }
  }
  // along (n, dp) and across (n, dp), rows of a table with zeros behind them: for sums over d and over the items.
  static RF_INLINE void pack_items(float* along, float*, const float* rows, int64_t n, int64_t d, int64_t dp) {
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(rows + i * d, d, along + i * dp);
      std::fill(along + i * dp + d, along + (i + 1) * dp, 0.0f);
    }
  }
  static constexpr bool kOneItemPack = true;
  // out (kPanel, dp) = factors[r] times the row at source(r).
  template <class Source>
  static RF_INLINE void pack_scaled(float* out, int64_t n, int64_t d, int64_t dp, const float* factors,
                                    const Source& source) {
    for (int64_t r = 0; r < kPanel; ++r) {
      const float* from = r < n ? source(r) : nullptr;
      for (int64_t k = 0; k < dp; ++k) out[r * dp + k] = from != nullptr && k < d ? factors[r] * from[k] : 0.0f;
    }
  }
  // The sum over the panel of weights[r] times the numbers of an item.
  static RF_INLINE float weighted(const float* numbers, const float* weights) {
    Vec sum = {};
    for (int64_t r = 0; r < kPanel; r += kLanes) sum += load(numbers + r) * load(weights + r);
    return reduce_add(sum);
  }
};

RF_BF16_BEGIN

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
  static constexpr bool kOneItemPack = false;
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

RF_BF16_END

}  // namespace recsys_fast
