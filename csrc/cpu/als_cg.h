// ALS by conjugate gradients on the scaled system (I + V^T C V) z = V^T t: cost of a step 4 n d, nothing of order d^2.
#pragma once

#include "core/gemm.h"
#include "cpu/als_row.h"

namespace recsys_fast {

// inner[i] = coefficient(i, v_i . p) for R rows of v; V vectors wide, or dp where V is 0.
template <int R, int V, class Coefficient>
RF_INLINE void als_inner(float* inner, const float* v, int64_t dp, const float* p, Coefficient&& coefficient) {
  Vec sum[R] = {};
  const int64_t width = V > 0 ? V * kLanes : dp;
#pragma GCC unroll 8
  for (int64_t k = 0; k < width; k += kLanes) {
    const Vec direction = load(p + k);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) sum[i] += load(v + i * dp + k) * direction;
  }
  if constexpr (R == 8) {
    reduce_add8(sum, inner);
  } else {
    for (int i = 0; i < R; ++i) inner[i] = reduce_add(sum[i]);
  }
  for (int i = 0; i < R; ++i) inner[i] = coefficient(i, inner[i]);
}

// q += sum_i coefficient(i, v_i . p) v_i over n rows of v, eight at a time. With V > 0 (dp = V vectors) q stays in
// registers, so the chains of successive groups of rows overlap.
template <int V, class Coefficient>
inline void als_pass_width(const float* v, int64_t n, int64_t dp, const float* p, float* q, Coefficient&& coefficient) {
  constexpr int kHeld = V > 0 ? V : 1;
  Vec held[kHeld];
  if constexpr (V > 0) {
#pragma GCC unroll 8
    for (int k = 0; k < V; ++k) held[k] = load(q + k * kLanes);
  }
  const auto group = [&]<int R>(int64_t first) __attribute__((always_inline)) {
    float inner[R];
    const float* rows = v + first * dp;
    als_inner<R, V>(inner, rows, dp, p, [&](int i, float s) { return coefficient(first + i, s); });
    if constexpr (V > 0) {
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
        for (int k = 0; k < V; ++k) held[k] += broadcast(inner[i]) * load(rows + i * dp + k * kLanes);
      }
    } else {
      for (int64_t k = 0; k < dp; k += kLanes) {
        Vec sum = load(q + k);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) sum += broadcast(inner[i]) * load(rows + i * dp + k);
        store(q + k, sum);
      }
    }
  };
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) group.template operator()<8>(i);
  for (; i + 2 <= n; i += 2) group.template operator()<2>(i);
  if (i < n) group.template operator()<1>(i);
  if constexpr (V > 0) {
#pragma GCC unroll 8
    for (int k = 0; k < V; ++k) store(q + k * kLanes, held[k]);
  }
}

template <class Coefficient>
inline void als_pass(const float* v, int64_t n, int64_t dp, const float* p, float* q, Coefficient&& coefficient) {
  if (dp == 4 * kLanes) return als_pass_width<4>(v, n, dp, p, q, coefficient);
  if (kVectorRegisters == 32 && dp == 8 * kLanes) return als_pass_width<8>(v, n, dp, p, q, coefficient);
  if (dp == 2 * kLanes) return als_pass_width<2>(v, n, dp, p, q, coefficient);
  als_pass_width<0>(v, n, dp, p, q, coefficient);
}

// The vectors of one row's conjugate gradients, (dp) each: solution, residual, direction, product with the direction.
struct AlsCgState {
  float *z, *r, *p, *q;
  double objective;
  float rr, enough;
  bool open;  // false once a further step is of no use

  static size_t bytes(int64_t dp) { return 3 * Arena::padded<float>(dp); }

  // z, objective without |z|^2 and r are set.
  void begin(int64_t dp) {
    objective += dot(z, z, dp);
    std::copy_n(r, dp, p);
    rr = dot(r, r, dp);
    enough = std::max(rr * 1e-14f, 1e-30f);
    open = rr > enough;  // false for NaN too
    if (!std::isfinite(rr)) objective = NAN;
  }

  // q = (I + V^T C V) p is set.
  void step(int64_t dp) {
    const float curvature = dot(p, q, dp);
    if (!(curvature > 0.0f)) {
      open = false;
      return;
    }
    const float alpha = rr / curvature;
    axpy(z, alpha, p, dp);
    axpy(r, -alpha, q, dp);
    objective -= double{alpha} * rr;  // f(z + alpha p) = f(z) - alpha |r|^2
    const float rr_next = dot(r, r, dp);
    const float beta = rr_next / rr;
    for (int64_t k = 0; k < dp; k += kLanes) store(p + k, load(r + k) + beta * load(p + k));
    rr = rr_next;
    open = rr > enough;
  }
};

inline int64_t als_cg_bytes(int64_t n_resident, int64_t dp) {
  return static_cast<int64_t>(Arena::padded<float>(n_resident * dp) + AlsCgState::bytes(dp));
}

// z (dp) in: start, out: after n_steps steps. Rows of V stay in scratch when n <= n_resident; else they are gathered
// again, n_resident at a time, in each pass. Returns the row's objective at z.
inline double als_cg(const AlsRow& row, float* z, int n_steps, int64_t n_resident, Arena& arena) {
  const int64_t n = row.size(), dp = row.d_padded;
  float* v = arena.take<float>(n_resident * dp);
  float *r = arena.take<float>(dp), *p = arena.take<float>(dp), *q = arena.take<float>(dp);
  AlsCgState state{z, r, p, q, row.constant, 0.0f, 0.0f, true};
  const bool resident = n <= n_resident;

  const auto pass = [&](const float* direction, float* out, bool first, auto&& coefficient) {
    for (int64_t j = 0; j < n; j += n_resident) {
      const int64_t rows = std::min(n_resident, n - j);
      if (!resident || first) row.gather(v, j, rows, nullptr);
      als_pass(v, rows, dp, direction, out, [&](int64_t i, float inner) { return coefficient(j + i, inner); });
    }
  };

  // r = V^T (t - C V z) - z, and the objective at the start from the same products.
  for (int64_t k = 0; k < dp; ++k) r[k] = -z[k];
  pass(z, r, true, [&](int64_t j, float s) {
    const float c = row.weight[j], t = row.target[j];
    state.objective += double{s} * (double{c} * s - 2.0 * t);
    return t - c * s;
  });
  state.begin(dp);
  for (int step = 0; step < n_steps && state.open; ++step) {
    std::copy_n(p, dp, q);
    pass(p, q, false, [&](int64_t j, float s) { return row.weight[j] * s; });
    state.step(dp);
  }
  return state.objective;
}

}  // namespace recsys_fast
