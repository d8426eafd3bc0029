#include "cpu/score_lanes.h"

#include <cmath>
#include <limits>

#include "core/sigmoid.h"
#include "cpu/loss_tiles.h"

namespace recsys_fast {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// x where the mask is set, else 0.
RF_INLINE Vec only(VecInt mask, Vec x) { return mask ? x : Vec{}; }

struct Lanes {
  float* s;
  int64_t stride, n;
  VecInt positive;
  Vec target, factor;  // score of the target; scale * weight, 0 without a target

  RF_INLINE float* at(int64_t j) const { return s + j * stride; }
  // Lanes where candidate j is a negative.
  RF_INLINE VecInt live(int64_t j, Vec x) const {
    return (positive != static_cast<int32_t>(j)) & (x > broadcast(-kInfinity));
  }
  void set_target(Vec slope) const {
    const Vec out = slope * factor;
    for (int i = 0; i < kLanes; ++i) {
      if (positive[i] >= 0) s[positive[i] * stride + i] = out[i];
    }
  }
};

RF_INLINE Vec log_lanes(Vec x) {
  for (int i = 0; i < kLanes; ++i) x[i] = std::log(x[i]);
  return x;
}

Vec softmax(const Lanes& lanes) {
  Vec top = lanes.target, total = {};
  for (int64_t j = 0; j < lanes.n; ++j) top = max(load(lanes.at(j)), top);
  for (int64_t j = 0; j < lanes.n; ++j) {
    const Vec e = exp_shifted(load(lanes.at(j)) - top, broadcast(kRoundMagic));
    total += e;
    store(lanes.at(j), e);
  }
  total = max(broadcast(1.0f), total);  // the largest term is 1 but in lanes without a target, whose sum may be 0
  const Vec factor = lanes.factor / total;
  for (int64_t j = 0; j < lanes.n; ++j) store(lanes.at(j), load(lanes.at(j)) * factor);
  lanes.set_target((exp_shifted(lanes.target - top, broadcast(kRoundMagic)) - total) / total);
  return log_lanes(total) + (top - lanes.target);
}

Vec bce(const Lanes& lanes, float beta) {
  Vec loss = {};
  for (int64_t j = 0; j < lanes.n; ++j) {
    const Vec given = load(lanes.at(j));
    const VecInt live = lanes.live(j, given);
    const Vec x = only(live, given);
    loss += only(live, softplus(x));
    store(lanes.at(j), only(live, sigmoid(x) * lanes.factor));
  }
  lanes.set_target(-beta * sigmoid(-lanes.target));
  return loss + beta * softplus(-lanes.target);
}

template <bool Top1>
Vec mean_pairs(const Lanes& lanes) {
  Vec n = {}, loss = {}, slope = {};
  for (int64_t j = 0; j < lanes.n; ++j) n += only(lanes.live(j, load(lanes.at(j))), broadcast(1.0f));
  const Vec share = 1.0f / max(n, broadcast(1.0f)), factor = lanes.factor * share;
  for (int64_t j = 0; j < lanes.n; ++j) {
    const Vec given = load(lanes.at(j));
    const VecInt live = lanes.live(j, given);
    const Vec x = only(live, given), gap = x - lanes.target;
    if constexpr (Top1) {
      const Vec e = exp(-gap), worse = 1.0f / (1.0f + e), steep = e * worse * worse;
      const Vec t = exp(-x * x), large = 1.0f / (1.0f + t);
      loss += only(live, worse + large);
      slope += only(live, steep);
      store(lanes.at(j), only(live, (steep + 2.0f * x * t * large * large) * factor));
    } else {
      const Vec worse = sigmoid(gap);
      loss += only(live, softplus(gap));
      slope += only(live, worse);
      store(lanes.at(j), only(live, worse * factor));
    }
  }
  lanes.set_target(-slope * share);
  return loss * share;
}

// With e_j = e^(s_j - top): sigmoid(s_j - s_p) = e_j b / (a + e_j b) and its complement a / (a + e_j b), where (a, b)
// is (e^(s_p - top), 1) or, for a target above all others, (1, e^(top - s_p)): neither overflows. Where e^(s_p - top)
// does not fit a float ("wide"), the sigmoid costs an exponential of its own. Means are taken of y = s - top, and of
// what the sigmoids lack to 1: large scores would cancel.
template <bool Top1>
Vec weighted_pairs(const Lanes& lanes, float regularization) {
  const Vec lowest = broadcast(-kInfinity);
  Vec top = lowest;
  for (int64_t j = 0; j < lanes.n; ++j) {
    const Vec x = load(lanes.at(j));
    top = max(lanes.live(j, x) ? x : lowest, top);
  }
  const VecInt any = top > lowest;
  top = any ? top : lanes.target;
  const VecInt above = lanes.target > top;
  const Vec gap = lanes.target - top, e_gap = exp(above ? -gap : gap);
  const Vec a = above ? broadcast(1.0f) : e_gap, b = above ? e_gap : broadcast(1.0f);
  const bool wide = mask_ge(broadcast(-80.0f), gap) != 0;
  const auto share_of = [&](Vec y, Vec e, Vec inverse) __attribute__((always_inline)) {
    return wide ? (above ? e * inverse : sigmoid(y - gap)) : e * inverse;
  };
  const auto better_of = [&](Vec y, Vec inverse) __attribute__((always_inline)) {
    return wide ? (above ? a * inverse : sigmoid(gap - y)) : a * inverse;
  };
  Vec total = {}, shares = {}, squares = {}, mean = {};
  for (int64_t j = 0; j < lanes.n; ++j) {
    const Vec x = load(lanes.at(j));
    const VecInt live = lanes.live(j, x);
    const Vec y = only(live, x - top), e = only(live, exp_shifted(y, broadcast(kRoundMagic)));
    const Vec inverse = 1.0f / (a + e * b);
    total += e;
    if constexpr (Top1) {
      const Vec t = exp(-(y + top) * (y + top));
      mean += e * (better_of(y, inverse) + t / (1.0f + t));
    } else {
      shares += only(live, share_of(y, e, inverse));
      mean += e * y;
      squares += e * y * y;
    }
  }
  total = any ? total : broadcast(1.0f);
  shares = any ? shares : broadcast(1.0f);
  const Vec by_total = 1.0f / total, by_shares = 1.0f / shares;
  squares *= by_total;
  mean *= by_total;
  Vec slope = {};
  for (int64_t j = 0; j < lanes.n; ++j) {
    const Vec x = load(lanes.at(j));
    const VecInt live = lanes.live(j, x);
    const Vec y = only(live, x - top), e = only(live, exp_shifted(y, broadcast(kRoundMagic)));
    const Vec inverse = 1.0f / (a + e * b), w = e * by_total, score = y + top;
    Vec out;
    if constexpr (Top1) {
      const Vec better = better_of(y, inverse), steep = e * b * inverse * better;
      const Vec t = exp(-score * score), small = t / (1.0f + t);
      out = w * (mean - better - small + steep + 2.0f * score * small / (1.0f + t));
      slope -= w * steep;
    } else {
      const Vec share = share_of(y, e, inverse), q = only(live, share * by_shares);
      const Vec spread = 2.0f * top * (y - mean) + (y * y - squares);  // score^2 - its mean
      out = w - q * better_of(y, inverse) + regularization * w * (spread + 2.0f * score);
      slope -= q * (above ? share * b : share);
    }
    store(lanes.at(j), only(live, out * lanes.factor));
  }
  lanes.set_target(slope);
  if constexpr (Top1) return only(any, 2.0f - mean);
  const Vec square = top * top + 2.0f * top * mean + squares;
  return only(any, log_lanes(total) - log_lanes(shares) + (above ? Vec{} : -gap) + regularization * square);
}

}  // namespace

double score_lanes(float* s, int64_t stride, int64_t n, const ScoreLanes& rows, const int32_t* ids,
                   const ScoreLossOptions& options) {
  Lanes lanes{s, stride, n, load(rows.positive), {}, {}};
  for (int i = 0; i < kLanes; ++i) {
    const bool has = rows.positive[i] >= 0;
    lanes.target[i] = has ? s[rows.positive[i] * stride + i] : 0.0f;
    lanes.factor[i] = has ? rows.weight[i] * rows.scale : 0.0f;
  }
  if (ids != nullptr) {
    const VecInt wanted = load(rows.target_id);
    for (int64_t j = 0; j < n; ++j) {
      const VecInt out = (wanted == ids[j]) & (lanes.positive != static_cast<int32_t>(j));
      store(lanes.at(j), out ? broadcast(-kInfinity) : load(lanes.at(j)));
    }
  }
  Vec loss = {};
  switch (options.kind) {
    case ScoreLoss::kSoftmax:
      loss = softmax(lanes);
      break;
    case ScoreLoss::kBce:
      loss = bce(lanes, options.beta);
      break;
    case ScoreLoss::kBpr:
      loss = mean_pairs<false>(lanes);
      break;
    case ScoreLoss::kTop1:
      loss = mean_pairs<true>(lanes);
      break;
    case ScoreLoss::kBprMax:
      loss = weighted_pairs<false>(lanes, options.regularization);
      break;
    case ScoreLoss::kTop1Max:
      loss = weighted_pairs<true>(lanes, options.regularization);
      break;
  }
  double sum = 0.0;
  for (int i = 0; i < kLanes; ++i) {
    if (rows.positive[i] >= 0) sum += static_cast<double>(rows.weight[i]) * loss[i];
  }
  return sum;
}

}  // namespace recsys_fast
