// Rows of an SGD epoch where users or items are sums of feature rows: the interface of PlainRows over bags. A side
// without features is a bag of one row with value 1.
//
// Under plain SGD a user's feature rows are not touched while the user's samples last. With S = sum_f v_f^2, rate r and
// keep = 1 - r regularization, a sample with gradient G (with respect to u) moves u to keep u + r S G; A = keep A + r G
// and decay = keep decay then hold all that the rows need at the end: row_f = decay row_f + v_f A. This is what the
// sample by sample updates come to, in d instead of d * features operations a sample.
#pragma once

#include <algorithm>

#include "cpu/sgd_rows.h"

namespace recsys_fast {

template <class Optimizer_>
class BagRows {
 public:
  using Optimizer = Optimizer_;
  static constexpr bool kBags = true;
  static constexpr bool kLazyUser = Optimizer::kState == 0;

  static size_t scratch_bytes(const SgdProblem& problem, int64_t) {
    return 4 * Arena::padded<float>(static_cast<size_t>(problem.items.rows.d));
  }
  BagRows(const SgdProblem& problem, int64_t, Arena& arena)
      : p_(problem),
        d_(problem.items.rows.d),
        optimizer_{problem.learning_rate},
        u_(arena.take<float>(d_)),
        gradient_(arena.take<float>(d_)),
        moved_(arena.take<float>(d_)),
        vector_(arena.take<float>(d_)) {}

  void set_user(int32_t user) {
    if (user == user_) return;
    finish();
    user_ = user;
    user_bias_ = gather(u_, p_.users, user);
    n_samples_ = 0;
    if constexpr (kLazyUser) {
      squares_ = 0.0f;
      for_bag(p_.users, user, [&](int64_t, float value) { squares_ += value * value; });
      std::fill_n(moved_, d_, 0.0f);
      moved_bias_ = 0.0f;
      decay_ = 1.0f;
    }
  }

  // Brings the user's samples to the feature rows.
  void finish() {
    if (!kLazyUser || user_ < 0 || n_samples_ == 0) return;
    for_bag(p_.users, user_, [&](int64_t f, float value) {
      float* row = p_.users.rows.row(f);
      for_lanes<0>(d_, [&](auto at) { at.store(row, decay_ * at.load(row) + value * at.load(moved_)); });
      if (p_.users.bias != nullptr) p_.users.bias[f] = decay_ * p_.users.bias[f] + value * moved_bias_;
    });
    n_samples_ = 0;
  }

  float user_bias() const { return user_bias_; }

  float score(int32_t item) const {
    float out;
    scores(&out, &item, 1);
    return out;
  }
  float difference(int32_t i, int32_t j) const { return score(i) - score(j); }
  void scores(float* out, const int32_t* items, int64_t n) const {
    for (int64_t m = 0; m < n; ++m) {
      const float bias = gather(vector_, p_.items, items[m]);
      out[m] = dot(u_, vector_, d_) + bias;
    }
  }

  Vec score_lanes(const int32_t* items, int64_t n) const {
    float out[kLanes] = {};
    scores(out, items, n);
    return load(out);
  }

  RF_INLINE void prefetch_user(int32_t user) const {
    if (p_.users.features.row_ptr != nullptr) prefetch(p_.users.features.row_ptr + user, 1);
  }
  RF_INLINE void prefetch_item(int32_t item) const {
    if (p_.items.features.row_ptr != nullptr) prefetch(p_.items.features.row_ptr + item, 1);
  }

  template <int M>
  void update(const int32_t* items, const float* g, int64_t n) {
    const bool user_moves = p_.frozen != SgdFrozen::kAllButPositives;
    const int64_t n_moving = p_.frozen == SgdFrozen::kNone ? n : p_.frozen == SgdFrozen::kItems ? 0 : 1;
    float sum = 0.0f;
    if (user_moves) {
      std::fill_n(gradient_, d_, 0.0f);
      for (int64_t m = 0; m < n; ++m) {
        gather(vector_, p_.items, items[m]);
        axpy(gradient_, g[m], vector_, d_);
        sum += g[m];
      }
    }
    for (int64_t m = 0; m < n_moving; ++m) move_bag(p_.items, items[m], u_, g[m], g[m]);
    if (!user_moves) return;
    ++n_samples_;
    if constexpr (kLazyUser) {
      const float rate = p_.learning_rate, keep = 1.0f - rate * p_.regularization, step = rate * squares_;
      for_lanes<0>(d_, [&](auto at) {
        const Vec gradient = at.load(gradient_);
        at.store(u_, keep * at.load(u_) + step * gradient);
        at.store(moved_, keep * at.load(moved_) + rate * gradient);
      });
      decay_ *= keep;
      moved_bias_ = keep * moved_bias_ + rate * sum;
      if (p_.users.bias != nullptr) user_bias_ = keep * user_bias_ + step * sum;
    } else {
      move_bag(p_.users, user_, gradient_, 1.0f, sum);
      user_bias_ = gather(u_, p_.users, user_);
    }
  }

 private:
  template <class Use>
  static void for_bag(const SgdTable& table, int64_t index, Use&& use) {
    const Csr& bag = table.features;
    if (bag.row_ptr == nullptr) return use(index, 1.0f);
    for (int64_t e = bag.row_ptr[index]; e < bag.row_ptr[index + 1]; ++e) {
      use(static_cast<int64_t>(bag.col_idx[e]), bag.values != nullptr ? bag.values[e] : 1.0f);
    }
  }

  // out (d) = the bag's vector; returns its bias.
  float gather(float* out, const SgdTable& table, int64_t index) const {
    std::fill_n(out, d_, 0.0f);
    float bias = 0.0f;
    for_bag(table, index, [&](int64_t f, float value) {
      axpy(out, value, table.rows.row(f), d_);
      if (table.bias != nullptr) bias += value * table.bias[f];
    });
    return bias;
  }

  // The bag's gradient is scale * direction, its bias's bias_gradient; each of its rows moves by its share.
  void move_bag(const SgdTable& table, int64_t index, const float* direction, float scale, float bias_gradient) {
    const float regularization = p_.regularization;
    for_bag(table, index, [&](int64_t f, float value) {
      const auto target = Target<Optimizer>::of(optimizer_, table, f);
      for_lanes<0>(d_, [&](auto at) {
        const Vec row = at.load(target.row);
        const Vec gradient = (value * scale) * at.load(direction) - regularization * row;
        at.store(target.row, row + optimizer_.step(target.step, at, gradient, target.state, d_));
      });
      target.move_bias(optimizer_, value * bias_gradient, regularization);
    });
  }

  const SgdProblem& p_;
  int64_t d_;
  Optimizer optimizer_;
  float *u_, *gradient_, *moved_, *vector_;
  int32_t user_ = -1;
  float user_bias_ = 0.0f, moved_bias_ = 0.0f, decay_ = 1.0f, squares_ = 0.0f;
  int64_t n_samples_ = 0;
};

}  // namespace recsys_fast
