#include "ops/attention.h"

#include "cpu/attention_block.h"

namespace recsys_fast {
namespace {

// The parameters with rows padded to whole vectors; those of queries apart where only these are normed.
struct Packed {
  BlockFrame frame;
  const float *w_queries, *b_queries, *w_qkv, *b_qkv, *w_out, *b_out;
  int64_t first;  // column that w_qkv begins with
};

Packed pack(const AttentionShape& s, const AttentionParameters<const float>& w) {
  const int64_t d = s.d, dp = padded(d), wide = padded(3 * d);
  Arena& arena = call_arena();
  arena.reset(sizeof(float) * (2 * d * dp + d * wide + 4 * dp + wide) + 16 * Arena::kAlign);
  Packed p{};
  p.frame = {
      s.norm, s.eps, d, padded_vector(arena, w.gamma, d), padded_vector(arena, w.beta, d), Dropout(s.masks.outer)};
  if (s.norm == BlockNorm::kQuery) {
    float* queries = arena.take<float>(d * dp);
    pack_rows(queries, w.w_qkv, 3 * d, d, d);
    p.w_queries = queries;
    p.b_queries = padded_vector(arena, w.b_qkv, d);
    p.first = d;
  }
  const int64_t columns = 3 * d - p.first;
  float* qkv = arena.take<float>(d * padded(columns));
  pack_rows(qkv, w.w_qkv + p.first, 3 * d, d, columns);
  p.w_qkv = qkv;
  p.b_qkv = padded_vector(arena, w.b_qkv == nullptr ? nullptr : w.b_qkv + p.first, columns);
  if (w.w_out != nullptr) {
    float* out = arena.take<float>(d * dp);
    pack_rows(out, w.w_out, d, d, d);
    p.w_out = out;
    p.b_out = padded_vector(arena, w.b_out, d);
  }
  return p;
}

// Sequences [first, last) through the whole block.
void forward_tile(const AttentionShape& s, const Heads& h, const Packed& w, const float* x, float* y,
                  const AttentionSaved<float>& saved, int64_t first, int64_t last) {
  const int64_t d = s.d, dp = padded(d), wide = padded(3 * d), row = s.row_ptr[first];
  const int64_t n = s.row_ptr[last] - row;
  if (n == 0) return;
  Arena& arena = thread_arena();
  arena.reset(sizeof(float) * (3 * tile_floats(n, dp) + tile_floats(n, wide) + head_scratch_floats(d)) +
              16 * Arena::kAlign);
  HeadRows t{};
  head_scratch(t, arena, d);
  t.qkv = arena.take<float>(tile_floats(n, wide));
  t.qkv_row = wide;
  t.context = arena.take<float>(tile_floats(n, dp));
  t.context_row = dp;
  t.lse = saved.lse;
  const ConstRowsAt input = input_rows(w.frame, arena, x, saved.stats, row, n);
  const bool apart = s.norm == BlockNorm::kQuery;
  if (apart) product({input.data, dp, 1, w.w_queries, dp, t.qkv, wide, n, d, d, w.b_queries});
  product({apart ? x + row * d : input.data, apart ? d : input.row, 1, w.w_qkv, padded(3 * d - w.first),
           t.qkv + w.first, wide, n, 3 * d - w.first, d, w.b_qkv});
  for_each_piece(
      s.row_ptr, first, last,
      [&](int64_t at, int64_t n_rows) { transpose_queries(t.queries, t.qkv + at * wide, wide, n_rows, d); },
      [&](const Piece& piece) { attend(h, t, piece); });
  copy_rows(saved.qkv + row * 3 * d, 3 * d, t.qkv, wide, n, 3 * d);
  copy_rows(saved.context + row * d, d, t.context, dp, n, d);
  float* out = t.context;
  if (w.w_out != nullptr) {
    out = arena.take<float>(tile_floats(n, dp));
    product({t.context, dp, 1, w.w_out, dp, out, dp, n, d, d, w.b_out});
  }
  add_residual(w.frame, y, saved.mid, saved.stats, out, x, input, row, n);
}

}  // namespace

template <>
void attention_block_forward<Cpu>(const AttentionShape& s, const AttentionParameters<const float>& parameters,
                                  const float* x, float* y, const AttentionSaved<float>& saved, int n_threads) {
  const Heads h = heads_of(s);
  const Packed w = pack(s, parameters);
  const int64_t n_tiles = count_tiles(s.n_rows);
  parallel_for(n_tiles, 1, n_threads, [&](int64_t tile, int64_t, int) {
    forward_tile(s, h, w, x, y, saved, cut_sequences(s.row_ptr, 0, s.n_sequences, n_tiles, tile),
                 cut_sequences(s.row_ptr, 0, s.n_sequences, n_tiles, tile + 1));
  });
}

template <>
void attention_block_step<Cpu>(const AttentionShape& s, const AttentionParameters<const float>& w, const float* x,
                               float* y, float* keys, float* values, int64_t place) {
  const int64_t d = s.d, width = d / s.n_heads, n = place + 1;
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  Arena& arena = thread_arena();
  arena.reset(sizeof(float) * (8 * padded(d) + padded(3 * d) + padded(n)) + 16 * Arena::kAlign);
  float* normed = arena.take<float>(padded(d));
  float* qkv = arena.take<float>(padded(3 * d));
  float* context = arena.take<float>(padded(d));
  float* sum = arena.take<float>(padded(d));
  float* scores = arena.take<float>(padded(n));
  const float* gamma = padded_vector(arena, w.gamma, d);
  const float* beta = padded_vector(arena, w.beta, d);
  const bool norm_first = s.norm == BlockNorm::kPre || s.norm == BlockNorm::kQuery;
  if (norm_first) apply_norm(normed, x, measure_row(x, d, s.eps), gamma, beta, d);
  const float* queries_from = norm_first ? normed : x;
  const float* keys_from = s.norm == BlockNorm::kPre ? normed : x;
  if (w.b_qkv != nullptr) {
    std::copy_n(w.b_qkv, 3 * d, qkv);
  } else {
    std::fill_n(qkv, 3 * d, 0.0f);
  }
  for (int64_t k = 0; k < d; ++k) {
    axpy(qkv, queries_from[k], w.w_qkv + k * 3 * d, d);
    axpy(qkv + d, keys_from[k], w.w_qkv + k * 3 * d + d, 2 * d);
  }
  std::copy_n(qkv + d, d, keys + place * d);
  std::copy_n(qkv + 2 * d, d, values + place * d);
  std::fill_n(context, d, 0.0f);
  for (int64_t head = 0; head < s.n_heads; ++head) {
    const int64_t column = head * width;
    float largest = -3e38f, total = 0.0f;
    for (int64_t j = 0; j < n; ++j) {
      scores[j] = dot(qkv + column, keys + j * d + column, width) * scale;
      largest = std::max(largest, scores[j]);
    }
    for (int64_t j = 0; j < n; j += kLanes) {
      const Vec p = keep_first(exp(load(scores + j) - largest), n - j);
      total += reduce_add(p);
      store(scores + j, p);
    }
    for (int64_t j = 0; j < n; ++j) axpy(context + column, scores[j] / total, values + j * d + column, width);
  }
  const float* from = s.norm == BlockNorm::kQuery ? normed : x;
  for (int64_t k = 0; k < d; ++k) sum[k] = from[k] + (w.w_out == nullptr ? context[k] : 0.0f);
  if (w.w_out != nullptr) {
    if (w.b_out != nullptr) axpy(sum, 1.0f, w.b_out, d);
    for (int64_t k = 0; k < d; ++k) axpy(sum, context[k], w.w_out + k * d, d);
  }
  if (s.norm == BlockNorm::kPost) {
    apply_norm(y, sum, measure_row(sum, d, s.eps), gamma, beta, d);
  } else {
    std::copy_n(sum, d, y);
  }
}

}  // namespace recsys_fast
