#include "cuda/sgd_engine.h"

namespace recsys_fast {
namespace {

struct Bpr {
  static constexpr int kItems = 2;
  static constexpr int64_t kRowsPerBlock = 64;
  static constexpr bool kScratch = false;
  int n_drawn;  // candidates

  static int64_t per_visit(const SgdProblem&) { return 1; }

  template <SgdOptimizer kOptimizer, int K, bool kRacy>
  __device__ float train(const SgdProblem& p, int32_t user, float weight, const int32_t* items, float*,
                         int32_t*) const {
    const int32_t pair[2] = {items[0], n_drawn > 1 ? best<kRacy>(p, user, items + 1) : items[1]};
    SgdSampleRows<kOptimizer, 2, K, kRacy> rows(p, user, pair);
    const float x = rows.score(), g = weight * sigmoid(-x);
    rows.update({g, -g});
    return weight * softplus(-x);
  }

  // The candidate with the highest score, of equals the first.
  template <bool kRacy>
  __device__ int32_t best(const SgdProblem& p, int32_t user, const int32_t* candidates) const {
    int32_t best_item = candidates[0];
    float best_score = 0.0f;
    for_scores<kRacy>(p, user, candidates, n_drawn, [&](int64_t c, int32_t item, float score) {
      if (c == 0 || score > best_score) best_item = item, best_score = score;
      return true;
    });
    return best_item;
  }
};

}  // namespace

template <>
SgdTotals bpr_epoch<Cuda>(const SgdProblem& problem, const double* cdf, int n_candidates, int) {
  return sgd_epoch(problem, cdf, Bpr{n_candidates});
}

}  // namespace recsys_fast
