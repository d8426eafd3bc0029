#include <cmath>
#include <optional>

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
  // A rank is estimated from the positive's block: on smaller ones quality suffers.
  static constexpr int64_t kRowsPerBlock = 1024;
  static constexpr int kAhead = 4;
  static constexpr int kCells = 1;
  static constexpr int kTogether = 8;  // items scored at a time
  static constexpr int kDrawn = 16;    // trials drawn ahead, at most
  static int64_t words(const Parameters& parameters) {
    return parameters.n_os > 0 ? 4 : std::min(parameters.max_trials, kDrawn) + 2;  // some draw a second time
  }
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
    for (int trials = 1; trials <= kDrawn; ++trials) weight_[trials] = rank_weight(n_items_, trials);
  }

  RF_INLINE void prepare(SgdBatch& batch, int t) {
    w_.rows.prefetch_user(batch.user[t]);
    w_.rows.prefetch_item(batch.item[t]);
    Ahead& ahead = ahead_[t % (kAhead + 1)];
    ahead.n_words = 0;
    ahead.n = parameters_.n_os > 0 ? 0 : std::min(parameters_.max_trials, kDrawn);
    if (ahead.n > 0 && w_.sampler.uniform()) {
      ahead.n_words = draw_lanes(ahead.items, ahead.n, w_.sampler, batch.seen[t], batch.first_words(t), batch.n_words);
    }
    if (ahead.n_words == 0) ahead.n = 0;
    for (int c = 0; c < ahead.n; ++c) w_.rows.prefetch_item(ahead.items[c]);
  }

  void train(SgdBatch& batch, int t) {
    const Ahead& ahead = ahead_[t % (kAhead + 1)];
    std::optional<SgdWords> words;  // most visits need no more than was drawn ahead
    const auto draw = [&](int64_t trial) {
      if (trial < ahead.n) return ahead.items[trial];
      if (!words) words.emplace(batch.words_of(t, w_.problem)).skip(ahead.n_words);
      return w_.sampler.draw(batch.seen[t], *words);
    };
    if (parameters_.n_os > 0) take_order_statistic(batch, t, words.emplace(batch.words_of(t, w_.problem)));
    int32_t items[kTogether] = {batch.item[t]};
    float score[kTogether];
    float positive = 0.0f;
    int64_t trials = 0;
    for (int begin = 1; trials < parameters_.max_trials; begin = 0) {  // the positive is scored with the first ones
      const int n = static_cast<int>(std::min<int64_t>(kTogether, begin + parameters_.max_trials - trials));
      for (int c = begin; c < n; ++c) {
        items[c] = draw(trials + c - begin);
        if (items[c] < 0) {
          ++w_.totals.n_skipped;
          return;
        }
      }
      w_.rows.scores(score, items, n);
      if (begin > 0) positive = score[0];
      for (int c = begin; c < n; ++c) {
        ++trials;
        if (score[c] > positive - 1.0f) return step(batch, t, items[c], trials, 1.0f - positive + score[c]);
      }
    }
    ++w_.totals.n_trained;
  }

  void finish(SgdBatch&) {}

 private:
  struct Ahead {
    int n, n_words;  // trials, and the random words they took
    int32_t items[kDrawn + kLanes];
  };

  static float rank_weight(int64_t n_items, int64_t trials) {
    const auto rank = static_cast<double>(std::max<int64_t>(1, (n_items - 1) / trials));
    return static_cast<float>(std::max(1.0, std::log(rank)));
  }

  void step(const SgdBatch& batch, int t, int32_t negative, int64_t trials, float hinge) {
    const float g = batch.value[t] * (trials <= kDrawn ? weight_[trials] : rank_weight(n_items_, trials));
    const int32_t items[2] = {batch.item[t], negative};
    const float coefficients[2] = {g, -g};
    w_.totals.loss += g * hinge;
    ++w_.totals.n_trained;
    w_.rows.template update<2>(items, coefficients, 2);
  }

  // Makes the k-th best (from 1; of equals the one drawn first) of n entries of the user's row the positive.
  void take_order_statistic(SgdBatch& batch, int t, SgdWords& words) {
    const IdRow& seen = batch.seen[t];
    const int n = parameters_.n_os;
    for (int c = 0; c < n; ++c) {
      const int32_t index = to_range(words.next(), static_cast<int32_t>(seen.n));
      drawn_[c] = index;
      item_[c] = seen.ids[index];
    }
    w_.rows.scores(score_, item_, n);
    for (int c = 0; c < n; ++c) {
      int better = 0;
      for (int other = 0; other < n; ++other) {
        better += score_[other] > score_[c] || (score_[other] == score_[c] && other < c) ? 1 : 0;
      }
      if (better + 1 != parameters_.k_os) continue;
      batch.item[t] = item_[c];
      const Csr& data = w_.problem.data;
      if (data.values != nullptr) batch.value[t] = data.values[data.row_ptr[batch.user[t]] + drawn_[c]];
      return;
    }
  }

  SgdWorker<Rows>& w_;
  Parameters parameters_;
  int64_t n_items_;
  int32_t *drawn_, *item_;
  float* score_;
  Ahead ahead_[kAhead + 1];
  float weight_[kDrawn + 1];  // by trials
};

}  // namespace

template <>
SgdTotals warp_epoch<Cpu>(const SgdProblem& problem, const double* cdf, int max_trials, int k_os, int n_os,
                          int n_threads) {
  return sgd_epoch<Warp>(problem, cdf, n_os > 0, WarpParameters{max_trials, k_os, n_os}, n_threads);
}

}  // namespace recsys_fast
