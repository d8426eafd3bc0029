// The best columns of every row of a sparse product; the product itself is never held.
#pragma once

#include "core/device.h"
#include "core/views.h"
#include "ops/topk.h"

namespace recsys_fast {

// How a sum s = (a b)[r, c] becomes a score, with x = row[r], y = col[c]; 0 where the denominator is not positive.
struct ProductNorms {
  enum Mode { kNone = 0, kProduct = 1, kUnion = 2 };  // s; s / (x y + shrinkage); s / (x + y - s + shrinkage)
  Mode mode;
  const float* row;  // (m), null with kNone
  const float* col;  // (n_cols), null with kNone
  float shrinkage;
};

// ids, scores (m, n): row r holds the n eligible columns of largest score of row r of a b, by score descending, then
// column ascending; short rows end in -1 and -inf. a (m, k), b (k, n_cols). only_touched: columns of score 0 are left
// out. Overwrites. Sums are made in float32 in the order of a's entries: the bits depend neither on n_threads nor on
// the other rows of the call. Besides the result: 4 bytes per entry of b, 24 per row of b and column, at most 96 MB of
// bits, and per thread 12 bytes per column and 32 per n.
template <class Device>
void product_topk(Rows<int32_t> ids, Rows<float> scores, Csr a, Csr b, const Eligible& eligible,
                  const ProductNorms& norms, bool only_touched, int n_threads);

}  // namespace recsys_fast
