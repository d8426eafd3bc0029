#include "cuda/sgd_engine.h"

namespace recsys_fast {
namespace {

struct Rating {
  static constexpr int kItems = 1;
  static constexpr int64_t kRowsPerBlock = 64;
  static constexpr bool kScratch = false;
  int n_drawn;
  float mean;
  SgdRatingLoss kind;

  static int64_t per_visit(const SgdProblem&) { return 1; }

  template <SgdOptimizer kOptimizer, int K, bool kRacy>
  __device__ float train(const SgdProblem& p, int32_t user, float r, const int32_t* items, float*, int32_t*) const {
    const int32_t item[1] = {items[0]};
    SgdSampleRows<kOptimizer, 1, K, kRacy> rows(p, user, item);
    const float s = mean + rows.score(), e = r - s, size = fabsf(e);
    float g = e, loss = 0.5f * e * e;
    if (kind == SgdRatingLoss::kSmoothL1 && size > 1.0f) {
      g = e > 0.0f ? 1.0f : -1.0f;
      loss = size - 0.5f;
    }
    if (kind == SgdRatingLoss::kLogistic) {
      g = r - sigmoid(s);
      loss = softplus(s) - r * s;
    }
    rows.update({g});
    return loss;
  }
};

}  // namespace

template <>
SgdTotals rating_epoch<Cuda>(const SgdProblem& problem, float mean, SgdRatingLoss loss, int) {
  return sgd_epoch(problem, nullptr, Rating{0, mean, loss});
}

}  // namespace recsys_fast
