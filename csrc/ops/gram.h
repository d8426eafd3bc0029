// Dense products around the d x d Gram matrix of a factor table.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// out (d, d) = y^T y, y (n, d). Overwrites. Fixed reduction tree: the same bits for any n_threads.
template <class Device>
void gram(float* out, Rows<const float> y, int n_threads);

// gram = vectors diag(values) vectors^T: vectors (d, d) hold eigenvectors in columns, values (d) descending; the
// largest component of each vector is positive. One-sided Jacobi on the Cholesky factor, in float64
// (Veselic & Hari 1989). gram must be symmetric positive semidefinite. Deterministic for any n_threads.
template <class Device>
void gram_eigen(float* vectors, float* values, const float* gram, int64_t d, int n_threads);

// x (n, d) <- x q, q (d, d), in place.
template <class Device>
void rows_rotate(Rows<float> x, const float* q, int n_threads);

}  // namespace recsys_fast
