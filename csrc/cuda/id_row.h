// Membership in a row of sorted ids, by one thread. The searches are those of cpu/id_row.h.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

// The first t in [0, n) for which above(t), else n; above ascends. Halvings do not depend on the data, so that the
// lanes of a warp stay together.
template <class Above>
__device__ int64_t first_above(int64_t n, Above&& above) {
  int64_t begin = 0;
  while (n > 1) {
    const int64_t half = n / 2;
    begin += above(begin + half - 1) ? 0 : half;
    n -= half;
  }
  return n == 1 && !above(begin) ? begin + 1 : begin;
}

struct IdRow {
  const int32_t* ids;
  int64_t n;

  __device__ bool contains(int32_t id) const {
    const int64_t t = first_above(n, [&](int64_t i) { return ids[i] >= id; });
    return t < n && ids[t] == id;
  }
};

// The n-th (from 0) item that is not in the row: n + t for the first t with row[t] - t > n, as t items lie below it.
__device__ inline int32_t nth_absent(const IdRow& row, int64_t n) {
  return static_cast<int32_t>(n + first_above(row.n, [&](int64_t t) { return row.ids[t] - t > n; }));
}

}  // namespace recsys_fast
