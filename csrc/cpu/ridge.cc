// Ridge regression of every item on few others. The Gram matrix of the chosen items is counted from the users that
// hold several of them, and factored in L2.
#include <memory>

#include "core/arena.h"
#include "core/cholesky.h"
#include "core/thread_pool.h"
#include "cpu/cooccurrence.h"
#include "ops/linear.h"

namespace recsys_fast {
namespace {

constexpr float kNoise = 1e-7f;  // a pivot that lost all but this share of its diagonal is rounding noise

class RidgeSolver {
 public:
  RidgeSolver(const Csr& t, const Csr& x, const std::vector<float>& norms, float regularization, int64_t width)
      : t_(t),
        x_(x),
        norms_(norms),
        regularization_(regularization),
        width_(std::min(width, x.n_cols - 1)),
        every_(width >= x.n_cols - 1),
        shared_(x),
        lists_(t, x.n_rows) {
    const auto side = static_cast<size_t>(padded(width_));
    memory_.reset(Arena::padded<float>(side * (side + kLanes)) + 2 * Arena::padded<float>(side));
    a_ = memory_.take<float>(side * (side + kLanes));
    inverse_ = memory_.take<float>(side);
    w_ = memory_.take<float>(side);
  }

  bool solve(const ItemWeights& out, int64_t row) {
    choose(out.items[row]);
    const auto n = static_cast<int64_t>(chosen_.size());
    out.counts[row] = 0;
    if (n == 0) return true;
    const int64_t side = padded(n), stride = side + kLanes;
    count_gram(side, stride);
    for (int64_t a = 0; a < side; ++a) {
      a_[a * stride + a] =
          a < n ? norms_[static_cast<size_t>(chosen_[static_cast<size_t>(a)])] + regularization_ : 1.0f;
      a_[a * stride + side] = a < n ? targets_[static_cast<size_t>(a)] : 0.0f;
    }
    bool positive = cholesky_upper(a_, stride, side, stride, inverse_);
    for (int64_t a = 0; a < n; ++a) {
      const float root = a_[a * stride + a];
      positive &=
          root * root > kNoise * (norms_[static_cast<size_t>(chosen_[static_cast<size_t>(a)])] + regularization_);
    }
    for (int64_t k = 0; k < side; ++k) w_[k] = a_[k * stride + side];
    solve_upper(a_, stride, inverse_, w_, side);
    if (!positive || !std::all_of(w_, w_ + n, [](float w) { return std::isfinite(w); })) return false;
    std::copy_n(chosen_.data(), n, out.ids.row(row));
    std::copy_n(w_, n, out.values.row(row));
    out.counts[row] = static_cast<int32_t>(n);
    return true;
  }

 private:
  // chosen_ (ascending) and targets_, their products with the item.
  void choose(int32_t item) {
    const int64_t begin = t_.row_ptr[item];
    shared_.gather(t_.col_idx + begin, t_.values == nullptr ? nullptr : t_.values + begin, t_.row_size(item));
    chosen_.clear();
    if (every_) {
      for (int32_t i = 0; i < static_cast<int32_t>(x_.n_cols); ++i) {
        if (i != item) chosen_.push_back(i);
      }
      targets_.assign(chosen_.size(), 0.0f);
      for (const int32_t i : shared_.items()) {
        if (i != item) targets_[static_cast<size_t>(i - (i > item))] = shared_.sum(i);
      }
      return;
    }
    keys_.clear();
    for (const int32_t i : shared_.items()) {
      if (i == item) continue;
      const float key = shared_.sum(i) / std::sqrt(norms_[static_cast<size_t>(i)] + regularization_);
      keys_.push_back({key, i});
    }
    if (static_cast<int64_t>(keys_.size()) > width_) {
      const auto better = [](const Key& a, const Key& b) {
        return a.key > b.key || (a.key == b.key && a.item < b.item);
      };
      std::nth_element(keys_.begin(), keys_.begin() + width_, keys_.end(), better);
      keys_.resize(static_cast<size_t>(width_));
    }
    for (const Key& one : keys_) chosen_.push_back(one.item);
    std::sort(chosen_.begin(), chosen_.end());
    targets_.clear();
    for (const int32_t i : chosen_) targets_.push_back(shared_.sum(i));
  }

  // Upper triangle of the chosen items' Gram matrix, without its diagonal.
  void count_gram(int64_t side, int64_t stride) {
    std::fill_n(a_, side * stride, 0.0f);
    lists_.build(chosen_);
    for (const int32_t user : lists_.users()) {
      for (int64_t left = lists_.begin(user); left < lists_.end(user); ++left) {
        float* into = a_ + lists_.place(left) * stride;
        if (t_.values == nullptr) {
          for (int64_t right = left + 1; right < lists_.end(user); ++right) into[lists_.place(right)] += 1.0f;
        } else {
          const float value = lists_.value(left);
          for (int64_t right = left + 1; right < lists_.end(user); ++right) {
            into[lists_.place(right)] += value * lists_.value(right);
          }
        }
      }
    }
  }

  struct Key {
    float key;
    int32_t item;
  };

  Csr t_, x_;
  const std::vector<float>& norms_;
  float regularization_;
  int64_t width_;
  bool every_;
  Cooccurrence shared_;
  Arena memory_;
  float *a_, *inverse_, *w_;
  std::vector<Key> keys_;
  UserLists lists_;
  std::vector<int32_t> chosen_;
  std::vector<float> targets_;
};

}  // namespace

template <>
int64_t ridge_solve<Cpu>(const ItemWeights& out, const Csr& t, const Csr& x, double regularization, int n_threads) {
  const std::vector<float> norms = squared_norms(t);
  std::vector<std::unique_ptr<RidgeSolver>> solvers(static_cast<size_t>(std::max(n_threads, 1)));
  std::vector<uint8_t> failed(static_cast<size_t>(out.ids.n), 0);
  parallel_for(out.ids.n, 1, n_threads, [&](int64_t begin, int64_t end, int worker) {
    auto& solver = solvers[static_cast<size_t>(worker)];
    if (!solver) solver = std::make_unique<RidgeSolver>(t, x, norms, static_cast<float>(regularization), out.ids.d);
    for (int64_t row = begin; row < end; ++row) failed[static_cast<size_t>(row)] = !solver->solve(out, row);
  });
  return std::count(failed.begin(), failed.end(), 1);
}

}  // namespace recsys_fast
