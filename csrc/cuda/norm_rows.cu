#include "cuda/norm_rows.h"

#include "cuda/column_sums.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128, kRowsPerBlock = kThreads / kWarpSize;

// The row of the caller's warp; warps behind the last row have none.
__device__ __forceinline__ int64_t warp_row() { return int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kWarpSize; }

// Stats of every row, where `measure` says, and y. A warp per row, whose numbers stay in L1 between the three passes.
__global__ void __launch_bounds__(kThreads)
    norm_rows_kernel(float* y, float* stats, const float* x, int64_t n, int64_t d, const float* gamma,
                     const float* beta, float eps, bool measure) {
  const int64_t row = warp_row();
  if (row >= n) return;
  const float* in = x + row * d;
  const int lane = Warp::lane();
  float mean, factor;
  if (measure) {
    float sum = 0.0f, square = 0.0f;
    for (int64_t k = lane; k < d; k += kWarpSize) sum += in[k];
    mean = Warp::sum(sum) / static_cast<float>(d);
    for (int64_t k = lane; k < d; k += kWarpSize) square += (in[k] - mean) * (in[k] - mean);
    factor = 1.0f / sqrtf(Warp::sum(square) / static_cast<float>(d) + eps);
    if (lane == 0) {
      stats[2 * row] = mean;
      stats[2 * row + 1] = factor;
    }
  } else {
    mean = stats[2 * row];
    factor = stats[2 * row + 1];
  }
  for (int64_t k = lane; k < d; k += kWarpSize) y[row * d + k] = gamma[k] * ((in[k] - mean) * factor) + beta[k];
}

// dx = factor (g - mean of g - unit mean of g unit) + add, g = dy gamma. A warp per row.
__global__ void __launch_bounds__(kThreads)
    norm_back_kernel(float* dx, const float* dy, const float* x, const float* stats, const float* gamma,
                     const float* add, int64_t n, int64_t d) {
  const int64_t row = warp_row();
  if (row >= n) return;
  const float mean = stats[2 * row], factor = stats[2 * row + 1], share = 1.0f / static_cast<float>(d);
  const int lane = Warp::lane();
  float plain = 0.0f, along = 0.0f;
  for (int64_t k = lane; k < d; k += kWarpSize) {
    const float part = dy[row * d + k] * gamma[k];
    plain += part;
    along += part * ((x[row * d + k] - mean) * factor);
  }
  const float offset = Warp::sum(plain) * share, slope = Warp::sum(along) * share;
  for (int64_t k = lane; k < d; k += kWarpSize) {
    const int64_t at = row * d + k;
    const float out = factor * (dy[at] * gamma[k] - offset - (x[at] - mean) * factor * slope);
    dx[at] = add == nullptr ? out : out + add[at];
  }
}

// What the gradients of gamma and beta are sums of.
struct NormTerms {
  const float *dy, *x, *stats;
  int64_t d;
  __device__ float2 operator()(int64_t row, int64_t col) const {
    const float gradient = dy[row * d + col];
    return make_float2(gradient * ((x[row * d + col] - stats[2 * row]) * stats[2 * row + 1]), gradient);
  }
};

}  // namespace

void norm_rows(float* y, float* stats, const float* x, int64_t n, int64_t d, const float* gamma, const float* beta,
               float eps, Stream stream) {
  if (n == 0) return;
  launch(norm_rows_kernel, dim3(blocks_for(n, kRowsPerBlock)), dim3(kThreads), 0, stream, y, stats, x, n, d, gamma,
         beta, eps, true);
}

void renorm_rows(float* y, const float* stats, const float* x, int64_t n, int64_t d, const float* gamma,
                 const float* beta, Stream stream) {
  if (n == 0) return;
  launch(norm_rows_kernel, dim3(blocks_for(n, kRowsPerBlock)), dim3(kThreads), 0, stream, y, const_cast<float*>(stats),
         x, n, d, gamma, beta, 0.0f, false);
}

void norm_rows_back(float* dx, float* dgamma, float* dbeta, const float* dy, const float* x, const float* stats,
                    const float* gamma, const float* add, int64_t n, int64_t d, Stream stream) {
  sum_columns(dgamma, dbeta, NormTerms{dy, x, stats, d}, n, d, stream);
  if (n == 0) return;
  launch(norm_back_kernel, dim3(blocks_for(n, kRowsPerBlock)), dim3(kThreads), 0, stream, dx, dy, x, stats, gamma, add,
         n, d);
}

}  // namespace recsys_fast
