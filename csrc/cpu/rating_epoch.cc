#include "core/sigmoid.h"
#include "cpu/sgd_engine.h"

namespace recsys_fast {
namespace {

struct RatingParameters {
  float mean;
  SgdRatingLoss loss;
};

template <class Rows>
class Rating {
 public:
  using Rows_ = Rows;
  using Parameters = RatingParameters;
  static constexpr int64_t kRowsPerBlock = 64;
  static constexpr int kAhead = 8;
  static constexpr int kCells = 2;
  static int64_t words(const Parameters&) { return 0; }
  static int64_t most_items(const Parameters&) { return 1; }
  static size_t scratch_bytes(const Parameters&) { return 0; }

  Rating(SgdWorker<Rows>& worker, const Parameters& parameters, Arena&)
      : w_(worker), mean_(parameters.mean), loss_(parameters.loss) {}

  RF_INLINE void prepare(SgdBatch& batch, int t) {
    w_.rows.prefetch_user(batch.user[t]);
    w_.rows.prefetch_item(batch.item[t]);
  }

  void train(SgdBatch& batch, int t) {
    const int32_t item = batch.item[t];
    const float s = mean_ + w_.rows.user_bias() + w_.rows.score(item), r = batch.value[t];
    float g = r - s;
    if (loss_ == SgdRatingLoss::kSmoothL1) g = std::clamp(g, -1.0f, 1.0f);
    if (loss_ == SgdRatingLoss::kLogistic) g = r - sigmoid(s);
    s_[t] = s;
    w_.rows.template update<1>(&item, &g, 1);
  }

  void finish(SgdBatch& batch) {
    double sum = 0.0;
    for (int t = 0; t < batch.n; ++t) {
      const float s = s_[t], r = batch.value[t], e = r - s, size = std::abs(e);
      if (loss_ == SgdRatingLoss::kLogistic) {
        sum += softplus(s) - r * s;
      } else {
        sum += loss_ == SgdRatingLoss::kSmoothL1 && size > 1.0f ? size - 0.5f : 0.5f * e * e;
      }
    }
    w_.totals.loss += sum;
    w_.totals.n_trained += batch.n;
  }

 private:
  SgdWorker<Rows>& w_;
  float mean_;
  SgdRatingLoss loss_;
  float s_[SgdBatch::kMost];
};

}  // namespace

template <>
SgdTotals rating_epoch<Cpu>(const SgdProblem& problem, float mean, SgdRatingLoss loss, int n_threads) {
  return sgd_epoch<Rating>(problem, nullptr, false, RatingParameters{mean, loss}, n_threads);
}

}  // namespace recsys_fast
