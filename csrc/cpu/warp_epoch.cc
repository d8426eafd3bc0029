#include <cmath>

#include "cpu/sgd_engine.h"

namespace recsys_fast {
namespace {

struct WarpParameters {
  int max_trials, k_os, n_os;
};

template <class Rows>
class Warp {
 public:
  using Rows_ = Rows;
  using Parameters = WarpParameters;
  static constexpr bool kDraws = true;
  // A rank is estimated from the positive's block: on smaller ones quality suffers.
  static constexpr int64_t kRowsPerBlock = 1024;
  static constexpr int kAhead = 4;
  static constexpr int kTogether = 8;  // trials scored at a time
  static int64_t most_items(const Parameters&) { return kTogether; }
  static size_t scratch_bytes(const Parameters& parameters) {
    const auto n = static_cast<size_t>(std::max(parameters.n_os, 0));
    return 2 * Arena::padded<int32_t>(n) + Arena::padded<float>(n);
  }

  Warp(SgdWorker<Rows>& worker, const Parameters& parameters, Arena& arena)
      : w_(worker), parameters_(parameters), n_items_(worker.problem.data.n_cols) {
    const auto n = static_cast<size_t>(std::max(parameters.n_os, 0));
    drawn_ = arena.take<int32_t>(n);
    item_ = arena.take<int32_t>(n);
    score_ = arena.take<float>(n);
  }

  RF_INLINE void prepare(SgdBatch& batch, int t) {
    const SgdVisit& visit = batch.visits[t];
    w_.rows.prefetch_user(visit.user);
    w_.rows.prefetch_item(visit.item);
    if (w_.sampler.uniform()) {
      for (int k = 0; k < 4; ++k) w_.rows.prefetch_item(w_.sampler.pick(batch.words[4 * t + k]));
    }
  }

  void train(SgdBatch& batch, int t) {
    SgdVisit& visit = batch.visits[t];
    SgdWords words = batch.words_of(t, w_.problem);
    if (parameters_.n_os > 0) take_order_statistic(visit, words);
    const float positive = w_.rows.score(visit.item), margin = positive - 1.0f;
    int32_t candidate[kTogether];
    float score[kTogether];
    int64_t trials = 0;
    for (int n = 4; trials < parameters_.max_trials; n = kTogether) {
      n = static_cast<int>(std::min<int64_t>(n, parameters_.max_trials - trials));
      for (int c = 0; c < n; ++c) {
        candidate[c] = w_.sampler.draw(visit.seen, words);
        if (candidate[c] < 0) {
          ++w_.totals.n_skipped;
          return;
        }
      }
      w_.rows.scores(score, candidate, n);
      for (int c = 0; c < n; ++c) {
        ++trials;
        if (score[c] > margin) return step(visit, candidate[c], trials, 1.0f - positive + score[c]);
      }
    }
    ++w_.totals.n_trained;
  }

  void finish(SgdBatch&) {}

 private:
  void step(const SgdVisit& visit, int32_t negative, int64_t trials, float hinge) {
    const auto rank = static_cast<double>(std::max<int64_t>(1, (n_items_ - 1) / trials));
    const float g = visit.value * static_cast<float>(std::max(1.0, std::log(rank)));
    const int32_t items[2] = {visit.item, negative};
    const float coefficients[2] = {g, -g};
    w_.totals.loss += g * hinge;
    ++w_.totals.n_trained;
    w_.rows.template update<2>(items, coefficients, 2);
  }

  // Makes the k-th best (from 1; of equals the one drawn first) of n entries of the user's row the positive.
  void take_order_statistic(SgdVisit& visit, SgdWords& words) {
    const int n = parameters_.n_os;
    for (int c = 0; c < n; ++c) {
      const int32_t index = to_range(words.next(), static_cast<int32_t>(visit.seen.n));
      drawn_[c] = index;
      item_[c] = visit.seen.ids[index];
    }
    w_.rows.scores(score_, item_, n);
    for (int c = 0; c < n; ++c) {
      int better = 0;
      for (int other = 0; other < n; ++other) {
        better += score_[other] > score_[c] || (score_[other] == score_[c] && other < c) ? 1 : 0;
      }
      if (better + 1 != parameters_.k_os) continue;
      visit.item = item_[c];
      const Csr& data = w_.problem.data;
      if (data.values != nullptr) visit.value = data.values[data.row_ptr[visit.user] + drawn_[c]];
      return;
    }
  }

  SgdWorker<Rows>& w_;
  Parameters parameters_;
  int64_t n_items_;
  int32_t *drawn_, *item_;
  float* score_;
};

}  // namespace

template <>
SgdTotals warp_epoch<Cpu>(const SgdProblem& problem, const double* cdf, int max_trials, int k_os, int n_os,
                          int n_threads) {
  return sgd_epoch<Warp>(problem, cdf, n_os > 0, WarpParameters{max_trials, k_os, n_os}, n_threads);
}

}  // namespace recsys_fast
