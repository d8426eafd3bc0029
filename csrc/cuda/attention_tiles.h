// What the passes of attention share: which 64 rows of which sequence a block has, and which keys a query sees.
#pragma once

#include <cmath>

#include "core/dropout_hash.h"
#include "cuda/gemm.h"
#include "cuda/reduce.h"
#include "ops/attention.h"

namespace recsys_fast {

constexpr int64_t kMaskGroups = dropout_groups(int64_t{4096});  // masks are drawn for the longest sequence

struct Heads {
  const int64_t* row_ptr;
  int64_t n_sequences, n_rows, d, n_heads, width;
  bool causal;
  float scale;  // of the scores: 1 / sqrt(width)
  Dropout drop;

  explicit Heads(const AttentionShape& s)
      : row_ptr(s.row_ptr),
        n_sequences(s.n_sequences),
        n_rows(s.n_rows),
        d(s.d),
        n_heads(s.n_heads),
        width(s.d / s.n_heads),
        causal(s.causal),
        scale(1.0f / std::sqrt(static_cast<float>(width))),
        drop(s.masks.inner) {}

  // Blocks (tile of a sequence, head, columns of the head). Sequence s begins with tile row_ptr[s] / 64 + s, which
  // leaves room for all of its tiles without that the host knows its length.
  dim3 grid() const {
    return dim3(static_cast<unsigned>(n_rows / kGemmTile + n_sequences), static_cast<unsigned>(n_heads),
                blocks_for(width, kGemmTile));
  }
  // The mask's row has 32 bits that count.
  __device__ __forceinline__ float mask(uint32_t query_row, uint32_t head, int key) const {
    return drop.active() ? dropout_at(drop, query_row * static_cast<uint32_t>(n_heads) + head, key, kMaskGroups) : 1.0f;
  }
  // Numbers within a sequence of n rows.
  __device__ __forceinline__ bool sees(int query, int key, int n) const { return key < n && (!causal || key <= query); }
};

// The block's tile: rows `first` to `first` + 64 of the n rows of a sequence that begins at packed row `row`; none
// where `first` is not below n.
struct SequenceTile {
  int64_t row;
  int n, first;
  __device__ __forceinline__ explicit SequenceTile(const Heads& h) {
    int64_t low = 0, high = h.n_sequences;  // the sequence is the last one that begins at or before the tile
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      if (h.row_ptr[middle] / kGemmTile + middle <= blockIdx.x) {
        low = middle;
      } else {
        high = middle;
      }
    }
    row = h.row_ptr[low];
    n = static_cast<int>(h.row_ptr[low + 1] - row);
    first = static_cast<int>(blockIdx.x - row / kGemmTile - low) * kGemmTile;
  }
};

// A tile (64, 64) of the caller's registers to shared memory, columns below each other, as gemm_kept reads it.
__device__ __forceinline__ void keep_transposed(Shared<float> kept, const float (&tile)[8][4]) {
  const GemmPlace place;
  const Shared<float4> vectors = kept.as<float4>();
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int at = ((place.col + j) * kGemmStride + place.row) / 4;
    vectors[at] = make_float4(tile[0][j], tile[1][j], tile[2][j], tile[3][j]);
    vectors[at + 1] = make_float4(tile[4][j], tile[5][j], tile[6][j], tile[7][j]);
  }
}

}  // namespace recsys_fast
