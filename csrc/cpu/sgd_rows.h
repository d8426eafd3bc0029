// Rows of an SGD epoch where a user is a row of one table and an item is a row of another. A sample is one user and
// one or more items with a coefficient each, g_m = -dloss/dscore_m:
//   i_m += step(g_m u - regularization i_m),  u += step(sum_m g_m i_m - regularization u),  biases likewise with 1,
// everything on the right from before the sample; an item that occurs twice moves twice.
#pragma once

#include "core/arena.h"
#include "cpu/sgd_optimizers.h"

namespace recsys_fast {

// Adds halves of kLanes or more vectors: lane i of v[0] becomes the sum of the lanes of v[i].
template <int Distance>
RF_INLINE void add_halves(Vec* v) {
  using Lanes = std::make_integer_sequence<int, kLanes>;
#pragma GCC unroll 16
  for (int i = 0; i < Distance; ++i) {
    const Vec a = v[i], b = v[i + Distance];
    v[i] = interleave<Distance, false>(a, b, Lanes{}) + interleave<Distance, true>(a, b, Lanes{});
  }
  if constexpr (Distance > 1) add_halves<Distance / 2>(v);
}

// Lane i of the result = sum of the lanes of v[i], i < kLanes; v is scratch.
RF_INLINE Vec lane_sums(Vec* v) {
  add_halves<kLanes / 2>(v);
  return v[0];
}

// sum[r] = lanes of u . row[r]; with few rows two sums each, so that their chains are short.
template <int R, int V>
RF_INLINE void row_products(Vec* sum, const float* u, const float* const* row, int64_t d) {
  constexpr int kSums = R >= 4 ? 1 : 2;
  Vec part[kSums][R] = {};
  if constexpr (V > 0) {
#pragma GCC unroll 32
    for (int k = 0; k < V; ++k) {
      const Vec x = load(u + k * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) part[k % kSums][r] += x * load(row[r] + k * kLanes);
    }
  } else {
    for_lanes<0>(d, [&](auto at) {
      const Vec x = at.load(u);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) part[0][r] += x * at.load(row[r]);
    });
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sum[r] = kSums == 2 ? part[0][r] + part[kSums - 1][r] : part[0][r];
}

// out[m] = u . row(m), m < n, eight rows at a time; some rows more than once where few are left.
template <int V, class Row>
RF_INLINE void row_scores(float* out, const float* u, int64_t n, int64_t d, Row&& row) {
  int64_t m = 0;
  Vec sum[8];
  const float* at[8];
  for (; m + 8 <= n; m += 8) {
    for (int r = 0; r < 8; ++r) at[r] = row(m + r);
    row_products<8, V>(sum, u, at, d);
    reduce_add8(sum, out + m);
  }
  if (n - m > 2) {
    float last[8];
    for (int r = 0; r < 8; ++r) at[r] = row(std::min(m + r, n - 1));
    row_products<8, V>(sum, u, at, d);
    reduce_add8(sum, last);
    for (int r = 0; m < n; ++m, ++r) out[m] = last[r];
    return;
  }
  for (; m < n; ++m) {
    at[0] = row(m);
    row_products<1, V>(sum, u, at, d);
    out[m] = reduce_add(sum[0]);
  }
}

// One row on its way to a new value.
template <class Optimizer>
struct Target {
  float *row, *state, *bias, *bias_state;  // bias may be null
  typename Optimizer::Step step;

  static Target of(const Optimizer& optimizer, const SgdTable& table, int64_t index) {
    constexpr int s = Optimizer::kState;
    return {table.rows.row(index), s > 0 ? table.state + index * s * table.rows.d : nullptr,
            table.bias != nullptr ? table.bias + index : nullptr,
            s > 0 && table.bias_state != nullptr ? table.bias_state + index * s : nullptr,
            optimizer.begin(table.steps != nullptr ? table.steps + index : nullptr)};
  }
  void move_bias(const Optimizer& optimizer, float coefficient, float regularization) const {
    if (bias == nullptr) return;
    *bias += optimizer.step(step, One{}, coefficient - regularization * *bias, bias_state, int64_t{1});
  }
};

template <class Optimizer_, int V>
class PlainRows {
 public:
  using Optimizer = Optimizer_;
  static constexpr bool kBags = false;

  // most_items: the largest sample.
  static size_t scratch_bytes(const SgdProblem&, int64_t most_items) {
    return Arena::padded<Target<Optimizer>>(static_cast<size_t>(most_items));
  }
  PlainRows(const SgdProblem& problem, int64_t most_items, Arena& arena)
      : p_(problem),
        d_(problem.items.rows.d),
        optimizer_{problem.learning_rate},
        targets_(arena.take<Target<Optimizer>>(static_cast<size_t>(most_items))) {}

  void set_user(int32_t user) {
    user_ = user;
    u_ = p_.users.rows.row(user);
  }
  void finish() {}

  float user_bias() const { return p_.users.bias != nullptr ? p_.users.bias[user_] : 0.0f; }
  float item_bias(int32_t item) const { return p_.items.bias != nullptr ? p_.items.bias[item] : 0.0f; }

  float score(int32_t item) const {
    const float* row[1] = {p_.items.rows.row(item)};
    Vec sum[1];
    row_products<1, V>(sum, u_, row, d_);
    return reduce_add(sum[0]) + item_bias(item);
  }
  // score(i) - score(j)
  float difference(int32_t i, int32_t j) const {
    const float* row[2] = {p_.items.rows.row(i), p_.items.rows.row(j)};
    Vec sum[2];
    row_products<2, V>(sum, u_, row, d_);
    return reduce_add(sum[0] - sum[1]) + (item_bias(i) - item_bias(j));
  }
  // out[m] = u . i_m + b_m, m < n
  void scores(float* out, const int32_t* items, int64_t n) const {
    row_scores<V>(out, u_, n, d_, [&](int64_t m) { return p_.items.rows.row(items[m]); });
    if (p_.items.bias == nullptr) return;
    for (int64_t m = 0; m < n; ++m) out[m] += p_.items.bias[items[m]];
  }
  // The same of 1 <= n <= kLanes items, in lanes; those from n on hold the first one's, as another worker may be moving
  // any row that is not of this visit.
  RF_INLINE Vec score_lanes(const int32_t* items, int64_t n) const {
    Vec sum[kLanes];
    const float* at[kLanes];
    int32_t ids[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      ids[r] = items[r < n ? r : 0];
      at[r] = row_of(ids[r]);
    }
    row_products<kLanes, V>(sum, u_, at, d_);
    const Vec out = lane_sums(sum);
    return p_.items.bias == nullptr ? out : out + gather(p_.items.bias, recsys_fast::load(ids));
  }

  RF_INLINE void prefetch_user(int32_t user) const {
    prefetch_row(p_.users.rows.row(user));
    if (Optimizer::kState > 0) prefetch(p_.users.state + user * Optimizer::kState * d_, Optimizer::kState * d_ * 4);
  }
  RF_INLINE void prefetch_item(int32_t item) const {
    prefetch_row(row_of(item));
    if (p_.items.bias != nullptr) __builtin_prefetch(p_.items.bias + item);
    if (Optimizer::kState > 0 && p_.items.state != nullptr) {
      prefetch(p_.items.state + item * Optimizer::kState * d_, Optimizer::kState * d_ * 4);
    }
  }

  // Plain SGD of three rows that the registers have room for.
  bool holds_pair() const { return V > 0 && V <= 8 && Optimizer::kState == 0 && p_.frozen == SgdFrozen::kNone; }

  // move_pair with each number of the rows loaded and stored once.
  template <class Slope>
  RF_INLINE float move_held_pair(int32_t i, int32_t j, Slope&& slope)
    requires(V > 0)
  {
    float *const u_row = u_, *const i_row = row_of(i), *const j_row = row_of(j), *const bias = p_.items.bias;
    const float rate = optimizer_.rate, keep = 1.0f - rate * p_.regularization;
    Vec u[V], a[V], b[V], sum[2] = {};
#pragma GCC unroll 8
    for (int k = 0; k < V; ++k) {
      u[k] = load(u_row + k * kLanes);
      a[k] = load(i_row + k * kLanes);
      b[k] = load(j_row + k * kLanes);
      sum[k % 2] += u[k] * (a[k] - b[k]);
    }
    float x = reduce_add(sum[0] + sum[1]);
    if (bias != nullptr) x += bias[i] - bias[j];
    const float step = rate * slope(x);
#pragma GCC unroll 8
    for (int k = 0; k < V; ++k) {
      store(u_row + k * kLanes, keep * u[k] + step * (a[k] - b[k]));
      store(i_row + k * kLanes, keep * a[k] + step * u[k]);
      store(j_row + k * kLanes, keep * b[k] - step * u[k]);
    }
    if (bias != nullptr) {
      bias[i] = keep * bias[i] + step;
      bias[j] = keep * bias[j] - step;
    }
    if (p_.users.bias != nullptr) p_.users.bias[user_] *= keep;
    return x;
  }

  // Moves the user and `n` items (M > 0: n = M, distinct items). What the problem freezes stays.
  template <int M>
  void update(const int32_t* items, const float* g, int64_t n) {
    if (p_.frozen == SgdFrozen::kNone) [[likely]] {
      if constexpr (M == 0 && V > 0) {
        move_many(items, g, n);
      } else {
        move<M, true>(items, g, M > 0 ? M : n, M > 0 ? M : n);
      }
    } else if (p_.frozen == SgdFrozen::kItems) {
      move<0, true>(items, g, n, 0);
    } else {
      move<0, false>(items, g, 1, 1);
    }
  }

 private:
  RF_INLINE float* row_of(int32_t item) const {
    return p_.items.rows.row(0) + int64_t{item} * (V > 0 ? V * kLanes : d_);
  }
  // As prefetch, for a number of lines that is known here.
  RF_INLINE void prefetch_row(const float* row) const {
    if constexpr (V > 0) {
#pragma GCC unroll 32
      for (int k = 0; k < V * kLanes; k += 16) __builtin_prefetch(row + k);
      if (reinterpret_cast<uintptr_t>(row) % 64 != 0) __builtin_prefetch(row + V * kLanes - 1);
      __asm__ volatile("");
    } else {
      prefetch(row, d_ * 4);
    }
  }

  // The first n_moving of n items move, and the user if kUser.
  template <int M, bool kUser>
  RF_INLINE void move(const int32_t* items, const float* g, int64_t n, int64_t n_moving) {
    Target<Optimizer> few[M > 0 ? M : 1];
    Target<Optimizer>* target = M > 0 ? few : targets_;
    for (int64_t m = 0; m < n_moving; ++m) target[m] = Target<Optimizer>::of(optimizer_, p_.items, items[m]);
    Target<Optimizer> user{};
    float sum = 0.0f;
    if constexpr (kUser) {
      user = Target<Optimizer>::of(optimizer_, p_.users, user_);
      for (int64_t m = 0; m < n; ++m) sum += g[m];
    }
    const float regularization = p_.regularization;
    for_lanes<V>(d_, [&](auto at) {
      const Vec u = at.load(u_);
      Vec held[M > 0 ? M : 1];
      if constexpr (M > 0) {
#pragma GCC unroll 2
        for (int m = 0; m < M; ++m) held[m] = at.load(target[m].row);
      }
      if constexpr (kUser) {
        Vec gradient = -regularization * u;
        if constexpr (M > 0) {
#pragma GCC unroll 2
          for (int m = 0; m < M; ++m) gradient += g[m] * held[m];
        } else {
          for (int64_t m = 0; m < n; ++m) gradient += g[m] * at.load(p_.items.rows.row(items[m]));
        }
        at.store(u_, u + optimizer_.step(user.step, at, gradient, user.state, d_));
      }
#pragma GCC unroll 2
      for (int64_t m = 0; m < n_moving; ++m) {
        const Vec row = M > 0 ? held[M > 0 ? m : 0] : at.load(target[m].row);
        at.store(target[m].row,
                 row + optimizer_.step(target[m].step, at, g[m] * u - regularization * row, target[m].state, d_));
      }
    });
    for (int64_t m = 0; m < n_moving; ++m) target[m].move_bias(optimizer_, g[m], regularization);
    if constexpr (kUser) user.move_bias(optimizer_, sum, regularization);
  }

  // move<0, true> of all items row by row, with the user's row and gradient in registers; of plain SGD.
  RF_INLINE void move_many(const int32_t* items, const float* g, int64_t n) {
    static_assert(Optimizer::kState == 0);
    const float regularization = p_.regularization;
    float* const table = p_.items.rows.row(0);
    float* const bias = p_.items.bias;
    const float rate = optimizer_.rate, keep = 1.0f - rate * regularization;
    Vec u[V], gradient[V];
#pragma GCC unroll 32
    for (int k = 0; k < V; ++k) {
      u[k] = load(u_ + k * kLanes);
      gradient[k] = Vec{};
    }
    float sum = 0.0f;
    for (int64_t m = 0; m < n; ++m) {
      const float* row = table + int64_t{items[m]} * (V * kLanes);
#pragma GCC unroll 32
      for (int k = 0; k < V; ++k) gradient[k] += g[m] * load(row + k * kLanes);
      sum += g[m];
    }
    for (int64_t m = 0; m < n; ++m) {
      const int64_t item = items[m];
      float* row = table + item * (V * kLanes);
      const float step = rate * g[m];
#pragma GCC unroll 32
      for (int k = 0; k < V; ++k) store(row + k * kLanes, keep * load(row + k * kLanes) + step * u[k]);
      if (bias != nullptr) bias[item] = keep * bias[item] + step;
    }
#pragma GCC unroll 32
    for (int k = 0; k < V; ++k) store(u_ + k * kLanes, keep * u[k] + rate * gradient[k]);
    if (p_.users.bias != nullptr) p_.users.bias[user_] = keep * p_.users.bias[user_] + rate * sum;
  }

  const SgdProblem& p_;
  int64_t d_;
  Optimizer optimizer_;
  Target<Optimizer>* targets_;
  int32_t user_ = -1;
  float* u_ = nullptr;
};

// Any width, found when it runs.
template <class Optimizer>
using AnyWidth = PlainRows<Optimizer, 0>;

// x = score(i) - score(j) of the user's two distinct items, which then move with coefficients slope(x), -slope(x).
template <class Rows, class Slope>
RF_INLINE float move_pair(Rows& rows, int32_t i, int32_t j, Slope&& slope) {
  if constexpr (requires { rows.move_held_pair(i, j, slope); }) {
    if (rows.holds_pair()) [[likely]]
      return rows.move_held_pair(i, j, slope);
  }
  const float x = rows.difference(i, j), g = slope(x);
  const int32_t items[2] = {i, j};
  const float coefficients[2] = {g, -g};
  rows.template update<2>(items, coefficients, 2);
  return x;
}

}  // namespace recsys_fast
