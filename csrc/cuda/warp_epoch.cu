#include <stdexcept>

#include "cuda/sgd_engine.h"

namespace recsys_fast {
namespace {

struct WarpLoss {
  static constexpr int kItems = 2;
  static constexpr int64_t kRowsPerBlock = 1024;
  static constexpr bool kScratch = false;
  int n_drawn;  // trials at most

  static int64_t per_visit(const SgdProblem&) { return 1; }

  template <SgdOptimizer kOptimizer, int K, bool kRacy>
  __device__ float train(const SgdProblem& p, int32_t user, float weight, const int32_t* items, float*,
                         int32_t*) const {
    float positive = 0.0f, hinge = 0.0f;
    int32_t negative = -1;
    int trials = 0;
    for_scores<kRacy>(p, user, items, n_drawn + 1, [&](int64_t m, int32_t item, float score) {
      if (m == 0) {
        positive = score;
      } else if (score > positive - 1.0f) {
        negative = item;
        trials = static_cast<int>(m);
        hinge = 1.0f - positive + score;
      }
      return negative < 0;
    });
    if (negative < 0) return 0.0f;
    const int64_t rank = (p.data.n_cols - 1) / trials;
    const float g = weight * fmaxf(1.0f, static_cast<float>(log(static_cast<double>(rank > 1 ? rank : 1))));
    const int32_t pair[2] = {items[0], negative};
    SgdSampleRows<kOptimizer, 2, K, kRacy> rows(p, user, pair);
    rows.update({g, -g});
    return g * hinge;
  }
};

}  // namespace

template <>
SgdTotals warp_epoch<Cuda>(const SgdProblem& problem, const double* cdf, int max_trials, int, int n_os, int) {
  if (n_os > 0) throw std::invalid_argument("n_os: the CUDA backend has no order statistics yet. Use device=\"cpu\"");
  return sgd_epoch(problem, cdf, WarpLoss{max_trials});
}

}  // namespace recsys_fast
