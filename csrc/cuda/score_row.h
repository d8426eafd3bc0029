// The losses of one row of scores by a team of threads, a warp or a block: formulas in recsys_fast/ops/losses.py.
// Thread r of the team has the scores r, r + size, ...; sums are its own first, then a tree over the team.
#pragma once

#include <cfloat>

#include "cuda/reduce.h"
#include "cuda/sigmoid.h"
#include "ops/losses.h"

namespace recsys_fast {

struct WarpRow {
  __device__ __forceinline__ int rank() const { return Warp::lane(); }
  __device__ __forceinline__ int size() const { return kWarpSize; }
  __device__ __forceinline__ void sync() const { __syncwarp(); }
  __device__ __forceinline__ float sum(float x) const { return Warp::sum(x); }
  __device__ __forceinline__ float maximum(float x) const { return Warp::maximum(x); }
};

struct BlockRow {
  Shared<float> scratch;  // (32)
  __device__ __forceinline__ int rank() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ int size() const { return static_cast<int>(blockDim.x); }
  __device__ __forceinline__ void sync() const { __syncthreads(); }
  __device__ __forceinline__ float sum(float x) const { return Block::sum(x, scratch); }
  __device__ __forceinline__ float maximum(float x) const { return Block::maximum(x, scratch); }
};

// The largest of the scores s (n) and the sum of e^(s - largest), in every thread, by one reading.
template <class Team>
__device__ __forceinline__ void softmax_sums(const Team& team, const float* s, int64_t n, float& largest,
                                             float& total) {
  float top = -FLT_MAX, sum = 0.0f;
  for (int64_t j = team.rank(); j < n; j += team.size()) {
    const float x = s[j];
    if (x > top) {
      sum = sum * expf(top - x) + 1.0f;
      top = x;
    } else {
      sum += expf(x - top);
    }
  }
  largest = team.maximum(top);
  total = team.sum(sum * expf(top - largest));
}

// -sum_e w_e log softmax(s)_e over a row's m targets, in every thread; w null: 1. Leaves scale times its derivatives in
// s. A score belongs to one thread, which looks at all targets in their order: one may come twice.
template <class Team>
__device__ float multinomial_row(const Team& team, float* s, int64_t n, const int32_t* targets, const float* weights,
                                 int64_t m, float scale) {
  float largest, total, weight = 0.0f, inner = 0.0f;
  softmax_sums(team, s, n, largest, total);
  for (int64_t e = team.rank(); e < m; e += team.size()) {
    const float w = weights != nullptr ? weights[e] : 1.0f;
    weight += w;
    inner += w * (s[targets[e]] - largest);
  }
  weight = team.sum(weight);
  inner = team.sum(inner);
  team.sync();  // all have read the targets' scores
  const float share = scale * weight / total;
  for (int64_t j = team.rank(); j < n; j += team.size()) s[j] = share * expf(s[j] - largest);
#pragma unroll 4
  for (int64_t e = 0; e < m; ++e) {
    const int32_t target = targets[e];
    if (target % team.size() == team.rank()) s[target] -= scale * (weights != nullptr ? weights[e] : 1.0f);
  }
  return weight * logf(total) - inner;
}

// The scores s (n), of which s[positive] is the target's; minus infinity stands for a candidate left out. Every member
// returns the loss, in every thread, and leaves factor dloss / ds in s.
template <class Team>
class ScoreRow {
 public:
  __device__ ScoreRow(const Team& team, float* s, int64_t n, int64_t positive, float factor)
      : team_(team), s_(s), n_(n), positive_(positive), target_(s[positive]), factor_(factor) {
    team_.sync();  // before anybody writes, all have the target
  }

  __device__ float loss(const ScoreLossOptions& options) const {
    switch (options.kind) {
      case ScoreLoss::kSoftmax:
        return softmax();
      case ScoreLoss::kBce:
        return bce(options.beta);
      case ScoreLoss::kBpr:
        return mean_pairs<true>();
      case ScoreLoss::kTop1:
        return mean_pairs<false>();
      case ScoreLoss::kBprMax:
        return weighted_pairs<true>(options.regularization);
      default:
        return weighted_pairs<false>(options.regularization);
    }
  }

  // One reading for the largest score and the sum of e^(s - largest so far), one for the derivatives.
  __device__ float softmax() const {
    float largest, total;
    softmax_sums(team_, s_, n_, largest, total);
    for (int64_t j = team_.rank(); j < n_; j += team_.size()) {
      s_[j] = factor_ * (expf(s_[j] - largest) / total - (j == positive_ ? 1.0f : 0.0f));
    }
    return logf(total) + (largest - target_);
  }

  __device__ float bce(float beta) const {
    float loss = 0.0f;
    for (int64_t j = team_.rank(); j < n_; j += team_.size()) {
      const float x = j == positive_ ? -s_[j] : s_[j], weight = j == positive_ ? beta : 1.0f;
      if (x > -INFINITY) loss += weight * softplus(x);
      s_[j] = factor_ * weight * (j == positive_ ? -Sigmoids(x).up : Sigmoids(x).up);
    }
    return team_.sum(loss);
  }

  // BPR and TOP1: the mean over the negatives.
  template <bool kBpr>
  __device__ float mean_pairs() const {
    float count = 0.0f, loss = 0.0f, slope = 0.0f;
    for_negatives([&](float) {
      count += 1.0f;
      return false;
    });
    const float share = 1.0f / fmaxf(1.0f, team_.sum(count));
    for_negatives([&](float& x) {
      const Sigmoids worse(x - target_), large(x * x);
      const float steep = worse.up * worse.down;
      loss += kBpr ? softplus(x - target_) : worse.up + large.up;
      slope += kBpr ? worse.up : steep;
      x = factor_ * share * (kBpr ? worse.up : steep + 2.0f * x * large.up * large.down);
      return true;
    });
    finish(-share * slope);
    return share * team_.sum(loss);
  }

  // BPR-max and TOP1-max: negatives weighted by w = softmax of their scores. w_j sigmoid(s_p - s_j) = (e^s_p / sum of
  // e^s) sigmoid(s_j - s_p), so BPR-max's sum is one of sigmoids, none of which underflows where another counts.
  template <bool kBpr>
  __device__ float weighted_pairs(float regularization) const {
    float top = -INFINITY;
    for_negatives([&](float x) {
      top = fmaxf(top, x);
      return false;
    });
    top = team_.maximum(top);
    if (top == -INFINITY) {
      finish(0.0f);
      return 0.0f;
    }
    float total = 0.0f, shares = 0.0f, squares = 0.0f, inner = 0.0f, slope = 0.0f;
    for_negatives([&](float x) {
      const float e = expf(x - top);
      total += e;
      squares += e * x * x;
      if (kBpr) shares += share_of(x, top);
      if (!kBpr) inner += e * (Sigmoids(x - target_).up + Sigmoids(x * x).up);
      return false;
    });
    total = team_.sum(total);
    squares = team_.sum(squares) / total;
    if (kBpr) shares = team_.sum(shares);
    if (!kBpr) inner = team_.sum(inner) / total;
    for_negatives([&](float& x) {
      const Sigmoids worse(x - target_), large(x * x);
      const float w = expf(x - top) / total;
      if (kBpr) {
        const float q = share_of(x, top) / shares;
        slope += q * worse.up;
        x = factor_ * (w - q * worse.down + regularization * w * (x * x - squares + 2.0f * x));
      } else {
        const float steep = worse.up * worse.down;
        slope += w * steep;
        x = factor_ * w * (worse.up + large.up - inner + steep + 2.0f * x * large.up * large.down);
      }
      return true;
    });
    finish(-slope);
    if (!kBpr) return inner;
    return logf(total) - logf(shares) + fmaxf(top - target_, 0.0f) + regularization * squares;
  }

 private:
  // use(x) for the thread's negatives, which says whether it changed x. What is left out becomes 0 with the last
  // change.
  template <class Use>
  __device__ __forceinline__ void for_negatives(Use&& use) const {
    for (int64_t j = team_.rank(); j < n_; j += team_.size()) {
      float x = s_[j];
      if (j == positive_ || x == -INFINITY) continue;
      if (use(x)) s_[j] = x;
    }
  }

  // sigmoid(x - target), times e^(target - top) where that is above 1.
  __device__ __forceinline__ float share_of(float x, float top) const {
    return target_ <= top ? Sigmoids(x - target_).up : expf(x - top) * Sigmoids(target_ - x).up;
  }

  // The target's derivative from every thread's part, and zeros for what is left out.
  __device__ __forceinline__ void finish(float slope) const {
    slope = team_.sum(slope);
    for (int64_t j = team_.rank(); j < n_; j += team_.size()) {
      if (j == positive_) s_[j] = factor_ * slope;
      if (s_[j] == -INFINITY) s_[j] = 0.0f;
    }
  }

  const Team& team_;
  float* s_;
  int64_t n_, positive_;
  float target_, factor_;
};

}  // namespace recsys_fast
