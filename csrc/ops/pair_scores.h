// Scores of chosen pairs.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// out[j] = dot(x[row(j)], y[col_idx[j]]) for every entry j of pairs; x (n_rows, d), y (n_cols, d): the bits in which
// topk scores the same pair. Overwrites. Deterministic for any n_threads.
template <class Device>
void pair_scores(float* out, Rows<const float> x, Rows<const float> y, Csr pairs, int n_threads);

}  // namespace recsys_fast
