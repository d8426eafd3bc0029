// The best columns of every row of a sparse matrix times a dense one.
#pragma once

#include "core/device.h"
#include "core/views.h"
#include "ops/topk.h"

namespace recsys_fast {

// ids, scores (m, n): row r holds the n eligible columns of largest score (a b)[r, c], by score descending, then column
// ascending; short rows end in -1 and -inf. a (m, k) sparse, b (k, n_cols). Overwrites. A sum runs in float32 in the
// order of a's entries: its bits depend neither on n_threads nor on the other rows. NaN is never given.
template <class Device>
void product_topk_dense(Rows<int32_t> ids, Rows<float> scores, const Csr& a, Rows<const float> b,
                        const Eligible& eligible, int n_threads);

}  // namespace recsys_fast
