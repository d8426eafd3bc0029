// Rows of an ALS sweep solved exactly, and block by block of columns (iALS++), by a block of threads each.
#pragma once

#include "cuda/als_system.h"

namespace recsys_fast {

// A block's memory for one row after the other.
struct AlsExactMemory {
  AlsSystemMemory system;
  Shared<float> scale;  // (d) s
  float* factor;        // global scratch of als_factor_floats
};

// Both write the minimum of the row into its row of x, and return the objective there, NaN where the factorization
// failed. memory.scale is set.

// The system over features: (I + V^T C V) z = V^T t.
template <int kTile>
__device__ double als_primal(const AlsRow& row, const AlsExactMemory& memory, double constant) {
  const int64_t d = row.d, padded = (d + kTile - 1) / kTile * kTile;
  const Shared<float> scale = memory.scale, z = memory.system.z;
  float* x = row.task.x.row(row.u);
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < padded; i += blockDim.x) z[i] = 0.0f;
  AlsSystem<kTile> system(memory.system, memory.factor, d);
  const double explained = system.template solve<false>(
      row.n, [&](int64_t i, int64_t k) { return row.root(k) * (scale[i] * row.feature(k, i)); },
      [&](int64_t k) { return row.coefficient(k); });
#pragma unroll 1
  for (int64_t k = threadIdx.x; k < d; k += blockDim.x) x[k] = z[k] * scale[k];
  return constant - explained;
}

// The system over entries, for rows with fewer of them: W = C^1/2 V, (I + W W^T) u = C^-1/2 t, z = W^T u.
template <int kTile>
__device__ double als_dual(const AlsRow& row, const AlsExactMemory& memory, double constant) {
  const int64_t n = row.n, d = row.d, padded = (n + kTile - 1) / kTile * kTile;
  const Shared<float> scale = memory.scale, u = memory.system.z;
  float* x = row.task.x.row(row.u);
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < padded; i += blockDim.x) u[i] = i < n ? row.coefficient(i) : 0.0f;
  __syncthreads();
  AlsSystem<kTile> system(memory.system, memory.factor, n);
  const double solved = system.template solve<true>(
      d, [&](int64_t i, int64_t k) { return row.root(i) * (scale[k] * row.feature(i, k)); },
      [](int64_t) { return 0.0f; });
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) u[i] *= row.root(i);
  __syncthreads();
  double explained = 0.0;  // z . V^T t, in which small weights cancel nothing, unlike |h|^2 - h . u
#pragma unroll 1
  for (int64_t k = threadIdx.x; k < d; k += blockDim.x) {
    float value = 0.0f, right = 0.0f;
    const float s = scale[k];
#pragma unroll 4
    for (int64_t i = 0; i < n; ++i) {
      const float v = s * row.feature(i, k);
      value += u[i] * v;
      right += row.target(i) * v;
    }
    x[k] = value * s;
    explained += double{value} * right;
  }
  explained = Block::sum(explained, memory.system.parts);
  return is_finite(solved) ? constant - explained : solved;
}

// n_steps Newton steps over each block of columns of the row, exact given the others, from x as it stands. scores (n):
// global scratch, s_j = v_j . z, made anew in every pass so that rounding does not add up. solution (d).
template <int kTile>
__device__ double als_subspace(const AlsRow& row, const AlsExactMemory& memory, Shared<float> solution, float* scores,
                               int n_steps, int64_t block, double constant) {
  const int64_t n = row.n, d = row.d;
  const int lane = Warp::lane(), warp = static_cast<int>(threadIdx.x) / 32, n_warps = static_cast<int>(blockDim.x) / 32;
  const Shared<float> scale = memory.scale, z = memory.system.z;
  float* x = row.task.x.row(row.u);
  // scores_j += sum over columns [first, first + width) of v_j times values.
  const auto add_scores = [&](int64_t first, int64_t width, Shared<float> values, bool anew) {
    for (int64_t j = warp; j < n; j += n_warps) {
      float score = 0.0f;
      for (int64_t k = lane; k < width; k += 32) {
        score += scale[first + k] * row.feature(j, first + k) * float{values[k]};
      }
      score = Warp::sum(score);
      if (lane == 0) scores[j] = anew ? score : scores[j] + score;
    }
  };
#pragma unroll 1
  for (int64_t k = threadIdx.x; k < d; k += blockDim.x) solution[k] = x[k] * tile_reciprocal(scale[k]);
  double objective = 0.0;
  for (int pass = 0; pass < n_steps; ++pass) {
    __syncthreads();
    add_scores(0, d, solution, true);
    __syncthreads();
    if (pass == 0) {
#pragma unroll 1
      for (int64_t k = threadIdx.x; k < d; k += blockDim.x) objective += double{solution[k]} * solution[k];
      for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        const float s = scores[j];
        objective += double{s} * (double{row.weight(j)} * s - 2.0 * row.target(j));
      }
      objective = constant + Block::sum(objective, memory.system.parts);
    }
    for (int64_t first = 0; first < d; first += block) {
      const int64_t width = first + block < d ? block : d - first, padded = (width + kTile - 1) / kTile * kTile;
#pragma unroll 1
      for (int64_t i = threadIdx.x; i < padded; i += blockDim.x) z[i] = i < width ? -solution[first + i] : 0.0f;
      __syncthreads();
      AlsSystem<kTile> system(memory.system, memory.factor, width);
      objective -= system.template solve<false>(
          n, [&](int64_t i, int64_t k) { return row.root(k) * (scale[first + i] * row.feature(k, first + i)); },
          [&](int64_t k) { return row.coefficient(k) - row.root(k) * scores[k]; });
#pragma unroll 1
      for (int64_t i = threadIdx.x; i < width; i += blockDim.x) solution[first + i] += z[i];
      add_scores(first, width, z, false);
      __syncthreads();
    }
  }
#pragma unroll 1
  for (int64_t k = threadIdx.x; k < d; k += blockDim.x) x[k] = solution[k] * scale[k];
  return objective;
}

}  // namespace recsys_fast
