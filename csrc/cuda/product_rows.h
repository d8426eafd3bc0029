// Rows of a product of two sparse matrices, by a block of 256 threads. Each of its eight warps owns a slice of the
// columns and walks through the row's entries in order: no two warps meet, there is no atomic, and a sum has the order
// of the entries. Where a row of b begins and ends in a slice is looked up beforehand.
//
// Floor: 8 bytes of b from L2 and one addition to where the sums are per multiply-add. Long rows of b fill the lanes;
// of short ones a slice holds a few entries, whose loads four steps at a time overlap.
#pragma once

#include "core/views.h"
#include "cuda/reduce.h"

namespace recsys_fast {

constexpr int kProductThreads = 256, kProductWarps = kProductThreads / kWarpSize;

// Columns [first, first + width) of a row; a warp's slice is `slice` of them.
struct Panel {
  int64_t first;
  int width, slice;
};

// The first of the panels of n_cols columns, `most` of them at most: panels of one width, slices of whole warps.
inline Panel first_panel(int64_t n_cols, int64_t most) {
  const int64_t n_slices = (n_cols + most - 1) / most * kProductWarps;
  const int slice = static_cast<int>(((n_cols + n_slices - 1) / n_slices + kWarpSize - 1) / kWarpSize * kWarpSize);
  return {0, slice * kProductWarps, slice};
}

// splits (b.n_rows, kProductWarps + 1): where the slices of a panel begin in each row of b, and where the last ends.
void product_splits(int64_t* splits, const Csr& b, const Panel& panel, Stream stream);

// What all sums start from.
struct SameBlank {
  float value;
  __device__ float at(int64_t) const { return value; }
};

// The sums of a row of a b, in Number: float or double. kAhead: entries whose columns are loaded before any is added.
template <class Number, int kAhead = 4>
struct SparseRows {
  Csr a, b;
  const int64_t* splits;

  // sums[c], in shared or device memory, = the sum at column panel.first + c, from blank.at(column) on; overwrites,
  // each element by one warp. The block waits before others look.
  template <class Sums, class Blank>
  __device__ void sum(const Sums& sums, int64_t row, const Panel& panel, const Blank& blank) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize, lane = Warp::lane();
    const int end = min(panel.width, (warp + 1) * panel.slice);
    if (warp * panel.slice >= end) return;
    for (int c = warp * panel.slice + lane; c < end; c += kWarpSize) sums[c] = blank.at(panel.first + c);
    __syncwarp();
    const int64_t last = a.row_ptr[row + 1];
    for (int64_t base = a.row_ptr[row]; base < last; base += kWarpSize) {
      int64_t from = 0, to = 0;  // of this lane's entry; a slice without columns has none
      float value = 1.0f;
      if (base + lane < last) {
        const int64_t at = int64_t{a.col_idx[base + lane]} * (kProductWarps + 1) + warp;
        from = splits[at];
        to = splits[at + 1];
        if (a.values != nullptr) value = a.values[base + lane];
      }
      const int n = static_cast<int>(min(last - base, int64_t{kWarpSize}));
      for (int j = 0; j < n; j += kAhead) {
        int64_t begins[kAhead], ends[kAhead];
        Number factors[kAhead], products[kAhead];
        int columns[kAhead];
#pragma unroll
        for (int u = 0; u < kAhead; ++u) {
          begins[u] = Warp::from(from, j + u) + lane;
          ends[u] = Warp::from(to, j + u);
          factors[u] = Warp::from(value, j + u);
          columns[u] = begins[u] < ends[u] ? column(begins[u], panel) : -1;
          products[u] = columns[u] >= 0 ? factors[u] * factor(begins[u]) : Number(0);
        }
#pragma unroll
        for (int u = 0; u < kAhead; ++u) {
          if (columns[u] >= 0) add(sums, columns[u], products[u]);
          for (int64_t q = begins[u] + kWarpSize; q < ends[u]; q += kWarpSize) {
            add(sums, column(q, panel), factors[u] * factor(q));
          }
          __syncwarp();  // the next entry may have the same columns in other lanes
        }
      }
    }
  }

 private:
  __device__ int column(int64_t q, const Panel& panel) const { return static_cast<int>(b.col_idx[q] - panel.first); }
  __device__ Number factor(int64_t q) const { return b.values == nullptr ? Number(1) : Number(b.values[q]); }
  template <class Sums>
  static __device__ void add(const Sums& sums, int c, Number product) {
    const Number before = sums[c];
    sums[c] = before + product;
  }
};

}  // namespace recsys_fast
