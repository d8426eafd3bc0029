// Rows rounded to bytes, for a scan that only rules items out: a bound on what rounding can hide keeps it exact.
//
// y = s (b - 128) + e_y and q = t c + e_q, b in 1..255, c in -127..127. Then q.y <= s t c.(b - 128) + |q| |e_y| +
// |e_q| |y - e_y|, so y cannot reach a threshold while c.b lies below an integer that a few numbers of each side tell.
#pragma once

#include "core/gemm.h"
#include "core/views.h"

namespace recsys_fast {

inline constexpr int64_t kWidestBytes = 1 << 15;  // coordinates whose sums fit 32 bits

// Words of four bytes that hold d coordinates.
constexpr int64_t byte_words(int64_t d) { return (d + 3) / 4; }

// What the bound needs of a panel: 1 / s, and the largest |e_y| and |y - e_y|. An infinite error rules nothing out.
struct ByteBounds {
  float inverse_step, error, norm;
};

// words (byte_words(d), n_columns) = the columns of panel (d, n_columns) in bytes, four coordinates to a word, with one
// s for all of them. n_columns is a multiple of kLanes.
ByteBounds pack_bytes(int32_t* words, const float* panel, int64_t d, int64_t n_columns);

// The same of a query: c in words `step` apart, 1 / t, |e_q|, and 128 times the sum of c.
struct ByteQuery {
  float inverse_step, error;
  int32_t offset;
};
ByteQuery pack_byte_query(int32_t* words, int64_t step, const float* row, int64_t d);

// least[i] = what c.b must reach for an item of the panel to reach thresholds[i]; n is rounded up to whole vectors.
// A threshold of infinity is never reached.
struct ByteQueries {
  const float *thresholds, *norms, *inverse_steps, *errors;
  const int32_t* offsets;
};
void byte_limits(int32_t* least, const ByteQueries& queries, int64_t n, const ByteBounds& panel);

// sum[i][v] += c_i . b_v over n_words words: query_words (n_words, kTileRows), panel_words (n_words, columns).
RF_BYTE_DOT RF_INLINE void byte_accumulate(VecInt (&sum)[kTileRows][kTileVectors], int64_t n_words,
                                           const int32_t* query_words, const int32_t* panel_words) {
  for (int64_t k = 0; k < n_words; ++k) {
    VecInt right[kTileVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) right[v] = load(panel_words + (k * kTileVectors + v) * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      const VecInt left = VecInt{} + query_words[k * kTileRows + i];
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) sum[i][v] = byte_dot(sum[i][v], right[v], left);
    }
  }
}

}  // namespace recsys_fast
