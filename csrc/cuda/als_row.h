// One row of an ALS sweep on the device: its entries, and the scaling that turns its least squares problem into
// (I + V^T C V) z = V^T t, with y in the eigenbasis of its Gram matrix: D = w0 spectrum + reg_u, s = D^-1/2,
// v_j = s y_j, x = s z.
//
// Loops outside of the products say `unroll 1`: unrolled, their addresses decide how many registers a kernel takes.
#pragma once

#include <cmath>

#include "cuda/als_order.h"
#include "cuda/reduce.h"
#include "cuda/tile_product.h"
#include "ops/als.h"

namespace recsys_fast {

constexpr float kLeastWeight = 1e-30f;  // stands for 0, so that a root can be divided by

inline __device__ bool is_finite(double value) { return fabs(value) < static_cast<double>(INFINITY); }

// What all kernels of a sweep share. Device pointers.
struct AlsTask {
  Rows<float> x;
  Rows<const float> y;
  Csr matrix;
  AlsProblem problem;
  AlsOrder order;
  const float* floor;    // (1) keeps D positive where nothing regularises a direction
  const float* penalty;  // (x.n) reg_u
  double* objective;     // (x.n) minimum of each row
};

struct AlsRow {
  const AlsTask& task;
  int64_t u, begin, n, d;

  __device__ AlsRow(const AlsTask& of, int64_t row)
      : task(of), u(row), begin(of.matrix.row_ptr[row]), n(of.matrix.row_ptr[row + 1] - begin), d(of.y.d) {}

  __device__ float weight(int64_t j) const {
    const AlsProblem& p = task.problem;
    return p.weights != nullptr ? fabsf(__ldg(p.weights + begin + j)) : 1.0f;
  }
  __device__ float root(int64_t j) const {
    return task.problem.weights != nullptr ? tile_sqrt(fmaxf(weight(j), kLeastWeight)) : 1.0f;
  }
  // t_j / c_j^1/2
  __device__ float coefficient(int64_t j) const {
    const float t = target(j);
    return task.problem.weights != nullptr ? t * tile_rsqrt(fmaxf(weight(j), kLeastWeight)) : t;
  }
  __device__ const float* features(int64_t j) const {
    return task.y.data + static_cast<int64_t>(__ldg(task.matrix.col_idx + begin + j)) * d;
  }
  // Feature k of entry j; the bias's is 1.
  __device__ float feature(int64_t j, int64_t k) const {
    return task.problem.biased && k == d - 1 ? 1.0f : __ldg(features(j) + k);
  }
  __device__ float target(int64_t j) const {
    const AlsProblem& p = task.problem;
    if (p.targets != nullptr) {
      const float t = __ldg(p.targets + begin + j);
      return p.biased ? t - __ldg(features(j) + d - 1) : t;
    }
    const float w = p.weights != nullptr ? __ldg(p.weights + begin + j) : 1.0f;
    return w > 0.0f ? w + p.target_offset : 0.0f;
  }
  // t'_j: what the entry adds to the objective whatever x is.
  __device__ double constant(int64_t j) const {
    const float t = target(j);
    return task.problem.targets != nullptr ? double{t} * t : double{t};
  }

  __device__ bool penalised() const {
    return task.problem.regularization > 0.0f || task.problem.unobserved_weight > 0.0f;
  }
  // s_k, no element of D below smallest.
  __device__ float scale(int64_t k, float smallest) const {
    const float diagonal = task.problem.unobserved_weight * task.problem.spectrum[k] + task.penalty[u];
    return tile_rsqrt(fmaxf(diagonal, smallest));
  }
};

// A small share of the mean diagonal of the row's sum over entries: what a singular system is lent.
inline __device__ float share_of_diagonal(const AlsRow& row, Shared<double> parts) {
  double trace = 0.0;
  const int lane = static_cast<int>(threadIdx.x) % 32, n_warps = static_cast<int>(blockDim.x) / 32;
#pragma unroll 1
  for (int64_t j = static_cast<int>(threadIdx.x) / 32; j < row.n; j += n_warps) {
    const float* y = row.features(j);
    float square = 0.0f;
#pragma unroll 1
    for (int64_t k = lane; k < row.d; k += 32) square += y[k] * y[k];
    trace += double{row.weight(j)} * square;
  }
  return static_cast<float>(1e-5 * Block::sum(trace, parts)) * tile_reciprocal(static_cast<float>(row.d));
}

inline __device__ double total_constant(const AlsRow& row, Shared<double> parts) {
  double constant = 0.0;
#pragma unroll 1
  for (int64_t j = threadIdx.x; j < row.n; j += blockDim.x) constant += row.constant(j);
  return Block::sum(constant, parts);
}

}  // namespace recsys_fast
