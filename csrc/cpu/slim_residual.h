// SLIM where most pairs of items share no user: r = x_j - x w stays in L2, and a step costs the entries of one item.
//   w_i <- soft(x_i . r + |x_i|^2 w_i, l1) / (|x_i|^2 + l2),   r -= x_i (change of w_i)
// Without screening all gradients are looked at in the end, and items that call for a weight join.
#pragma once

#include <span>

#include "cpu/slim_task.h"

namespace recsys_fast {

class SlimByResidual : public SlimSolver {
 public:
  explicit SlimByResidual(const SlimTask& task)
      : task_(task),
        shared_(task.x),
        residual_(static_cast<size_t>(task.x.n_rows), 0.0f),
        touched_(static_cast<size_t>(task.x.n_rows), 0),
        listed_(static_cast<size_t>(task.x.n_cols), 0) {}

  bool solve(int32_t item) override {
    const Csr& t = task_.t;
    const int64_t begin = t.row_ptr[item];
    shared_.gather(t.col_idx + begin, t.values == nullptr ? nullptr : t.values + begin, t.row_size(item));
    candidates_.clear();
    admit(item);
    add(item, -1.0f);
    int64_t passes = 0;
    bool converged = descend(passes);
    while (converged && !task_.screened) {
      gather_gradients();
      if (!admit(item)) break;
      converged = descend(passes);
    }
    for (const Candidate& one : candidates_) listed_[static_cast<size_t>(one.item)] = 0;
    for (const int32_t user : users_) {
      residual_[static_cast<size_t>(user)] = 0.0f;
      touched_[static_cast<size_t>(user)] = 0;
    }
    users_.clear();
    return converged;
  }

 private:
  // Adds the items whose gradient (in shared_) calls for a weight. Returns whether there are any.
  bool admit(int32_t item) {
    bool any = false;
    for (const int32_t i : shared_.items()) {
      if (i == item || listed_[static_cast<size_t>(i)] != 0 || !task_.calls(shared_.sum(i))) continue;
      listed_[static_cast<size_t>(i)] = 1;
      candidates_.push_back({i, 0.0f});
      any = true;
    }
    return any;
  }

  void gather_gradients() {
    gradients_.clear();
    for (const int32_t user : users_) gradients_.push_back(residual_[static_cast<size_t>(user)]);
    shared_.gather(users_.data(), gradients_.data(), static_cast<int64_t>(users_.size()));
  }

  bool descend(int64_t& passes) {
    while (passes < task_.n_passes) {
      ++passes;
      if (visit(candidates_) <= task_.tolerance) return true;
      const auto split = std::stable_partition(candidates_.begin(), candidates_.end(),
                                               [](const Candidate& one) { return one.weight != 0.0f; });
      const std::span<Candidate> active(candidates_.begin(), split);
      while (passes < task_.n_passes) {
        ++passes;
        if (visit(active) <= task_.tolerance) break;
      }
    }
    return false;
  }

  // One pass; returns the largest change.
  float visit(std::span<Candidate> candidates) {
    float largest = 0.0f;
    for (Candidate& one : candidates) {
      const float norm = task_.norms[one.item];
      const float weight = task_.weight(correlation(one.item) + norm * one.weight, norm);
      const float change = weight - one.weight;
      if (change == 0.0f) continue;
      one.weight = weight;
      add(one.item, change);
      largest = std::max(largest, std::fabs(change));
    }
    return largest;
  }

  // x_item . r, in eight sums side by side: one would wait for itself at every entry.
  float correlation(int32_t item) const {
    const Csr& t = task_.t;
    float sum[8] = {};
    int64_t e = t.row_ptr[item];
    const int64_t end = t.row_ptr[item + 1];
    if (t.values == nullptr) {
      for (; e + 8 <= end; e += 8) {
        for (int k = 0; k < 8; ++k) sum[k] += residual_[static_cast<size_t>(t.col_idx[e + k])];
      }
      for (; e < end; ++e) sum[0] += residual_[static_cast<size_t>(t.col_idx[e])];
    } else {
      for (; e + 8 <= end; e += 8) {
        for (int k = 0; k < 8; ++k) sum[k] += t.values[e + k] * residual_[static_cast<size_t>(t.col_idx[e + k])];
      }
      for (; e < end; ++e) sum[0] += t.values[e] * residual_[static_cast<size_t>(t.col_idx[e])];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
  }

  // r -= change * x_item, and lists the users that r may not be 0 for.
  void add(int32_t item, float change) {
    const Csr& t = task_.t;
    for (int64_t e = t.row_ptr[item]; e < t.row_ptr[item + 1]; ++e) {
      const auto user = static_cast<size_t>(t.col_idx[e]);
      residual_[user] -= t.values == nullptr ? change : change * t.values[e];
      if (touched_[user] != 0) continue;
      touched_[user] = 1;
      users_.push_back(t.col_idx[e]);
    }
  }

  const SlimTask& task_;
  Cooccurrence shared_;
  std::vector<float> residual_;
  std::vector<uint8_t> touched_, listed_;
  std::vector<int32_t> users_;
  std::vector<float> gradients_;
};

}  // namespace recsys_fast
