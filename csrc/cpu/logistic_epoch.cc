#include "core/sigmoid.h"
#include "cpu/sgd_engine.h"

namespace recsys_fast {
namespace {

struct LogisticParameters {
  int n_negatives;
};

template <class Rows>
class Logistic {
 public:
  using Rows_ = Rows;
  using Parameters = LogisticParameters;
  static constexpr int64_t kSpareWords = 2;  // of a visit, for draws that are not negatives
  static constexpr int64_t kRowsPerBlock = 64;
  static constexpr int kAhead = 1;
  static constexpr int kCells = 1;
  static int64_t words(const Parameters& parameters) { return parameters.n_negatives + kSpareWords; }
  static int64_t most_items(const Parameters& parameters) { return 1 + int64_t{parameters.n_negatives}; }
  static size_t scratch_bytes(const Parameters& parameters) {
    const auto width = static_cast<size_t>(padded(most_items(parameters)) + kLanes);
    return (kAhead + 1) * Arena::padded<int32_t>(width) + 3 * Arena::padded<float>(width);
  }

  Logistic(SgdWorker<Rows>& worker, const Parameters& parameters, Arena& arena)
      : w_(worker),
        n_(most_items(parameters)),
        // Where only the positive moves, nothing else counts.
        n_trained_(worker.problem.frozen == SgdFrozen::kAllButPositives ? 1 : n_) {
    const auto width = static_cast<size_t>(padded(n_) + kLanes);
    for (int32_t*& items : items_) {
      items = arena.take<int32_t>(width);
      std::fill_n(items, width, 0);
    }
    for (float** array : {&g_, &sign_, &weight_}) *array = arena.take<float>(width);
    std::fill_n(sign_, width, 1.0f);
    sign_[0] = -1.0f;
    std::fill_n(weight_, width, 0.0f);
    std::fill_n(weight_, n_trained_, 1.0f);
  }

  // items: the positive, then its negatives.
  RF_INLINE void prepare(SgdBatch& batch, int t) {
    int32_t* items = items_[t % (kAhead + 1)];
    w_.rows.prefetch_user(batch.user[t]);
    w_.rows.prefetch_item(batch.item[t]);
    items[0] = batch.item[t];
    if (n_ == 1) return;
    if (!w_.sampler.uniform() || draw_lanes(items + 1, static_cast<int>(n_ - 1), w_.sampler, batch.seen[t],
                                            batch.first_words(t), batch.n_words) == 0) {
      SgdWords words = batch.words_of(t, w_.problem);
      for (int64_t m = 1; m < n_; ++m) {
        items[m] = w_.sampler.draw(batch.seen[t], words);
        if (items[m] < 0) {
          items[0] = -1;
          return;
        }
      }
    }
    for (int64_t m = 1; m < n_; ++m) w_.rows.prefetch_item(items[m]);
  }

  void train(SgdBatch& batch, int t) {
    const int32_t* items = items_[t % (kAhead + 1)];
    if (items[0] < 0) {
      ++w_.totals.n_skipped;
      return;
    }
    const Vec user_bias = broadcast(w_.rows.user_bias());
    // With x = -s of the positive, x = s of a negative: loss weight * softplus(x), g = +-weight * sigmoid(x).
    Vec loss = {};
    for (int64_t m = 0; m < n_trained_; m += kLanes) {
      const Vec sign = load(sign_ + m);
      Vec weight = load(weight_ + m);
      if (m == 0) weight[0] = batch.value[t];
      const Vec scores = w_.rows.score_lanes(items + m, std::min<int64_t>(kLanes, n_trained_ - m)) + user_bias;
      const LogisticTerms terms = logistic_terms(sign * scores);
      store(g_ + m, -sign * weight * terms.sigmoid);
      loss += weight * terms.softplus;
    }
    w_.totals.loss += reduce_add(loss);
    w_.totals.n_trained += n_trained_;
    w_.rows.template update<0>(items, g_, n_trained_);
  }

  void finish(SgdBatch&) {}

 private:
  SgdWorker<Rows>& w_;
  int64_t n_, n_trained_;
  int32_t* items_[kAhead + 1];
  float *g_, *sign_, *weight_;  // weight: 0 behind the last
};

}  // namespace

template <>
SgdTotals logistic_epoch<Cpu>(const SgdProblem& problem, const double* cdf, int n_negatives, int n_threads) {
  return sgd_epoch<Logistic>(problem, cdf, false, LogisticParameters{n_negatives}, n_threads);
}

}  // namespace recsys_fast
