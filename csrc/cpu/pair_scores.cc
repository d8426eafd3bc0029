#include "ops/pair_scores.h"

#include <algorithm>

#include "core/simd.h"
#include "core/thread_pool.h"

namespace recsys_fast {
namespace {

constexpr int64_t kChunk = 4096;  // entries
constexpr int64_t kAhead = 16;    // entries between the request for a row and its use

}  // namespace

template <>
void pair_scores<Cpu>(float* out, Rows<const float> x, Rows<const float> y, Csr pairs, int n_threads) {
  const int64_t d = x.d, nnz = pairs.nnz();
  const int32_t* columns = pairs.col_idx;
  parallel_for(nnz, kChunk, n_threads, [&](int64_t begin, int64_t end, int) {
    const int64_t* rows_end = pairs.row_ptr + pairs.n_rows + 1;
    int64_t row = std::upper_bound(pairs.row_ptr, rows_end, begin) - pairs.row_ptr - 1;
    for (int64_t j = begin; j < end; ++row) {
      const float* left = x.row(row);
      const int64_t stop = std::min(end, pairs.row_ptr[row + 1]);
      for (; j + 8 <= stop; j += 8) {
        for (int64_t i = j + kAhead; i < std::min(j + kAhead + 8, nnz); ++i) {
          prefetch(y.row(columns[i]), d * static_cast<int64_t>(sizeof(float)));
        }
        Vec lanes[8];
        for (int i = 0; i < 8; ++i) lanes[i] = dot_lanes(left, y.row(columns[j + i]), d);
        reduce_add8(lanes, out + j);
      }
      for (; j < stop; ++j) out[j] = dot(left, y.row(columns[j]), d);
    }
  });
}

}  // namespace recsys_fast
