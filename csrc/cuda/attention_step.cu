// Attention for one more row of a sequence, from a cache of keys and values: a few small kernels, whose work grows with
// the row's place.
#include <cmath>

#include "cuda/norm_rows.h"
#include "cuda/reduce.h"
#include "ops/attention.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kSide = kThreads / kWarpSize;

// Where the columns of x w_qkv + b_qkv go: queries, and the row's own place in the caches.
struct CacheOut {
  float *query, *key, *value;
  int64_t d;
  __device__ void operator()(int64_t col, float x) const {
    if (col < d) {
      query[col] = x;
    } else if (col < 2 * d) {
      key[col - d] = x;
    } else {
      value[col - 2 * d] = x;
    }
  }
};

struct SumOut {
  float* y;
  const float* residual;
  __device__ void operator()(int64_t col, float x) const { y[col] = residual[col] + x; }
};

// out(column, x w + b) for one row; the first `n_first` columns come from x, the others from x_other. Block (32
// columns); a warp takes every 8th row of w, and the warps' sums are added in order. Null w is the identity.
template <class Out>
__global__ void __launch_bounds__(kThreads)
    row_product_kernel(Out out, const float* x, const float* x_other, int64_t n_first, const float* w, const float* b,
                       int64_t d, int64_t n) {
  RF_SHARED(float, sums, kThreads);
  const int64_t col = int64_t{blockIdx.x} * kWarpSize + Warp::lane();
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  float sum = 0.0f;
  if (col < n) {
    const float* from = col < n_first ? x : x_other;
    if (w == nullptr) {
      sum = warp == 0 ? from[col] : 0.0f;
    } else {
      for (int64_t k = warp; k < d; k += kSide) sum += from[k] * w[k * n + col];
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || col >= n) return;
  for (int v = 1; v < kSide; ++v) sum += static_cast<float>(sums[v * kWarpSize + Warp::lane()]);
  out(col, b == nullptr ? sum : sum + b[col]);
}

// scores (n_heads, n) = scale query . key; a warp each.
__global__ void __launch_bounds__(kThreads) step_scores_kernel(float* scores, const float* query, const float* keys,
                                                               int64_t n, int64_t n_heads, int64_t width, float scale) {
  const int64_t at = int64_t{blockIdx.x} * kSide + threadIdx.x / kWarpSize;
  if (at >= n * n_heads) return;
  const int64_t head = at / n, column = head * width;
  const float* key = keys + at % n * n_heads * width + column;
  float sum = 0.0f;
  for (int64_t k = Warp::lane(); k < width; k += kWarpSize) sum += query[column + k] * key[k];
  sum = Warp::sum(sum);
  if (Warp::lane() == 0) scores[at] = sum * scale;
}

// context (n_heads, width) = softmax(scores) values. Block (head, 32 columns).
__global__ void __launch_bounds__(kThreads)
    step_context_kernel(float* context, const float* scores, const float* values, int64_t n, int64_t n_heads,
                        int64_t width) {
  RF_SHARED(float, scratch, 32);
  RF_SHARED(float, sums, kThreads);
  const int64_t head = blockIdx.x, col = int64_t{blockIdx.y} * kWarpSize + Warp::lane(), d = n_heads * width;
  const float* own = scores + head * n;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  float most = -3e38f, total = 0.0f, sum = 0.0f;
  for (int64_t j = threadIdx.x; j < n; j += kThreads) most = fmaxf(most, own[j]);
  most = Block::maximum(most, scratch);
  for (int64_t j = threadIdx.x; j < n; j += kThreads) total += expf(own[j] - most);
  total = Block::sum(total, scratch);
  if (col < width) {
    for (int64_t j = warp; j < n; j += kSide) sum += expf(own[j] - most) * values[j * d + head * width + col];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || col >= width) return;
  for (int v = 1; v < kSide; ++v) sum += static_cast<float>(sums[v * kWarpSize + Warp::lane()]);
  context[head * width + col] = sum / total;
}

}  // namespace

template <>
void attention_block_step<Cuda>(const AttentionShape& s, const AttentionParameters<const float>& w, const float* x,
                                float* y, float* keys, float* values, int64_t place) {
  const int64_t d = s.d, width = d / s.n_heads, n = place + 1;
  const Stream stream = current_stream();
  DeviceBuffer<float> memory(4 * d + 2, stream), scores(n * s.n_heads, stream);
  float *normed = memory.data(), *query = normed + d, *context = query + d, *mid = context + d, *stats = mid + d;
  const bool post = s.norm == BlockNorm::kPost;
  const float *queries_from = x, *keys_from = x;
  if (s.norm == BlockNorm::kPre || s.norm == BlockNorm::kQuery) {
    norm_rows(normed, stats, x, 1, d, w.gamma, w.beta, s.eps, stream);
    queries_from = normed;
    if (s.norm == BlockNorm::kPre) keys_from = normed;
  }
  launch(row_product_kernel<CacheOut>, dim3(blocks_for(3 * d, kWarpSize)), dim3(kThreads), 0, stream,
         CacheOut{query, keys + place * d, values + place * d, d}, queries_from, keys_from, d, w.w_qkv, w.b_qkv, d,
         3 * d);
  launch(step_scores_kernel, dim3(blocks_for(n * s.n_heads, kSide)), dim3(kThreads), 0, stream, scores.data(),
         static_cast<const float*>(query), static_cast<const float*>(keys), n, s.n_heads, width,
         1.0f / std::sqrt(static_cast<float>(width)));
  launch(step_context_kernel, dim3(static_cast<unsigned>(s.n_heads), blocks_for(width, kWarpSize)), dim3(kThreads), 0,
         stream, context, static_cast<const float*>(scores.data()), static_cast<const float*>(values), n, s.n_heads,
         width);
  const float* residual = s.norm == BlockNorm::kQuery ? normed : x;
  launch(row_product_kernel<SumOut>, dim3(blocks_for(d, kWarpSize)), dim3(kThreads), 0, stream,
         SumOut{post ? mid : y, residual}, static_cast<const float*>(context), static_cast<const float*>(context), d,
         w.w_out, w.b_out, d, d);
  if (post) norm_rows(y, stats, mid, 1, d, w.gamma, w.beta, s.eps, stream);
}

}  // namespace recsys_fast
