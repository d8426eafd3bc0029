// A tile of whole sequences, and products between its rows and their neighbours in time.
//
// A tap with shift s connects row t with row t - s of the same sequence. With the tile's rows ordered by their place
// in their sequence, last places first, those that have such a neighbour are the first ones, for every s: a tap is one
// product over a prefix of one list, and no row before a sequence's start is ever computed with.
#pragma once

#include "core/arena.h"
#include "core/gemm.h"

namespace recsys_fast {

class TapRows {
 public:
  // Bytes that a tile of n rows takes from an arena, whatever its sequences.
  static size_t bytes(int64_t n) { return Arena::padded<int32_t>(n) + 2 * Arena::padded<int32_t>(n + 1); }

  // Sequences row_ptr[0] to row_ptr[n_sequences].
  TapRows(Arena& arena, const int64_t* row_ptr, int64_t n_sequences) {
    const int64_t n = row_ptr[n_sequences] - row_ptr[0];
    rows_ = arena.take<int32_t>(n);
    count_ = arena.take<int32_t>(n + 1);
    int32_t* next = arena.take<int32_t>(n + 1);
    for (int64_t s = 0; s < n_sequences; ++s) longest_ = std::max(longest_, row_ptr[s + 1] - row_ptr[s]);
    std::fill_n(count_, longest_ + 1, 0);
    for (int64_t s = 0; s < n_sequences; ++s) {
      for (int64_t place = 0; place < row_ptr[s + 1] - row_ptr[s]; ++place) ++count_[place];
    }
    for (int64_t place = longest_ - 1; place >= 0; --place) {
      next[place] = count_[place + 1];
      count_[place] += count_[place + 1];
    }
    for (int64_t s = 0; s < n_sequences; ++s) {
      for (int64_t t = row_ptr[s]; t < row_ptr[s + 1]; ++t) {
        rows_[next[t - row_ptr[s]]++] = static_cast<int32_t>(t - row_ptr[0]);
      }
    }
  }

  const int32_t* rows() const { return rows_; }
  // Rows that have a row `shift` places before them.
  int64_t count(int64_t shift) const { return shift < longest_ ? count_[shift] : 0; }

 private:
  int32_t *rows_, *count_;
  int64_t longest_ = 0;
};

// c[t - c_shift] = start + a[t - a_shift] b for `n` listed rows t; a null start is c itself. a (., n_k) with rows a_row
// apart, b (n_k, width) and c (., width) with rows `width` apart, a multiple of kLanes.
inline void rows_times(float* c, int64_t c_shift, const float* start, const float* a, int64_t a_row, int64_t a_shift,
                       const float* b, int64_t width, int64_t n_k, const int32_t* rows, int64_t n) {
  for (int64_t j = 0; j < width; j += kTileVectors * kLanes) {
    for (int64_t r = 0; r < n; r += kTileRows) {
      with_tile<kTileRows, kTileVectors>(std::min<int64_t>(kTileRows, n - r), (width - j) / kLanes,
                                         [&]<int MR, int NV>() {
                                           const float* left[MR];
                                           float* at[MR];
                                           Vec sum[MR][NV];
#pragma GCC unroll 16
                                           for (int i = 0; i < MR; ++i) {
                                             left[i] = a + (rows[r + i] - a_shift) * a_row;
                                             at[i] = c + (rows[r + i] - c_shift) * width + j;
                                             const float* from = start != nullptr ? start + j : at[i];
#pragma GCC unroll 8
                                             for (int v = 0; v < NV; ++v) sum[i][v] = load(from + v * kLanes);
                                           }
                                           gemm_accumulate<MR, NV>(sum, n_k, left, 1, b + j, width);
#pragma GCC unroll 16
                                           for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 8
                                             for (int v = 0; v < NV; ++v) store(at[i] + v * kLanes, sum[i][v]);
                                           }
                                         });
    }
  }
}

// c (n_i, width) += sum over the n listed rows t of a[t - shift]^T b[t]; a (., n_i) with rows a_row apart, b and c with
// rows `width` apart.
inline void rows_outer(float* c, const float* a, int64_t a_row, int64_t shift, int64_t n_i, const float* b,
                       int64_t width, const int32_t* rows, int64_t n) {
  for (int64_t j = 0; j < width; j += kTileVectors * kLanes) {
    for (int64_t i0 = 0; i0 < n_i; i0 += kTileRows) {
      with_tile<kTileRows, kTileVectors>(std::min<int64_t>(kTileRows, n_i - i0), (width - j) / kLanes,
                                         [&]<int MR, int NV>() {
                                           Vec sum[MR][NV] = {};
                                           for (int64_t r = 0; r < n; ++r) {
                                             const int64_t t = rows[r];
                                             const float* left = a + (t - shift) * a_row + i0;
                                             const float* right = b + t * width + j;
                                             Vec column[NV];
#pragma GCC unroll 8
                                             for (int v = 0; v < NV; ++v) column[v] = load(right + v * kLanes);
#pragma GCC unroll 16
                                             for (int i = 0; i < MR; ++i) {
                                               const Vec x = broadcast(left[i]);
#pragma GCC unroll 8
                                               for (int v = 0; v < NV; ++v) sum[i][v] += x * column[v];
                                             }
                                           }
#pragma GCC unroll 16
                                           for (int i = 0; i < MR; ++i) {
                                             float* at = c + (i0 + i) * width + j;
#pragma GCC unroll 8
                                             for (int v = 0; v < NV; ++v)
                                               store(at + v * kLanes, load(at + v * kLanes) + sum[i][v]);
                                           }
                                         });
    }
  }
}

}  // namespace recsys_fast
