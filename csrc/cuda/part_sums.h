// Sums over rows come in parts, one per run of rows, that are added in order: how rows are cut depends on sizes only.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

// out (rows, cols), whose rows are `stride` apart, = the sum of the parts (n_parts, rows, cols), `part_stride` apart.
void add_parts(float* out, int64_t stride, const float* parts, int64_t part_stride, int64_t rows, int64_t cols,
               int64_t n_parts, Stream stream);

}  // namespace recsys_fast
