// Searches in ascending numbers, on the host and in kernels.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace recsys_fast {

// The first t in [0, n) for which above(t), else n; above ascends. No branch depends on the data: it would be a coin,
// and part the lanes of a warp.
template <class Above>
RF_HOST_DEVICE int64_t first_above(int64_t n, Above&& above) {
  int64_t begin = 0;
  while (n > 1) {
    const int64_t half = n / 2;
    begin += above(begin + half - 1) ? 0 : half;
    n -= half;
  }
  return n == 1 && !above(begin) ? begin + 1 : begin;
}

// The n-th (from 0) item that is not in the row: n + t for the first t with row[t] - t > n, as t items lie below it.
template <class Row>
RF_HOST_DEVICE int32_t nth_absent(const Row& row, int64_t n) {
  return static_cast<int32_t>(n + first_above(row.n, [&](int64_t t) { return row.ids[t] - t > n; }));
}

// The row of an entry of a sparse matrix; row pointers are sound.
RF_HOST_DEVICE inline int64_t row_of_entry(const int64_t* row_ptr, int64_t n_rows, int64_t entry) {
  return first_above(n_rows, [&](int64_t r) { return row_ptr[r + 1] > entry; });
}

}  // namespace recsys_fast
