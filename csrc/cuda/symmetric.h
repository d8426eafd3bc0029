// Symmetric matrices of which the lower triangle is made first.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

// a (n, n) <- sign times its lower triangle, on both sides of the diagonal.
void mirror_lower(float* a, int64_t n, float sign, Stream stream);

}  // namespace recsys_fast
