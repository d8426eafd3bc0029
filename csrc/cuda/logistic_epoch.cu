#include "cuda/sgd_engine.h"

namespace recsys_fast {
namespace {

struct Logistic {
  static constexpr int kItems = 0;  // any number
  static constexpr int64_t kRowsPerBlock = 64;
  static constexpr bool kScratch = true;
  int n_drawn;

  // Where only the positive moves, nothing else counts.
  __host__ __device__ int64_t per_visit(const SgdProblem& p) const {
    return p.frozen == SgdFrozen::kAllButPositives ? 1 : 1 + int64_t{n_drawn};
  }

  template <SgdOptimizer kOptimizer, int K, bool kRacy>
  __device__ float train(const SgdProblem& p, int32_t user, float weight, const int32_t* items, float* g,
                         int32_t* steps) const {
    const int64_t n = per_visit(p);
    float loss = 0.0f;
    for_scores<kRacy>(p, user, items, n, [&](int64_t m, int32_t, float s) {
      loss += m == 0 ? weight * softplus(-s) : softplus(s);
      if (Warp::lane() == m % kWarpSize) g[m] = m == 0 ? weight * sigmoid(-s) : -sigmoid(s);
      return true;
    });
    __syncwarp();  // g is there for all lanes
    update_rows<kOptimizer, kRacy>(p, user, items, g, steps, n);
    return loss;
  }
};

}  // namespace

template <>
SgdTotals logistic_epoch<Cuda>(const SgdProblem& problem, const double* cdf, int n_negatives, int) {
  return sgd_epoch(problem, cdf, Logistic{n_negatives});
}

}  // namespace recsys_fast
