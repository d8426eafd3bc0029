// ALS by conjugate gradients on the scaled system (I + V^T C V) z = V^T t: cost of a step 4 n d, nothing of order d^2.
#pragma once

#include "core/gemm.h"
#include "cpu/als_row.h"

namespace recsys_fast {

// For R rows of v at once: weight_i = coefficient(i, v_i . p), then q += sum_i weight_i v_i.
template <int R, class Coefficient>
RF_INLINE void als_rows_pass(const float* v, int64_t dp, const float* p, float* q, Coefficient&& coefficient) {
  Vec sum[R] = {};
  for (int64_t k = 0; k < dp; k += kLanes) {
    const Vec direction = load(p + k);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) sum[i] += load(v + i * dp + k) * direction;
  }
  float inner[R];
  if constexpr (R == 8) {
    reduce_add8(sum, inner);
  } else {
    for (int i = 0; i < R; ++i) inner[i] = reduce_add(sum[i]);
  }
  for (int i = 0; i < R; ++i) inner[i] = coefficient(i, inner[i]);
  for (int64_t k = 0; k < dp; k += kLanes) {
    Vec even = load(q + k), odd = {};
#pragma GCC unroll 8
    for (int i = 0; i < R; i += 2) {
      even += broadcast(inner[i]) * load(v + i * dp + k);
      if (i + 1 < R) odd += broadcast(inner[i + 1]) * load(v + (i + 1) * dp + k);
    }
    store(q + k, even + odd);
  }
}

// The same over n rows.
template <class Coefficient>
inline void als_pass(const float* v, int64_t n, int64_t dp, const float* p, float* q, Coefficient&& coefficient) {
  int64_t i = 0;
  const auto shifted = [&](int j, float inner) { return coefficient(i + j, inner); };
  for (; i + 8 <= n; i += 8) als_rows_pass<8>(v + i * dp, dp, p, q, shifted);
  for (; i + 2 <= n; i += 2) als_rows_pass<2>(v + i * dp, dp, p, q, shifted);
  if (i < n) als_rows_pass<1>(v + i * dp, dp, p, q, shifted);
}

inline int64_t als_cg_bytes(int64_t n_resident, int64_t dp) {
  return static_cast<int64_t>(Arena::padded<float>(n_resident * dp) + 3 * Arena::padded<float>(dp));
}

// z (dp) in: start, out: after n_steps steps. Rows of V stay in scratch when n <= n_resident; else they are gathered
// again, n_resident at a time, in each pass. Returns the row's objective at z.
inline double als_cg(const AlsRow& row, float* z, int n_steps, int64_t n_resident, Arena& arena) {
  const int64_t n = row.size(), dp = row.d_padded;
  float* v = arena.take<float>(n_resident * dp);
  float *r = arena.take<float>(dp), *p = arena.take<float>(dp), *q = arena.take<float>(dp);
  const bool resident = n <= n_resident;

  const auto pass = [&](const float* direction, float* out, bool first, auto&& coefficient) {
    for (int64_t j = 0; j < n; j += n_resident) {
      const int64_t rows = std::min(n_resident, n - j);
      if (!resident || first) row.gather(v, j, rows, 0, dp, nullptr);
      als_pass(v, rows, dp, direction, out, [&](int64_t i, float inner) { return coefficient(j + i, inner); });
    }
  };

  // r = V^T (t - C V z) - z, and the objective at the start from the same products.
  double objective = row.constant;
  for (int64_t k = 0; k < dp; ++k) r[k] = -z[k];
  pass(z, r, true, [&](int64_t j, float s) {
    const float c = row.weight[j], t = row.target[j];
    objective += double{s} * (double{c} * s - 2.0 * t);
    return t - c * s;
  });
  objective += dot(z, z, dp);
  std::copy_n(r, dp, p);
  float rr = dot(r, r, dp);
  const float enough = rr * 1e-14f;
  for (int step = 0; step < n_steps && rr > enough && rr > 1e-30f; ++step) {
    std::copy_n(p, dp, q);
    pass(p, q, false, [&](int64_t j, float s) { return row.weight[j] * s; });
    const float curvature = dot(p, q, dp);
    if (!(curvature > 0.0f)) break;
    const float alpha = rr / curvature;
    axpy(z, alpha, p, dp);
    axpy(r, -alpha, q, dp);
    objective -= double{alpha} * rr;  // f(z + alpha p) = f(z) - alpha |r|^2
    const float rr_next = dot(r, r, dp);
    const float beta = rr_next / rr;
    for (int64_t k = 0; k < dp; k += kLanes) store(p + k, load(r + k) + beta * load(p + k));
    rr = rr_next;
  }
  return objective;
}

}  // namespace recsys_fast
