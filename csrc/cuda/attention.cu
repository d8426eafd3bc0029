// Attention forward: a block has 64 queries of one head and meets 64 keys of their sequence at a time (online softmax:
// Milakov, Gimelshein 2018; Dao et al. 2022). Heads wider than 64 columns are shared by several blocks, each of which
// makes the scores again.
#include "ops/attention.h"

#include "cuda/attention_tiles.h"
#include "cuda/block_frame.h"

namespace recsys_fast {
namespace {

__global__ void __launch_bounds__(kGemmThreads)
    attention_kernel(float* context, float* lse, const float* qkv, Heads h) {
  RF_SHARED(float, panels, kGemmPanels);
  RF_SHARED(float, kept, kGemmTile* kGemmStride);
  const SequenceTile tile(h);
  if (tile.first >= tile.n) return;
  const GemmPlace place;
  const int64_t head = blockIdx.y, chunk = int64_t{blockIdx.z} * kGemmTile, stride = 3 * h.d;
  const int n_queries = min(kGemmTile, tile.n - tile.first);
  const int n_keys = h.causal ? min(tile.n, tile.first + kGemmTile) : tile.n;
  const float* rows = qkv + tile.row * stride + head * h.width;
  const AlongDepth queries{rows + tile.first * stride, stride}, keys{rows + h.d, stride};
  const AcrossDepth values{rows + 2 * h.d, stride};
  float out[8][4] = {}, largest[8], total[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    largest[i] = -3e38f;
    total[i] = 0.0f;
  }
#pragma unroll 1
  for (int key = 0; key < n_keys; key += kGemmTile) {
    float scores[8][4] = {};
    gemm_tile(scores, panels, queries, 0, n_queries, keys, key, n_keys, 0, h.width);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int query = tile.first + place.row + i;
      float most = largest[i];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (h.sees(query, key + place.col + j, n_keys)) most = fmaxf(most, scores[i][j]);
      }
      most = Warp::reduce(most, Max(), 16);
      const float ratio = expf((largest[i] - most) * h.scale), shift = most * h.scale;
      total[i] *= ratio;
      largest[i] = most;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = key + place.col + j;
        const float p = h.sees(query, at, n_keys) ? expf(scores[i][j] * h.scale - shift) : 0.0f;
        total[i] += p;
        scores[i][j] = p * h.mask(static_cast<uint32_t>(tile.row) + query, static_cast<uint32_t>(head), at);
        out[i][j] *= ratio;
      }
    }
    keep_transposed(kept, scores);
    gemm_kept(out, kept, panels, values, chunk, h.width, key, min(n_keys, key + kGemmTile));
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    total[i] = Warp::reduce(total[i], Sum(), 16);
#pragma unroll
    for (int j = 0; j < 4; ++j) out[i][j] /= total[i];
    if (chunk == 0 && place.col == 0 && place.row + i < n_queries) {
      lse[(tile.row + tile.first + place.row + i) * h.n_heads + head] = largest[i] * h.scale + logf(total[i]);
    }
  }
  float* to = context + (tile.row + tile.first) * h.d + head * h.width;
  gemm_write(out, panels, 0, n_queries, chunk, h.width,
             [&](int64_t row, int64_t col, float value) { to[row * h.d + col] = value; });
}

constexpr int kThreads = 256;

// What a product would end in, of numbers that are there already.
__global__ void __launch_bounds__(kThreads) residual_kernel(ResidualOut out, const float* in, int64_t size, int64_t d) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < size) out(at / d, at % d, in[at]);
}

}  // namespace

template <>
void attention_block_forward<Cuda>(const AttentionShape& s, const AttentionParameters<const float>& w, const float* x,
                                   float* y, const AttentionSaved<float>& saved, int) {
  if (s.n_rows == 0) return;
  const int64_t n = s.n_rows, d = s.d;
  const BlockFrame f{s.norm, s.eps, n, d, w.gamma, w.beta, Dropout(s.masks.outer), current_stream()};
  DeviceBuffer<float> normed;
  const float* input = f.input(normed, x, saved.stats);
  const int64_t n_normed = s.norm == BlockNorm::kQuery ? d : 3 * d;  // columns of qkv that are made of `input`
  gemm(AlongDepth{input, d}, AcrossDepth{w.w_qkv, 3 * d}, BiasOut{saved.qkv, 3 * d, w.b_qkv}, n, n_normed, d, f.stream);
  if (n_normed < 3 * d) {
    gemm(AlongDepth{x, d}, AcrossDepth{w.w_qkv + d, 3 * d},
         BiasOut{saved.qkv + d, 3 * d, w.b_qkv == nullptr ? nullptr : w.b_qkv + d}, n, 2 * d, d, f.stream);
  }
  const Heads h(s);
  launch(attention_kernel, h.grid(), dim3(kGemmThreads), 0, f.stream, saved.context, saved.lse,
         static_cast<const float*>(saved.qkv), h);
  const ResidualOut out = f.residual(y, saved.mid, x, input, w.b_out);
  if (w.w_out != nullptr) {
    gemm(AlongDepth{saved.context, d}, AcrossDepth{w.w_out, d}, out, n, d, d, f.stream);
  } else {
    launch(residual_kernel, dim3(blocks_for(n * d, kThreads)), dim3(kThreads), 0, f.stream, out,
           static_cast<const float*>(saved.context), n * d, d);
  }
  f.finish(y, saved.mid, saved.stats);
}

}  // namespace recsys_fast
