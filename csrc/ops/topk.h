// The best items of every query by inner product.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// Which items a query may be given: ids of `candidates` (sorted, distinct; null: all), less the query's row of seen.
struct Eligible {
  const int32_t* candidates;
  int64_t n_candidates;
  const int64_t* seen_row_ptr;  // null: nothing is seen
  const int32_t* seen_col_idx;  // sorted within a row; need not be candidates
};

// ids, scores (m, n): row q holds the n eligible items of largest score = dot(queries[q], items[id]), by score
// descending, then id ascending; short rows end in -1 and -inf. queries (m, d), items (n_items, d). Overwrites.
// Exact in float32: the bits depend neither on n_threads nor on the other queries of the call.
template <class Device>
void topk(Rows<int32_t> ids, Rows<float> scores, Rows<const float> queries, Rows<const float> items,
          const Eligible& eligible, int n_threads);

}  // namespace recsys_fast
