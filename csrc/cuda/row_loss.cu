// A warp per row: scores of its candidates, four dot products at a time; the loss; and dh from the same rows of the
// table, which are in L1 or L2 by then. Where a row's scores and derivatives are is its row of coef.
#include "cuda/score_row.h"
#include "cuda/sum.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize;
constexpr int kAtOnce = 4;  // candidates on their way at a time, and columns of a lane

// The candidates of a row: its target, then its negatives.
struct Candidates {
  int32_t target;
  const int32_t* negatives;
  __device__ __forceinline__ int32_t operator[](int64_t c) const { return c == 0 ? target : negatives[c - 1]; }
};

// s[c] = score of candidate c, minus infinity for -1.
__device__ __forceinline__ void row_scores(const ScoreProblem& p, const float* log_q, const float* h,
                                           const Candidates& ids, int64_t n, float* s) {
  for (int64_t first = 0; first < n; first += kAtOnce) {
    int32_t id[kAtOnce];
    float sum[kAtOnce] = {};
#pragma unroll
    for (int m = 0; m < kAtOnce; ++m) id[m] = first + m < n ? ids[first + m] : -1;
    for (int64_t k = Warp::lane(); k < p.h.d; k += kWarpSize) {
      const float x = h[k];
#pragma unroll
      for (int m = 0; m < kAtOnce; ++m) sum[m] += id[m] >= 0 ? x * p.rows.row(id[m])[k] : 0.0f;
    }
#pragma unroll
    for (int m = 0; m < kAtOnce; ++m) {
      const float score = Warp::sum(sum[m]);
      if (Warp::lane() != m || first + m >= n) continue;
      s[first + m] =
          id[m] < 0 ? -INFINITY
                    : score + (p.bias != nullptr ? p.bias[id[m]] : 0.0f) - (log_q != nullptr ? log_q[id[m]] : 0.0f);
    }
  }
}

// out (d) = sum of coef[c] times the candidates' rows; overwrites.
__device__ __forceinline__ void row_gradient(const ScoreProblem& p, float* out, const float* coef,
                                             const Candidates& ids, int64_t n) {
  for (int64_t first = Warp::lane(); first - Warp::lane() < p.h.d; first += kAtOnce * kWarpSize) {
    float sum[kAtOnce] = {};
#pragma unroll 4
    for (int64_t c = 0; c < n; ++c) {
      const int32_t id = ids[c];
      const float factor = id >= 0 ? coef[c] : 0.0f;
      const float* row = p.rows.row(id >= 0 ? id : ids.target) + first;
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (first + k * kWarpSize < p.h.d) sum[k] += factor * row[k * kWarpSize];
      }
    }
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k * kWarpSize < p.h.d) out[first + k * kWarpSize] = sum[k];
    }
  }
}

// coef (T, width), p.dh and losses (T), overwritten.
__global__ void __launch_bounds__(kThreads)
    row_loss_kernel(ScoreProblem p, float* coef, double* losses, const int32_t* negatives, int64_t width,
                    const float* log_q, ScoreLossOptions options) {
  const int64_t t = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize, d = p.h.d;
  if (t >= p.h.n) return;
  float *s = coef + t * width, *dh = p.dh + t * d;
  const Candidates ids{p.targets[t], negatives + t * (width - 1)};
  if (ids.target < 0) {
    for (int64_t c = Warp::lane(); c < width; c += kWarpSize) s[c] = 0.0f;
    for (int64_t c = Warp::lane(); c < d; c += kWarpSize) dh[c] = 0.0f;
    if (Warp::lane() == 0) losses[t] = 0.0;
    return;
  }
  row_scores(p, log_q, p.h.row(t), ids, width, s);
  __syncwarp();  // each lane's scores are there for the others
  const float weight = p.weights != nullptr ? p.weights[t] : 1.0f;
  const WarpRow team;
  const float loss = ScoreRow<WarpRow>(team, s, width, 0, weight * p.scale).loss(options);
  if (Warp::lane() == 0) losses[t] = static_cast<double>(weight) * loss;
  __syncwarp();
  row_gradient(p, dh, s, ids, width);
}

// out (n) = scale weight l', losses[b] = sum of weight l over block b.
__global__ void __launch_bounds__(kThreads)
    regression_loss_kernel(float* out, double* losses, const float* prediction, const float* target,
                           const float* weights, int64_t n, PredictionLoss kind, float scale) {
  RF_SHARED(double, scratch, kWarpSize);
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  double loss = 0.0;
  if (t < n) {
    const float e = prediction[t] - target[t], size = fabsf(e), weight = weights != nullptr ? weights[t] : 1.0f;
    const bool smooth = kind == PredictionLoss::kSmooth, square = !smooth || size < 1.0f;
    float slope = square ? (smooth ? e : 2.0f * e) : (e > 0.0f ? 1.0f : -1.0f);
    loss = square ? 0.5 * static_cast<double>(slope) * e : size - 0.5;
    if (kind == PredictionLoss::kLogistic) {
      slope = Sigmoids(prediction[t]).up - target[t];
      loss = softplus(prediction[t]) - target[t] * prediction[t];
    }
    loss *= weight;
    out[t] = weight * scale * slope;
  }
  loss = Block::sum(loss, scratch);
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

}  // namespace

template <>
double row_loss<Cuda>(const ScoreProblem& p, float* coef, const int32_t* negatives, int64_t k, const float* log_q,
                      const ScoreLossOptions& options, int) {
  if (p.h.n == 0) return 0.0;
  const Stream stream = current_stream();
  DeviceBuffer<double> losses(p.h.n, stream);
  launch(row_loss_kernel, dim3(blocks_for(p.h.n, kWarps)), dim3(kThreads), 0, stream, p, coef, losses.data(), negatives,
         1 + k, log_q, options);
  return device_sum(losses.data(), p.h.n, stream);
}

template <>
double regression_loss<Cuda>(float* dprediction, const float* prediction, const float* target, const float* weights,
                             int64_t n, PredictionLoss kind, float scale, int) {
  if (n == 0) return 0.0;
  const Stream stream = current_stream();
  const unsigned blocks = blocks_for(n, kThreads);
  DeviceBuffer<double> losses(blocks, stream);
  launch(regression_loss_kernel, dim3(blocks), dim3(kThreads), 0, stream, dprediction, losses.data(), prediction,
         target, weights, n, kind, scale);
  return device_sum(losses.data(), blocks, stream);
}

}  // namespace recsys_fast
