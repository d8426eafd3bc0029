// Running sums over device arrays, the same bits for any launch.
#pragma once

#include <cstdint>

#include "cuda/kernel.h"

namespace recsys_fast {

// x[i] = sum of the first i of them, i < n; in place.
void prefix_sum(int64_t* x, int64_t n, Stream stream);

}  // namespace recsys_fast
