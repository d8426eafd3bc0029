// Rows of an SGD epoch as one warp works on them: lane l has the elements l, l + 32, ... of every row, so that a row is
// read and written in whole lines of 128 bytes, and no element is touched by two lanes. A sample is one user and one or
// more items with a coefficient each, g_m = -dloss/dscore_m:
//   i_m += step(g_m u - regularization i_m),  u += step(sum_m g_m i_m - regularization u),  biases likewise with 1,
// everything on the right from before the sample; an item that occurs twice moves twice.
//
// kRacy: other warps change the items' rows meanwhile. Rows are then read from L2, as L1 keeps what it once saw for the
// whole launch, and moved by atomic additions: of two steps at a time none is lost, but both have seen the old row. The
// optimizer's numbers are plain loads and stores, where one of two changes can be lost; formally that is a race. The
// user's row is the warp's alone in either case.
#pragma once

#include "cuda/reduce.h"
#include "cuda/sigmoid.h"
#include "ops/sgd.h"

#if defined(__CUDACC__)
#define RF_UNROLL _Pragma("unroll")
#else
#define RF_UNROLL
#endif

namespace recsys_fast {

template <bool kRacy>
__device__ __forceinline__ float load_row(const float* at) {
#ifdef __CUDA_ARCH__
  if constexpr (kRacy) return __ldcg(at);
#endif
  return *at;
}

// *at = old + step
template <bool kRacy>
__device__ __forceinline__ void add_step(float* at, float old, float step) {
  if constexpr (kRacy) {
    atomicAdd(at, step);
  } else {
    *at = old + step;
  }
}

// Calls body(k, element) for the lane's elements of a row of d; K > 0: d <= 32 K, unrolled, so that what the body
// indexes by k stays in registers.
template <int K, class Body>
__device__ __forceinline__ void for_elements(int64_t d, Body&& body) {
  if constexpr (K > 0) {
    RF_UNROLL
    for (int k = 0; k < K; ++k) {
      const int element = k * kWarpSize + Warp::lane();
      if (element < d) body(k, element);
    }
  } else {
    for (int64_t element = Warp::lane(); element < d; element += kWarpSize) body(0, element);
  }
}

// One row on its way to a new value.
struct SgdTarget {
  float *row, *state, *bias, *bias_state;  // bias may be null
  float m_scale, v_scale;                  // Adam: what the moments are multiplied by
};

// Adam's count of the row's steps, one more than before; 0 for the others. The whole warp calls.
template <SgdOptimizer kOptimizer, bool kRacy>
__device__ __forceinline__ int32_t count_step(const SgdTable& table, int64_t index) {
  if constexpr (kOptimizer != SgdOptimizer::kAdam) return 0;
  int32_t t = 0;
  if (Warp::lane() == 0) {
    if constexpr (kRacy) {
      t = atomicAdd(table.steps + index, 1) + 1;
    } else {
      t = table.steps[index] += 1;
    }
  }
  return Warp::from(t, 0);
}

// The row at its t-th step.
template <SgdOptimizer kOptimizer>
__device__ __forceinline__ SgdTarget target_of(const SgdTable& table, int64_t index, int32_t t) {
  constexpr int s = static_cast<int>(kOptimizer);  // numbers kept for each of the row's
  SgdTarget out{table.rows.row(index), nullptr, table.bias != nullptr ? table.bias + index : nullptr, nullptr, 0, 0};
  if constexpr (s > 0) {
    out.state = table.state + index * s * table.rows.d;
    if (out.bias != nullptr) out.bias_state = table.bias_state + index * s;
  }
  if constexpr (kOptimizer == SgdOptimizer::kAdam) {
    // 1 / (1 - beta^t) without the cancellation that small t would cost; the constants are log 0.9 and log 0.999.
    out.m_scale = -1.0f / expm1f(static_cast<float>(t) * -0.105360515657826f);
    out.v_scale = -1.0f / expm1f(static_cast<float>(t) * -0.00100050033358353f);
  }
  return out;
}

template <SgdOptimizer kOptimizer, bool kRacy>
__device__ __forceinline__ SgdTarget next_target(const SgdTable& table, int64_t index) {
  return target_of<kOptimizer>(table, index, count_step<kOptimizer, kRacy>(table, index));
}

// What a gradient becomes before it is added: csrc/cpu/sgd_optimizers.h. state: of this number; Adam's second moment
// lies d behind the first.
template <SgdOptimizer kOptimizer, bool kRacy>
__device__ __forceinline__ float optimizer_step(const SgdProblem& p, const SgdTarget& target, float gradient,
                                                float* state, int64_t d) {
  if constexpr (kOptimizer == SgdOptimizer::kSgd) {
    return p.learning_rate * gradient;
  } else if constexpr (kOptimizer == SgdOptimizer::kAdagrad) {
    const float sum = load_row<kRacy>(state) + gradient * gradient;
    *state = sum;
    return p.learning_rate * gradient / (sqrtf(sum) + 1e-8f);
  } else {
    const float m = 0.9f * load_row<kRacy>(state) + 0.1f * gradient;
    const float v = 0.999f * load_row<kRacy>(state + d) + static_cast<float>(1.0 - 0.999) * gradient * gradient;
    state[0] = m;
    state[d] = v;
    return p.learning_rate * (m * target.m_scale) / (sqrtf(v * target.v_scale) + 1e-8f);
  }
}

template <SgdOptimizer kOptimizer, bool kRacy>
__device__ __forceinline__ void move_bias(const SgdProblem& p, const SgdTarget& target, float coefficient) {
  if (target.bias == nullptr || Warp::lane() != 0) return;
  const float bias = load_row<kRacy>(target.bias), gradient = coefficient - p.regularization * bias;
  add_step<kRacy>(target.bias, bias, optimizer_step<kOptimizer, kRacy>(p, target, gradient, target.bias_state, 1));
}

// What lane 0 adds to its part of a score: it alone reads biases, as it alone moves them.
template <bool kRacy>
__device__ __forceinline__ float biases_of(const SgdProblem& p, int32_t user, int32_t item) {
  if (Warp::lane() != 0) return 0.0f;
  const float own = p.users.bias != nullptr ? p.users.bias[user] : 0.0f;
  return p.items.bias != nullptr ? own + load_row<kRacy>(p.items.bias + item) : own;
}

// out[m] = u . i_m + b_u + b_m, m < M; in every lane. M sums at a time hide each other's latency.
template <bool kRacy, int M>
__device__ __forceinline__ void item_scores(float (&out)[M], const SgdProblem& p, int32_t user,
                                            const int32_t (&items)[M]) {
  const float* u = p.users.rows.row(user);
  const float* row[M];
  RF_UNROLL
  for (int m = 0; m < M; ++m) row[m] = p.items.rows.row(items[m]), out[m] = biases_of<kRacy>(p, user, items[m]);
  for_elements<0>(p.items.rows.d, [&](int, int64_t at) {
    const float x = u[at];
    RF_UNROLL
    for (int m = 0; m < M; ++m) out[m] += x * load_row<kRacy>(row[m] + at);
  });
  RF_UNROLL
  for (int m = 0; m < M; ++m) out[m] = Warp::sum(out[m]);
}

// Calls use(m, items[m], score) for m = 0 to n - 1 until it says stop; in every lane.
template <bool kRacy, class Use>
__device__ __forceinline__ void for_scores(const SgdProblem& p, int32_t user, const int32_t* items, int64_t n,
                                           Use&& use) {
  constexpr int kAtOnce = 4;
  bool more = true;
  for (int64_t first = 0; first < n && more; first += kAtOnce) {
    int32_t item[kAtOnce];
    float score[kAtOnce];
    RF_UNROLL
    for (int c = 0; c < kAtOnce; ++c) item[c] = items[first + c < n ? first + c : n - 1];
    item_scores<kRacy>(score, p, user, item);
    RF_UNROLL
    for (int c = 0; c < kAtOnce; ++c) more = more && first + c < n && use(first + c, item[c], score[c]);
  }
}

// The rows of a sample of M items; K > 0: held in registers between score and step, 32 (K - 1) < d <= 32 K or less.
template <SgdOptimizer kOptimizer, int M, int K, bool kRacy>
class SgdSampleRows {
 public:
  __device__ SgdSampleRows(const SgdProblem& p, int32_t user, const int32_t (&items)[M])
      : p_(p), user_(user), d_(p.items.rows.d), u_row_(p.users.rows.row(user)) {
    RF_UNROLL
    for (int m = 0; m < M; ++m) item_[m] = items[m], row_[m] = p.items.rows.row(items[m]);
    if constexpr (K > 0) {
      for_elements<K>(d_, [&](int k, int64_t at) {
        u_[k] = u_row_[at];
        RF_UNROLL
        for (int m = 0; m < M; ++m) held_[m][k] = load_row<kRacy>(row_[m] + at);
      });
    }
  }

  // The item's score, or of two the first one's less the second one's; in every lane.
  __device__ float score() const {
    float sum = biases_of<kRacy>(p_, user_, item_[0]);
    if (M > 1) sum -= biases_of<kRacy>(p_, user_, item_[M - 1]);
    for_elements<K>(d_, [&](int k, int64_t at) {
      const float difference = M == 1 ? item(0, k, at) : item(0, k, at) - item(M - 1, k, at);
      sum += user(k, at) * difference;
    });
    return Warp::sum(sum);
  }

  // Moves what the problem does not freeze.
  __device__ void update(const float (&g)[M]) {
    const bool user_moves = p_.frozen != SgdFrozen::kAllButPositives;
    const int n_moving = p_.frozen == SgdFrozen::kNone ? M : p_.frozen == SgdFrozen::kItems ? 0 : 1;
    SgdTarget target[M], user_target{};
    float sum = 0.0f;
    RF_UNROLL
    for (int m = 0; m < M; ++m) {
      if (m < n_moving) target[m] = next_target<kOptimizer, kRacy>(p_.items, item_[m]);
      sum += g[m];
    }
    if (user_moves) user_target = next_target<kOptimizer, false>(p_.users, user_);
    const float regularization = p_.regularization;
    for_elements<K>(d_, [&](int k, int64_t at) {
      const float u = user(k, at);
      float row[M], along = -regularization * u;
      RF_UNROLL
      for (int m = 0; m < M; ++m) {
        row[m] = item(m, k, at);
        along += g[m] * row[m];
      }
      if (user_moves)
        u_row_[at] = u + optimizer_step<kOptimizer, false>(p_, user_target, along, user_target.state + at, d_);
      RF_UNROLL
      for (int m = 0; m < M; ++m) {
        if (m >= n_moving) continue;
        const float gradient = g[m] * u - regularization * row[m];
        add_step<kRacy>(row_[m] + at, row[m],
                        optimizer_step<kOptimizer, kRacy>(p_, target[m], gradient, target[m].state + at, d_));
      }
    });
    RF_UNROLL
    for (int m = 0; m < M; ++m) {
      if (m < n_moving) move_bias<kOptimizer, kRacy>(p_, target[m], g[m]);
    }
    if (user_moves) move_bias<kOptimizer, false>(p_, user_target, sum);
    __syncwarp();  // the biases and counts of steps are there for the warp's next sample
  }

 private:
  __device__ __forceinline__ float user(int k, int64_t at) const {
    if constexpr (K > 0) return u_[k];
    return u_row_[at];
  }
  __device__ __forceinline__ float item(int m, int k, int64_t at) const {
    if constexpr (K > 0) return held_[m][k];
    return load_row<kRacy>(row_[m] + at);
  }

  const SgdProblem& p_;
  int32_t user_, item_[M];
  int64_t d_;
  float *u_row_, *row_[M];
  float u_[K > 0 ? K : 1], held_[M][K > 0 ? K : 1];
};

// The same for any number of items, read again from memory. items (n), g (n) and the scratch steps (n) are the warp's.
// A panel of the elements at a time: the user's, from before, stay in registers while the items move one by one.
template <SgdOptimizer kOptimizer, bool kRacy>
__device__ void update_rows(const SgdProblem& p, int32_t user, const int32_t* items, const float* g, int32_t* steps,
                            int64_t n) {
  constexpr int kPanel = 4, kWidth = kPanel * kWarpSize;
  const bool user_moves = p.frozen != SgdFrozen::kAllButPositives;
  const int64_t n_moving = p.frozen == SgdFrozen::kNone ? n : p.frozen == SgdFrozen::kItems ? 0 : 1;
  const int64_t d = p.items.rows.d;
  const float regularization = p.regularization;
  SgdTarget user_target{};
  if (user_moves) user_target = next_target<kOptimizer, false>(p.users, user);
  for (int64_t first = 0; first < d; first += kWidth) {
    const int64_t cut = d - first < kWidth ? d - first : kWidth;
    float* u_row = p.users.rows.row(user) + first;
    float u[kPanel], along[kPanel];
    for_elements<kPanel>(cut, [&](int k, int64_t at) {
      u[k] = u_row[at];
      along[k] = -regularization * u[k];
    });
    for (int64_t m = 0; user_moves && m < n; ++m) {
      const float* row = p.items.rows.row(items[m]) + first;
      for_elements<kPanel>(cut, [&](int k, int64_t at) { along[k] += g[m] * load_row<kRacy>(row + at); });
    }
    for (int64_t m = 0; m < n_moving; ++m) {
      const int32_t t = first == 0 ? count_step<kOptimizer, kRacy>(p.items, items[m]) : steps[m];
      if (first == 0 && Warp::lane() == 0) steps[m] = t;
      const SgdTarget target = target_of<kOptimizer>(p.items, items[m], t);
      for_elements<kPanel>(cut, [&](int k, int64_t at) {
        float* element = target.row + first + at;
        const float old = load_row<kRacy>(element), gradient = g[m] * u[k] - regularization * old;
        add_step<kRacy>(element, old,
                        optimizer_step<kOptimizer, kRacy>(p, target, gradient, target.state + first + at, d));
      });
      if (first == 0) move_bias<kOptimizer, kRacy>(p, target, g[m]);
    }
    for_elements<kPanel>(user_moves ? cut : 0, [&](int k, int64_t at) {
      u_row[at] = u[k] + optimizer_step<kOptimizer, false>(p, user_target, along[k], user_target.state + first + at, d);
    });
    __syncwarp();  // steps, biases and counts are there for all lanes
  }
  if (!user_moves) return;
  float sum = 0.0f;
  for (int64_t m = 0; m < n; ++m) sum += g[m];
  move_bias<kOptimizer, false>(p, user_target, sum);
  __syncwarp();
}

}  // namespace recsys_fast
