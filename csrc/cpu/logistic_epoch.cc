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
  static constexpr bool kDraws = true;
  static constexpr int64_t kRowsPerBlock = 64;
  static constexpr int kAhead = 1;
  static int64_t most_items(const Parameters& parameters) { return 1 + int64_t{parameters.n_negatives}; }
  static size_t scratch_bytes(const Parameters& parameters) {
    const auto width = static_cast<size_t>(padded(most_items(parameters)));
    return (kAhead + 1) * Arena::padded<int32_t>(width) + 2 * Arena::padded<float>(width);
  }

  Logistic(SgdWorker<Rows>& worker, const Parameters& parameters, Arena& arena)
      : w_(worker), n_(most_items(parameters)) {
    const auto width = static_cast<size_t>(padded(n_));
    for (int32_t*& items : items_) items = arena.take<int32_t>(width);
    score_ = arena.take<float>(width);
    g_ = arena.take<float>(width);
  }

  // items: the positive, then its negatives.
  RF_INLINE void prepare(SgdBatch& batch, int t) {
    SgdVisit& visit = batch.visits[t];
    int32_t* items = items_[t % (kAhead + 1)];
    w_.rows.prefetch_user(visit.user);
    w_.rows.prefetch_item(visit.item);
    items[0] = visit.item;
    if (n_ == 1) return;
    SgdWords words = batch.words_of(t, w_.problem);
    for (int64_t m = 1; m < n_; ++m) {
      items[m] = w_.sampler.draw(visit.seen, words);
      if (items[m] < 0) {
        items[0] = -1;
        return;
      }
      w_.rows.prefetch_item(items[m]);
    }
  }

  void train(SgdBatch& batch, int t) {
    const int32_t* items = items_[t % (kAhead + 1)];
    if (items[0] < 0) {
      ++w_.totals.n_skipped;
      return;
    }
    // Where only the positive moves, nothing else counts.
    const int64_t n = w_.problem.frozen == SgdFrozen::kAllButPositives ? 1 : n_;
    w_.rows.scores(score_, items, n);
    const Vec user_bias = broadcast(w_.rows.user_bias());
    const float weight = batch.visits[t].value;
    Vec loss = {};
    for (int64_t m = 0; m < n; m += kLanes) {
      const Vec s = (m + kLanes <= n ? load(score_ + m) : load_first(score_ + m, n - m)) + user_bias;
      store(g_ + m, -sigmoid(s));
      float each[kLanes];
      store(each, softplus(s));
      if (m == 0) {
        g_[0] = weight * (1.0f + g_[0]);
        each[0] = weight * softplus(-s[0]);
      }
      loss += m + kLanes <= n ? load(each) : load_first(each, n - m);
    }
    w_.totals.loss += reduce_add(loss);
    w_.totals.n_trained += n;
    w_.rows.template update<0>(items, g_, n);
  }

  void finish(SgdBatch&) {}

 private:
  SgdWorker<Rows>& w_;
  int64_t n_;
  int32_t* items_[kAhead + 1];
  float *score_, *g_;
};

}  // namespace

template <>
SgdTotals logistic_epoch<Cpu>(const SgdProblem& problem, const double* cdf, int n_negatives, int n_threads) {
  return sgd_epoch<Logistic>(problem, cdf, false, LogisticParameters{n_negatives}, n_threads);
}

}  // namespace recsys_fast
