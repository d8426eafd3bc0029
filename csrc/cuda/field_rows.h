// Sums over the entries of a sparse row whose columns belong to fields, a lane per column of their table.
#pragma once

#include "core/views.h"
#include "cuda/reduce.h"

namespace recsys_fast {

// Lanes that share a row of so many numbers: narrow rows are several to a warp.
inline int lanes_for(int64_t n_columns) { return n_columns > 16 ? kWarpSize : n_columns > 8 ? 16 : 8; }

struct RowSum {
  float sum = 0.0f, squares = 0.0f;
};

// Of row `row` of x the sum of value times a column of the table, `column` being where it is in the table's first row,
// and the sum of the squares. add(field, part) gets the sum over every run of entries of one field;
// without fields all are in field 0. What is read may not be written meanwhile.
template <class Add>
__device__ __forceinline__ RowSum sum_column(const Csr& x, int64_t row, const float* column, int64_t stride,
                                             const int32_t* fields, const Add& add) {
  const int64_t end = x.row_ptr[row + 1];
  RowSum found;
  float run = 0.0f;
  int32_t at = -1;
#pragma unroll 4
  for (int64_t e = x.row_ptr[row]; e < end; ++e) {
    const int64_t id = __ldg(x.col_idx + e);
    const float part = __ldg(column + id * stride) * (x.values != nullptr ? __ldg(x.values + e) : 1.0f);
    const int32_t field = fields != nullptr ? __ldg(fields + id) : 0;
    if (field != at) {
      if (at >= 0) add(at, run);
      run = 0.0f;
      at = field;
    }
    run += part;
    found.sum += part;
    found.squares += part * part;
  }
  if (at >= 0) add(at, run);
  return found;
}

// The lane's part of the sum of value times column `column` of the table.
__device__ __forceinline__ float weight_part(const Csr& x, int64_t row, Rows<const float> table, int64_t column,
                                             int lane, int n_lanes) {
  float sum = 0.0f;
  for (int64_t e = x.row_ptr[row] + lane; e < x.row_ptr[row + 1]; e += n_lanes) {
    sum += (x.values != nullptr ? x.values[e] : 1.0f) * table.row(x.col_idx[e])[column];
  }
  return sum;
}

}  // namespace recsys_fast
