// SLIM where most pairs of items share users: the gradients q_i = x_i . (x_j - x w) of all candidates are kept,
//   w_i <- soft(q_i + |x_i|^2 w_i, l1) / (|x_i|^2 + l2),   q -= (change of w_i) (row i of the candidates' Gram matrix),
// and a visit that changes nothing costs nothing. Rows are gathered when their item first moves, or used as they are
// where candidates are many. Those with a weight are brought to rest among themselves on their own Gram matrix, which
// is small.
#pragma once

#include "core/simd.h"
#include "cpu/slim_task.h"

namespace recsys_fast {

class SlimByGram : public SlimSolver {
 public:
  explicit SlimByGram(const SlimTask& task) : task_(task) {}

  bool solve(int32_t item) override {
    start(item);
    int64_t passes = 0;
    while (passes < task_.n_passes) {
      ++passes;
      if (visit_all() <= task_.tolerance) return true;
      visit_active(passes);
    }
    return false;
  }

 private:
  // The candidates (without screening: all items, so that none can call for a weight unseen) and q at w = 0.
  void start(int32_t item) {
    candidates_.clear();
    const float* own = task_.gram + item * task_.t.n_rows;
    for (int32_t i = 0; i < static_cast<int32_t>(task_.t.n_rows); ++i) {
      if (i != item && (!task_.screened || task_.calls(own[i]))) candidates_.push_back({i, 0.0f});
    }
    own_ = candidates_.size();
    whole_ = 3 * static_cast<int64_t>(candidates_.size()) > task_.t.n_rows;
    if (whole_) {  // rows as they are cost less than gathering
      candidates_.clear();
      for (int32_t i = 0; i < static_cast<int32_t>(task_.t.n_rows); ++i) candidates_.push_back({i, 0.0f});
      own_ = static_cast<size_t>(item);
    }
    width_ = whole_ ? task_.t.n_rows : padded(static_cast<int64_t>(candidates_.size()));
    gradients_.assign(static_cast<size_t>(width_), 0.0f);
    slots_.assign(candidates_.size(), -1);
    n_rows_ = 0;
    for (size_t k = 0; k < candidates_.size(); ++k) gradients_[k] = own[candidates_[k].item];
  }

  const float* row(size_t place) {
    if (whole_) return task_.gram + static_cast<int64_t>(place) * width_;
    if (slots_[place] >= 0) return rows_.data() + slots_[place] * width_;
    slots_[place] = static_cast<int32_t>(n_rows_++);
    const auto needed = static_cast<size_t>(n_rows_ * width_);
    if (rows_.size() < needed) rows_.resize(std::max(needed, 2 * rows_.size()));
    float* out = rows_.data() + slots_[place] * width_;
    const float* from = task_.gram + candidates_[place].item * task_.t.n_rows;
    for (size_t k = 0; k < candidates_.size(); ++k) out[k] = from[candidates_[k].item];
    std::fill(out + candidates_.size(), out + width_, 0.0f);
    return out;
  }

  // One pass over all candidates; returns the largest change.
  float visit_all() {
    float largest = 0.0f;
    for (size_t k = 0; k < candidates_.size(); ++k) {
      Candidate& one = candidates_[k];
      if ((one.weight == 0.0f && !task_.calls(gradients_[k])) || k == own_) continue;
      const float norm = task_.norms[one.item], after = task_.weight(gradients_[k] + norm * one.weight, norm);
      const float change = after - one.weight;
      if (change == 0.0f) continue;
      one.weight = after;
      axpy(gradients_.data(), -change, row(k), width_);
      largest = std::max(largest, std::fabs(change));
    }
    return largest;
  }

  // Passes over those with a weight until none moves by more than the tolerance.
  void visit_active(int64_t& passes) {
    active_.clear();
    for (size_t k = 0; k < candidates_.size(); ++k) {
      if (candidates_[k].weight != 0.0f) active_.push_back(k);
    }
    const size_t n = active_.size();
    const int64_t width = padded(static_cast<int64_t>(n));
    small_gram_.assign(n * static_cast<size_t>(width), 0.0f);
    small_gradients_.assign(static_cast<size_t>(width), 0.0f);
    small_weights_.assign(n, 0.0f);
    for (size_t a = 0; a < n; ++a) {
      const float* from = row(active_[a]);
      float* to = small_gram_.data() + static_cast<int64_t>(a) * width;
      for (size_t b = 0; b < n; ++b) to[b] = from[active_[b]];
      small_gradients_[a] = gradients_[active_[a]];
      small_weights_[a] = candidates_[active_[a]].weight;
    }
    float largest = INFINITY;
    while (passes < task_.n_passes && largest > task_.tolerance) {
      ++passes;
      largest = 0.0f;
      for (size_t a = 0; a < n; ++a) {
        const float before = small_weights_[a], norm = task_.norms[candidates_[active_[a]].item];
        const float after = task_.weight(small_gradients_[a] + norm * before, norm);
        if (after == before) continue;
        small_weights_[a] = after;
        axpy(small_gradients_.data(), before - after, small_gram_.data() + static_cast<int64_t>(a) * width, width);
        largest = std::max(largest, std::fabs(after - before));
      }
    }
    for (size_t a = 0; a < n; ++a) {
      float& weight = candidates_[active_[a]].weight;
      const float change = weight - small_weights_[a];
      weight = small_weights_[a];
      if (change != 0.0f) axpy(gradients_.data(), change, row(active_[a]), width_);
    }
  }

  const SlimTask& task_;
  bool whole_ = false;              // places are items: nothing is gathered
  size_t own_ = 0;                  // place of the item itself where whole_, else none
  int64_t width_ = 0, n_rows_ = 0;  // length of a row; rows gathered
  std::vector<float> gradients_, rows_;
  std::vector<int32_t> slots_;  // where a candidate's row lies in rows_; -1: not gathered
  std::vector<size_t> active_;
  std::vector<float> small_gram_, small_gradients_, small_weights_;
};

}  // namespace recsys_fast
