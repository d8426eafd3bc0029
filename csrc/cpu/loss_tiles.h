// Products of tiles of items with panels of rows, for losses over many scores. A panel holds kPanel rows in lanes, so
// that scores come out as (item, row): the arithmetic between the products needs no sums across lanes. Operands are
// words: a float, or a pair of bfloat16 (see cpu/loss_bf16.h), in which case sums run over pairs. Templates only: a
// file for bfloat16 includes this between RF_BF16_BEGIN and RF_BF16_END.
#pragma once

#include <algorithm>

#include "core/gemm.h"

namespace recsys_fast {

inline constexpr int64_t kPanel = kTileVectors * kLanes;  // rows
inline constexpr int64_t kItemTile = 8 * kTileRows;       // items whose rows and scores stay in L1
inline constexpr int64_t kWideRow = 256;                  // numbers beyond which a row of the table counts as wide
inline constexpr int64_t kWideItemTile = 20 * kTileRows;  // items of wide rows: their scores are as deep a product
inline constexpr int64_t kDepth = 128;                    // words of a panel's rows that stay in L1 together

inline constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23: a sum's lowest bits are the nearest integer

// 2^-k e^x, magic = kRoundMagic - k; 0 below 2^-126. The polynomial of core/sigmoid.h.
RF_INLINE Vec exp_shifted(Vec x, Vec magic) {
  const Vec shifted = x * 1.44269504f + magic;
  const Vec r = x * 1.44269504f - (shifted - magic), r2 = r * r;
  const Vec p =
      (1.0f + 0.69314721f * r) + r2 * (0.24022107f + 0.05550327f * r) + (r2 * r2) * (0.00967604f + 0.00134004f * r);
  VecBits bits, power;  // far below 2^-126 the sum of both wraps around; such results are not used
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&power, &shifted, sizeof power);
  bits += power << 23;
  Vec out;
  std::memcpy(&out, &bits, sizeof out);
  return shifted >= broadcast(kRoundMagic - 126.0f) ? out : Vec{};
}

// A left side whose columns lie in n_parts pieces of n_k: a(i, part n_k + k) = at[part * apart + i * row + k * col].
template <class Word>
struct LeftSide {
  const Word* at;
  int64_t row, col, n_k, n_parts = 1, apart = 0;
};

// sums (MR, NV vectors) of a(i, k) b(k, .); end(i, sum) takes each row of sums.
template <class Product, int MR, int NV, class End>
RF_INLINE void product_tile(const LeftSide<typename Product::Word>& a, const typename Product::Word* b, int64_t b_row,
                            const End& end) {
  Vec sum[MR][NV] = {};
  const typename Product::Word* left_part = a.at;
  for (int64_t part = 0; part < a.n_parts; ++part, left_part += a.apart) {
    for (int64_t k = 0; k < a.n_k; ++k, b += b_row) {
      typename Product::Words right[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) right[v] = load(b + v * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) {
        const typename Product::Words left = Product::spread(left_part[i * a.row + k * a.col]);
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) sum[i][v] = Product::add(sum[i][v], left, right[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) end(i, sum[i]);
}

// product_tile for n_i <= MR rows.
template <class Product, int NV, class End, int MR = kTileRows>
inline void product_rows(int n_i, const LeftSide<typename Product::Word>& a, const typename Product::Word* b,
                         int64_t b_row, const End& end) {
  if constexpr (MR > 1) {
    if (n_i < MR) return product_rows<Product, NV, End, MR - 1>(n_i, a, b, b_row, end);
  }
  product_tile<Product, MR, NV>(a, b, b_row, end);
}

// c (n_i, n_v vectors) += a b.
template <class Product, int NV = kTileVectors>
inline void product_add(int n_i, int n_v, const LeftSide<typename Product::Word>& a, const typename Product::Word* b,
                        int64_t b_row, float* c, int64_t c_row) {
  if constexpr (NV > 1) {
    if (n_v < NV) return product_add<Product, NV - 1>(n_i, n_v, a, b, b_row, c, c_row);
  }
  if (c_row > kWideRow) {  // narrow rows of c stay in L1
    for (int i = 0; i < n_i; ++i) prefetch(c + i * c_row, NV * kLanes * static_cast<int64_t>(sizeof(float)));
  }
  product_rows<Product, NV>(n_i, a, b, b_row, [=](int i, const Vec(&sum)[NV]) __attribute__((always_inline)) {
    float* at = c + i * c_row;
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(at + v * kLanes, load(at + v * kLanes) + sum[v]);
  });
}

// c (n_i, dp) += a b, b's and c's rows dp apart.
template <class Product>
inline void product_block(int64_t n_i, int64_t dp, LeftSide<typename Product::Word> a, const typename Product::Word* b,
                          float* c) {
  const typename Product::Word* first = a.at;
  for (int64_t j = 0; j < dp; j += kPanel) {
    const int n_v = static_cast<int>(std::min<int64_t>(kTileVectors, (dp - j) / kLanes));
    for (int64_t i = 0; i < n_i; i += kTileRows) {
      a.at = first + i * a.row;
      product_add<Product>(static_cast<int>(std::min<int64_t>(kTileRows, n_i - i)), n_v, a, b + j, dp, c + i * dp + j,
                           dp);
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
  // out (kPanel, dp) = factors[r] times the row at source(r).
  template <class Source>
  static RF_INLINE void pack_scaled(float* out, int64_t n, int64_t d, int64_t dp, const float* factors,
                                    const Source& source) {
    for (int64_t r = 0; r < kPanel; ++r) {
      const float* from = r < n ? source(r) : nullptr;
      for (int64_t k = 0; k < dp; ++k) out[r * dp + k] = from != nullptr && k < d ? factors[r] * from[k] : 0.0f;
    }
  }
  static RF_INLINE float dot(const float* a, const float* b, int64_t d) { return recsys_fast::dot(a, b, d); }
  // Where a tile of scores is made, and its words for products over items and rows; kept may be null.
  template <class Work>
  static RF_INLINE float* tile(const Work& work, float* kept) {
    return kept != nullptr ? kept : work.tile;
  }
  template <class Work>
  static RF_INLINE float* by_items(const Work&, float* tile, float*, int64_t) {
    return tile;
  }
  // After by_items.
  template <class Work>
  static RF_INLINE float* rows_of(const Work&, float* tile) {
    return tile;
  }
  template <class Work>
  static RF_INLINE float* by_rows(const Work&, float* tile, int64_t) {
    return tile;
  }
  // The sum over the panel of weights[r] times the numbers of an item.
  static RF_INLINE float weighted(const float* numbers, const float* weights) {
    Vec sum = {};
    for (int64_t r = 0; r < kPanel; r += kLanes) sum += load(numbers + r) * load(weights + r);
    return reduce_add(sum);
  }
};

}  // namespace recsys_fast
