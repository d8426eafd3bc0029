#include "core/sigmoid.h"
#include "cpu/sgd_engine.h"

namespace recsys_fast {
namespace {

struct BprParameters {
  int n_candidates;
};

template <class Rows>
class Bpr {
 public:
  using Rows_ = Rows;
  using Parameters = BprParameters;
  static constexpr int64_t kRowsPerBlock = 64;
  static constexpr int kAhead = 16;
  static constexpr int kCells = 2;
  static int64_t words(const Parameters&) { return 4; }
  static int64_t most_items(const Parameters&) { return 2; }
  static size_t scratch_bytes(const Parameters&) { return 0; }

  Bpr(SgdWorker<Rows>& worker, const Parameters& parameters, Arena&)
      : w_(worker), n_candidates_(parameters.n_candidates), simple_(n_candidates_ <= 1 && worker.sampler.uniform()) {}

  RF_INLINE void prepare(SgdBatch& batch, int t) {
    w_.rows.prefetch_user(batch.user[t]);
    w_.rows.prefetch_item(batch.item[t]);
    if (n_candidates_ > 1) return;
    int32_t& negative = negative_[t];
    negative = simple_ ? w_.sampler.pick(batch.words[4 * t]) : -1;
    if (!simple_ || batch.seen[t].contains(negative)) {
      SgdWords words = batch.words_of(t, w_.problem);
      negative = w_.sampler.draw(batch.seen[t], words);
      if (negative < 0) return;
    }
    w_.rows.prefetch_item(negative);
  }

  RF_INLINE void train(SgdBatch& batch, int t) {
    if (n_candidates_ > 1) negative_[t] = best(batch, t);
    if (negative_[t] < 0) {
      x_[t] = 0.0f;
      batch.value[t] = 0.0f;
      ++w_.totals.n_skipped;
      return;
    }
    const float weight = batch.value[t];
    x_[t] = move_pair(w_.rows, batch.item[t], negative_[t], [&](float x) { return weight * sigmoid(-x); });
    ++w_.totals.n_trained;
  }

  void finish(SgdBatch& batch) {
    double sum = 0.0;
    float loss[kLanes];
    for (int t = 0; t < batch.n; t += kLanes) {
      const int n = std::min(kLanes, batch.n - t);
      store(loss, softplus(-load(x_ + t)));
      for (int lane = 0; lane < n; ++lane) sum += double{batch.value[t + lane]} * loss[lane];
    }
    w_.totals.loss += sum;
  }

 private:
  // The verified negative with the highest score of n_candidates.
  int32_t best(const SgdBatch& batch, int t) {
    SgdWords words = batch.words_of(t, w_.problem);
    int32_t best_item = -1;
    float best_score = 0.0f;
    for (int c = 0; c < n_candidates_; ++c) {
      const int32_t item = w_.sampler.draw(batch.seen[t], words);
      if (item < 0) return -1;
      const float score = w_.rows.score(item);
      if (c == 0 || score > best_score) best_item = item, best_score = score;
    }
    return best_item;
  }

  SgdWorker<Rows>& w_;
  int n_candidates_;
  bool simple_;
  int32_t negative_[SgdBatch::kMost];
  float x_[SgdBatch::kMost] = {};
};

}  // namespace

template <>
SgdTotals bpr_epoch<Cpu>(const SgdProblem& problem, const double* cdf, int n_candidates, int n_threads) {
  return sgd_epoch<Bpr>(problem, cdf, false, BprParameters{n_candidates}, n_threads);
}

}  // namespace recsys_fast
