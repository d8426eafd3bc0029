// Layer norm of rows (n, d), a warp each, and its gradients.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

// y = gamma (x - mean) stats + beta with stats (n, 2) = mean, 1 / sqrt(variance + eps), which are overwritten too.
void norm_rows(float* y, float* stats, const float* x, int64_t n, int64_t d, const float* gamma, const float* beta,
               float eps, Stream stream);

// The same from the stats of before.
void renorm_rows(float* y, const float* stats, const float* x, int64_t n, int64_t d, const float* gamma,
                 const float* beta, Stream stream);

// dx = the gradient of rows x for dy, plus `add` where that is not null; dx may be dy or add. dgamma, dbeta (d) are
// overwritten; their sums' tree depends on n only.
void norm_rows_back(float* dx, float* dgamma, float* dbeta, const float* dy, const float* x, const float* stats,
                    const float* gamma, const float* add, int64_t n, int64_t d, Stream stream);

}  // namespace recsys_fast
