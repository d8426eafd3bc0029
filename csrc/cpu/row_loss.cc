#include <algorithm>
#include <cmath>
#include <limits>

#include "core/arena.h"
#include "core/simd.h"
#include "core/thread_pool.h"
#include "cpu/score_lanes.h"
#include "ops/losses.h"

namespace recsys_fast {
namespace {

constexpr int64_t kAhead = 8;  // rows of the table asked for before they are needed

// The candidates of row t: its target, then its negatives.
struct Candidates {
  int32_t target;
  const int32_t* negatives;
  int64_t n;
  int32_t operator[](int64_t c) const { return c == 0 ? target : negatives[c - 1]; }
};

void prefetch_row(const ScoreProblem& p, const Candidates& ids, int64_t c) {
  if (c < ids.n && ids[c] >= 0) prefetch(p.rows.row(ids[c]), p.rows.d * static_cast<int64_t>(sizeof(float)));
}

// s[c * kLanes] = score of candidate c, eight at a time.
void row_scores(const ScoreProblem& p, const float* log_q, const float* h, const Candidates& ids, float* s) {
  const int64_t d = p.rows.d;
  for (int64_t c = 0; c < std::min(kAhead, ids.n); ++c) prefetch_row(p, ids, c);
  for (int64_t c = 0; c < ids.n; c += 8) {
    const int64_t m = std::min<int64_t>(8, ids.n - c);
    Vec lanes[8] = {};
    for (int64_t i = 0; i < m; ++i) {
      prefetch_row(p, ids, c + i + kAhead);
      if (ids[c + i] >= 0) lanes[i] = dot_lanes(h, p.rows.row(ids[c + i]), d);
    }
    float sums[8];
    if (m > 2) {
      reduce_add8(lanes, sums);
    } else {
      for (int64_t i = 0; i < m; ++i) sums[i] = reduce_add(lanes[i]);
    }
    for (int64_t i = 0; i < m; ++i) {
      const int32_t id = ids[c + i];
      float score = -std::numeric_limits<float>::infinity();
      if (id >= 0) score = sums[i] + (p.bias != nullptr ? p.bias[id] : 0.0f) - (log_q != nullptr ? log_q[id] : 0.0f);
      s[(c + i) * kLanes] = score;
    }
  }
}

// out = sum of coef[c] times the candidates' rows: kTerms rows at once, so that out is loaded and stored less often.
void row_gradient(const ScoreProblem& p, float* out, const float* coef, const Candidates& ids) {
  constexpr int kTerms = 4;
  const int64_t d = p.rows.d;
  std::fill_n(out, d, 0.0f);
  for (int64_t c = 0; c < ids.n; c += kTerms) {
    const float* row[kTerms];
    float factor[kTerms];
    for (int i = 0; i < kTerms; ++i) {
      prefetch_row(p, ids, c + i + kAhead);
      const int32_t id = c + i < ids.n ? ids[c + i] : -1;
      row[i] = p.rows.row(id >= 0 ? id : ids.target);
      factor[i] = id >= 0 ? coef[c + i] : 0.0f;
    }
    if (ids.n - c <= 2) {
      axpy(out, factor[0], row[0], d);
      if (ids.n - c == 2) axpy(out, factor[1], row[1], d);
      continue;
    }
    int64_t k = 0;
    for (; k + kLanes <= d; k += kLanes) {
      Vec sum = load(out + k);
      for (int i = 0; i < kTerms; ++i) sum += factor[i] * load(row[i] + k);
      store(out + k, sum);
    }
    for (; k < d; ++k) {
      for (int i = 0; i < kTerms; ++i) out[k] += factor[i] * row[i][k];
    }
  }
}

}  // namespace

template <>
double row_loss<Cpu>(const ScoreProblem& p, float* coef, const int32_t* negatives, int64_t k, const float* log_q,
                     const ScoreLossOptions& options, int n_threads) {
  const int64_t width = 1 + k, n_groups = (p.h.n + kLanes - 1) / kLanes, d = p.h.d;
  thread_local Arena losses_arena;
  losses_arena.reset(Arena::padded<double>(n_groups));
  double* losses = losses_arena.take<double>(n_groups);
  const int64_t grain = std::clamp<int64_t>(512 / width, 1, 16);
  parallel_for(n_groups, grain, n_threads, [&](int64_t begin, int64_t end, int) {
    Arena& arena = thread_arena();
    arena.reset(Arena::padded<float>(width * kLanes));
    float* s = arena.take<float>(width * kLanes);
    for (int64_t group = begin; group < end; ++group) {
      ScoreLanes rows;
      rows.scale = p.scale;
      const int64_t first = group * kLanes, n = std::min<int64_t>(kLanes, p.h.n - first);
      for (int64_t i = 0; i < kLanes; ++i) {
        const int32_t target = i < n ? p.targets[first + i] : -1;
        rows.positive[i] = target >= 0 ? 0 : -1;
        rows.weight[i] = target >= 0 && p.weights != nullptr ? p.weights[first + i] : 1.0f;
        if (target >= 0) {
          row_scores(p, log_q, p.h.row(first + i), {target, negatives + (first + i) * k, width}, s + i);
        } else {
          for (int64_t c = 0; c < width; ++c) s[c * kLanes + i] = 0.0f;
        }
      }
      losses[group] = score_lanes(s, kLanes, width, rows, nullptr, options);
      for (int64_t i = 0; i < n; ++i) {
        float *out = coef + (first + i) * width, *dh = p.dh + (first + i) * d;
        const int32_t target = p.targets[first + i];
        for (int64_t c = 0; c < width; ++c) out[c] = target >= 0 ? s[c * kLanes + i] : 0.0f;
        if (target >= 0) {
          row_gradient(p, dh, out, {target, negatives + (first + i) * k, width});
        } else {
          std::fill_n(dh, d, 0.0f);
        }
      }
    }
  });
  double loss = 0.0;
  for (int64_t group = 0; group < n_groups; ++group) loss += losses[group];
  return loss;
}

template <>
double regression_loss<Cpu>(float* dprediction, const float* prediction, const float* target, const float* weights,
                            int64_t n, PredictionLoss kind, float scale, int) {
  const bool smooth = kind == PredictionLoss::kSmooth;
  double loss = 0.0;  // a chain of additions, but a step has few predictions
  for (int64_t t = 0; t < n; ++t) {
    const float e = prediction[t] - target[t], size = e < 0.0f ? -e : e;
    const float weight = weights != nullptr ? weights[t] : 1.0f;
    if (kind == PredictionLoss::kLogistic) {
      const float x = prediction[t], small = std::exp(x < 0.0f ? x : -x), most = 1.0f / (1.0f + small);
      loss += static_cast<double>(weight) * ((x < 0.0f ? 0.0f : x) + std::log1p(small) - target[t] * x);
      dprediction[t] = weight * scale * ((x < 0.0f ? small * most : most) - target[t]);
      continue;
    }
    const bool square = !smooth || size < 1.0f;
    const float slope = square ? (smooth ? e : 2.0f * e) : (e > 0.0f ? 1.0f : -1.0f);
    loss += static_cast<double>(weight) * (square ? 0.5 * static_cast<double>(slope) * e : size - 0.5);
    dprediction[t] = weight * scale * slope;
  }
  return loss;
}

}  // namespace recsys_fast
