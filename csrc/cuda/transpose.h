// Transposition of a dense matrix.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

// out (m, n) = the transpose of in (n, m).
void transpose(float* out, const float* in, int64_t n, int64_t m, Stream stream);

}  // namespace recsys_fast
