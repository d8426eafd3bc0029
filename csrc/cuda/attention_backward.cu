// Attention backward, without atomics: one kernel has 64 queries per block and meets all keys, the other has 64 keys
// and meets all queries; both make the probabilities again from the saved logarithms of their sums.
#include "cuda/attention_tiles.h"
#include "cuda/block_frame.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128;

// delta (n_rows, n_heads) = dcontext . context by heads; a warp each.
__global__ void __launch_bounds__(kThreads)
    attention_delta_kernel(float* delta, const float* dcontext, const float* context, int64_t n, int64_t width) {
  const int64_t at = int64_t{blockIdx.x} * (kThreads / kWarpSize) + threadIdx.x / kWarpSize;
  if (at >= n) return;
  float sum = 0.0f;
  for (int64_t k = Warp::lane(); k < width; k += kWarpSize) sum += dcontext[at * width + k] * context[at * width + k];
  sum = Warp::sum(sum);
  if (Warp::lane() == 0) delta[at] = sum;
}

// What both kernels read, and what they write. With P = exp(scale s - lse), the gradients of the products q k^T are
// scale P (mask dP - delta).
struct AttentionBack {
  const float *qkv, *dcontext, *lse, *delta;
  float* dqkv;

  __device__ __forceinline__ float probability(const Heads& h, float score, float lse_of) const {
    return expf(score * h.scale - lse_of);
  }
};

// dqkv's columns of queries. Block (tile of queries, head, columns of the head).
__global__ void __launch_bounds__(kGemmThreads) attention_queries_kernel(AttentionBack pass, Heads h) {
  RF_SHARED(float, panels, kGemmPanels);
  RF_SHARED(float, kept, kGemmTile* kGemmStride);
  RF_SHARED(float, terms, 2 * kGemmTile);  // lse and delta of the queries
  const SequenceTile tile(h);
  if (tile.first >= tile.n) return;
  const GemmPlace place;
  const int64_t head = blockIdx.y, chunk = int64_t{blockIdx.z} * kGemmTile, stride = 3 * h.d;
  const int64_t row = tile.row + tile.first;
  const int n_queries = min(kGemmTile, tile.n - tile.first);
  const int n_keys = h.causal ? min(tile.n, tile.first + kGemmTile) : tile.n;
  const float* rows = pass.qkv + tile.row * stride + head * h.width;
  const AlongDepth queries{rows + tile.first * stride, stride}, keys{rows + h.d, stride};
  const AlongDepth values{rows + 2 * h.d, stride}, gradients{pass.dcontext + row * h.d + head * h.width, h.d};
  const AcrossDepth key_columns{rows + h.d, stride};
  if (threadIdx.x < kGemmTile) {
    const int query = static_cast<int>(threadIdx.x);
    const int64_t at = (row + query) * h.n_heads + head;
    terms[query] = query < n_queries ? pass.lse[at] : 0.0f;
    terms[kGemmTile + query] = query < n_queries ? pass.delta[at] : 0.0f;
  }
  float out[8][4] = {};
#pragma unroll 1
  for (int key = 0; key < n_keys; key += kGemmTile) {
    float scores[8][4] = {}, slopes[8][4] = {};
    gemm_tile(scores, panels, queries, 0, n_queries, keys, key, n_keys, 0, h.width);
    gemm_tile(slopes, panels, gradients, 0, n_queries, values, key, n_keys, 0, h.width);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int query = place.row + i;
      const float lse = terms[query], delta = terms[kGemmTile + query];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int to = key + place.col + j;
        const bool seen = query < n_queries && h.sees(tile.first + query, to, n_keys);
        const float p = seen ? pass.probability(h, scores[i][j], lse) : 0.0f;
        scores[i][j] =
            p * h.scale *
            (h.mask(static_cast<uint32_t>(row) + query, static_cast<uint32_t>(head), to) * slopes[i][j] - delta);
      }
    }
    keep_transposed(kept, scores);
    gemm_kept(out, kept, panels, key_columns, chunk, h.width, key, min(n_keys, key + kGemmTile));
  }
  float* to = pass.dqkv + row * stride + head * h.width;
  gemm_write(out, panels, 0, n_queries, chunk, h.width,
             [&](int64_t r, int64_t c, float value) { to[r * stride + c] = value; });
}

// dqkv's columns of keys and values. Block (tile of keys, head, columns of the head).
__global__ void __launch_bounds__(kGemmThreads) attention_keys_kernel(AttentionBack pass, Heads h) {
  RF_SHARED(float, panels, kGemmPanels);
  RF_SHARED(float, kept, kGemmTile* kGemmStride);
  const SequenceTile tile(h);
  if (tile.first >= tile.n) return;
  const GemmPlace place;
  const int64_t head = blockIdx.y, chunk = int64_t{blockIdx.z} * kGemmTile, stride = 3 * h.d;
  const int n_keys = min(kGemmTile, tile.n - tile.first), n = tile.n;
  const float* rows = pass.qkv + tile.row * stride + head * h.width;
  const float* gradient_rows = pass.dcontext + tile.row * h.d + head * h.width;
  const AlongDepth keys{rows + tile.first * stride + h.d, stride}, values{rows + tile.first * stride + 2 * h.d, stride};
  const AlongDepth queries{rows, stride}, gradients{gradient_rows, h.d};
  const AcrossDepth query_columns{rows, stride}, gradient_columns{gradient_rows, h.d};
  float dkeys[8][4] = {}, dvalues[8][4] = {};
#pragma unroll 1
  for (int query = h.causal ? tile.first : 0; query < n; query += kGemmTile) {
    float scores[8][4] = {}, slopes[8][4] = {};
    gemm_tile(scores, panels, keys, 0, n_keys, queries, query, n, 0, h.width);
    gemm_tile(slopes, panels, values, 0, n_keys, gradients, query, n, 0, h.width);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int from = query + place.col + j;
      const int64_t at = (tile.row + from) * h.n_heads + head;
      const bool there = from < n;
      const float lse = there ? pass.lse[at] : 0.0f, delta = there ? pass.delta[at] : 0.0f;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int to = tile.first + place.row + i;
        const bool seen = there && h.sees(from, to, n);
        const float p = seen ? pass.probability(h, scores[i][j], lse) : 0.0f;
        const float mask = h.mask(static_cast<uint32_t>(tile.row) + from, static_cast<uint32_t>(head), to);
        scores[i][j] = p * mask;
        slopes[i][j] = p * h.scale * (mask * slopes[i][j] - delta);
      }
    }
    const int end = min(n, query + kGemmTile);
    keep_transposed(kept, scores);
    gemm_kept(dvalues, kept, panels, gradient_columns, chunk, h.width, query, end);
    __syncthreads();
    keep_transposed(kept, slopes);
    gemm_kept(dkeys, kept, panels, query_columns, chunk, h.width, query, end);
  }
  float* to = pass.dqkv + (tile.row + tile.first) * stride + head * h.width;
  gemm_write(dkeys, panels, 0, n_keys, chunk, h.width,
             [&](int64_t r, int64_t c, float value) { to[r * stride + h.d + c] = value; });
  gemm_write(dvalues, panels, 0, n_keys, chunk, h.width,
             [&](int64_t r, int64_t c, float value) { to[r * stride + 2 * h.d + c] = value; });
}

}  // namespace

template <>
void attention_block_backward<Cuda>(const AttentionShape& s, const AttentionParameters<const float>& w, const float* x,
                                    const AttentionSaved<const float>& saved, const float* dy, float* dx,
                                    const AttentionParameters<float>& gradients, int) {
  const int64_t n = s.n_rows, d = s.d, wide = 3 * d;
  const BlockFrame f{s.norm, s.eps, n, d, w.gamma, w.beta, Dropout(s.masks.outer), current_stream()};
  const ResidualGradients to(f, dy, saved.mid, saved.stats, gradients.gamma, gradients.beta);
  DeviceBuffer<float> dcontext, delta(n * s.n_heads, f.stream), dqkv(n * wide, f.stream), normed;
  const float* dcontext_rows = to.out;
  if (w.w_out != nullptr) {
    dcontext = DeviceBuffer<float>(n * d, f.stream);
    gemm_over_rows(gradients.w_out, d, gradients.b_out, AcrossDepth{saved.context, d}, AcrossDepth{to.out, d}, d, d, n,
                   f.stream);
    gemm(AlongDepth{to.out, d}, AlongDepth{w.w_out, d}, BiasOut{dcontext.data(), d, nullptr}, n, d, d, f.stream);
    dcontext_rows = dcontext.data();
  }
  if (n > 0) {
    const Heads h(s);
    const AttentionBack pass{saved.qkv, dcontext_rows, saved.lse, delta.data(), dqkv.data()};
    launch(attention_delta_kernel, dim3(blocks_for(n * s.n_heads, kThreads / kWarpSize)), dim3(kThreads), 0, f.stream,
           delta.data(), dcontext_rows, saved.context, n * s.n_heads, h.width);
    launch(attention_queries_kernel, h.grid(), dim3(kGemmThreads), 0, f.stream, pass, h);
    launch(attention_keys_kernel, h.grid(), dim3(kGemmThreads), 0, f.stream, pass, h);
  }
  const float* input = f.input_again(normed, x, saved.stats);
  const bool apart = s.norm == BlockNorm::kQuery;
  const int64_t n_normed = apart ? d : wide;  // columns of qkv that were made of `input`
  const float* grad = dqkv.data();
  DeviceBuffer<float> back(n * d, f.stream), keys_back(apart ? n * d : 0, f.stream);
  gemm_over_rows(gradients.w_qkv, wide, gradients.b_qkv, AcrossDepth{input, d}, AcrossDepth{grad, wide}, d, n_normed, n,
                 f.stream);
  gemm(AlongDepth{grad, wide}, AlongDepth{w.w_qkv, wide}, BiasOut{back.data(), d, nullptr}, n, d, n_normed, f.stream);
  if (apart) {
    gemm_over_rows(gradients.w_qkv + d, wide, gradients.b_qkv == nullptr ? nullptr : gradients.b_qkv + d,
                   AcrossDepth{x, d}, AcrossDepth{grad + d, wide}, d, 2 * d, n, f.stream);
    gemm(AlongDepth{grad + d, wide}, AlongDepth{w.w_qkv + d, wide}, BiasOut{keys_back.data(), d, nullptr}, n, d, 2 * d,
         f.stream);
  }
  input_back(f, dx, back.data(), to.sum, keys_back.data(), x, saved.stats, gradients.gamma, gradients.beta);
}

}  // namespace recsys_fast
