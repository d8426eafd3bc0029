// One row of an ALS sweep by conjugate gradients on (I + V^T C V) z = V^T t, by a block of threads: 4 n d operations a
// step, nothing of order d^2. Takacs, Pilaszy & Tikk 2011.
//
// A step needs each v_j twice, for its product with the direction and for the sum: what fits stays in shared memory
// for all steps (the median row of common data does), longer rows pass through it again in every step. A warp takes an
// entry for the products, so y is read in whole rows; a thread takes a column for the sums, so no sum crosses threads.
#pragma once

#include "cuda/als_row.h"

namespace recsys_fast {

constexpr int kAlsCgThreads = 128;  // a column each at the usual widths; barriers of four warps are cheap

// Groups of threads that share the entries of a sum where there are fewer columns than threads.
RF_HOST_DEVICE constexpr int als_cg_groups(int64_t d) { return d <= 32 ? 4 : d <= 64 ? 2 : 1; }

struct AlsCgMemory {
  Shared<float> z, r, p, scale;  // (d) solution, residual, direction, s
  Shared<float> q;               // (groups, d) product with the direction; its sum over groups counts
  Shared<float> coefficient;     // (n_resident)
  Shared<float> tile;            // (n_resident, d) v
  Shared<double> parts;
  int64_t n_resident;
};

RF_HOST_DEVICE constexpr int64_t als_cg_floats(int64_t d, int64_t n_resident) {
  return (4 + als_cg_groups(d)) * d + n_resident * (d + 1);
}

class AlsCg {
 public:
  __device__ AlsCg(const AlsRow& row, const AlsCgMemory& memory)
      : row_(row), memory_(memory), groups_(als_cg_groups(row.d)) {}

  // memory.scale is there. Starts at the row's x, and overwrites it; returns the objective there.
  __device__ double solve(int n_steps, double constant) {
    const Shared<float> z = memory_.z, r = memory_.r, p = memory_.p, scale = memory_.scale;
    float* x = row_.task.x.row(row_.u);
    double objective = 0.0;
    each([&](int64_t k) {
      z[k] = x[k] * tile_reciprocal(scale[k]);
      objective += double{z[k]} * z[k];
    });
    // r = V^T (t - C V z) - z, and the objective at the start from the same products.
    pass(z, true, [&](int64_t j, float s) {
      const float c = row_.weight(j), t = row_.target(j);
      if (Warp::lane() == 0) objective += double{s} * (double{c} * s - 2.0 * t);
      return t - c * s;
    });
    objective = constant + Block::sum(objective, memory_.parts);
    double part = 0.0;
    each([&](int64_t k) {
      const float value = product(k) - z[k];
      r[k] = value;
      p[k] = value;
      part += double{value} * value;
    });
    double rr = Block::sum(part, memory_.parts);
    if (!is_finite(rr)) objective = NAN;
    const double enough = fmax(rr * 1e-14, 1e-30);
    for (int step = 0; step < n_steps && rr > enough; ++step) {  // false for NaN too
      pass(p, false, [&](int64_t j, float s) { return row_.weight(j) * s; });
      part = 0.0;
      each([&](int64_t k) { part += double{p[k]} * (double{product(k)} + double{p[k]}); });
      const double curvature = Block::sum(part, memory_.parts);
      if (!(curvature > 0.0)) break;
      const float alpha = static_cast<float>(rr) * tile_reciprocal(static_cast<float>(curvature));
      part = 0.0;
      each([&](int64_t k) {
        const float value = r[k] - alpha * (product(k) + p[k]);
        z[k] += alpha * p[k];
        r[k] = value;
        part += double{value} * value;
      });
      objective -= double{alpha} * rr;  // f(z + alpha p) = f(z) - alpha |r|^2
      const double next = Block::sum(part, memory_.parts);
      const float beta = static_cast<float>(next) * tile_reciprocal(static_cast<float>(rr));
      each([&](int64_t k) { p[k] = r[k] + beta * p[k]; });
      rr = next;
    }
    each([&](int64_t k) { x[k] = z[k] * scale[k]; });
    return objective;
  }

 private:
  // A thread has the same columns in every loop, so these need no barrier among themselves.
  template <class Body>
  __device__ void each(Body&& body) const {
    for (int64_t k = threadIdx.x; k < row_.d; k += kAlsCgThreads) body(k);
  }

  __device__ float product(int64_t k) const {
    float sum = memory_.q[k];
    for (int g = 1; g < groups_; ++g) sum += memory_.q[g * row_.d + k];
    return sum;
  }

  // q = sum_j coefficient(j, v_j . direction) v_j. Barriers before and after.
  template <class Coefficient>
  __device__ void pass(Shared<float> direction, bool first, Coefficient&& coefficient) {
    const int64_t n = row_.n, d = row_.d, resident = memory_.n_resident;
    const int lane = Warp::lane(), warp = static_cast<int>(threadIdx.x) / 32;
    const bool gather = first || n > resident;
    constexpr int kWarps = kAlsCgThreads / 32;
    for (int64_t from = 0; from < n; from += resident) {
      const int64_t rows = from + resident < n ? resident : n - from;
      __syncthreads();  // the direction is there; the tile before has been summed
      for (int64_t i = warp; i < rows; i += kWarps) {
        const Shared<float> v = memory_.tile + i * d;
        float inner = 0.0f;
        if (gather) {
          const float* y = row_.features(from + i);
          for (int64_t k = lane; k < d; k += 32) {
            const float feature = row_.task.problem.biased && k == d - 1 ? 1.0f : __ldg(y + k);
            const float value = feature * memory_.scale[k];
            v[k] = value;
            inner += value * direction[k];
          }
        } else {
          for (int64_t k = lane; k < d; k += 32) inner += v[k] * direction[k];
        }
        inner = coefficient(from + i, Warp::sum(inner));
        if (lane == 0) memory_.coefficient[i] = inner;
      }
      __syncthreads();
      add(rows, from == 0);
    }
    __syncthreads();
  }

  // q (+)= sum of the tile's rows times their coefficients; groups take runs of rows.
  __device__ void add(int64_t rows, bool overwrite) const {
    const int64_t d = row_.d, run = static_cast<int>(rows + groups_ - 1) / groups_;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int across = groups_ == 1 ? kAlsCgThreads : kAlsCgThreads / groups_;  // threads of a group, whole warps
    const int group = warp * 32 / across;
    const int64_t begin = group * run, end = begin + run < rows ? begin + run : rows;
    for (int64_t k = static_cast<int>(threadIdx.x) % across; k < d; k += across) {
      float sum = overwrite ? 0.0f : float{memory_.q[group * d + k]};
#pragma unroll 8
      for (int64_t i = begin; i < end; ++i) sum += memory_.coefficient[i] * memory_.tile[i * d + k];
      memory_.q[group * d + k] = sum;
    }
  }

  const AlsRow& row_;
  const AlsCgMemory memory_;
  const int groups_;
};

}  // namespace recsys_fast
