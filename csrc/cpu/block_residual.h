// The frame around f of a network block, y = x + D(f(x)) with a layer norm where BlockNorm says: what attention and
// feed-forward do alike with a tile, n rows from `row` of the batch on. Scratch has rows padded(d) apart.
#pragma once

#include "core/dropout.h"
#include "cpu/block_tiles.h"
#include "cpu/norm_rows.h"
#include "ops/block.h"

namespace recsys_fast {

struct BlockFrame {
  BlockNorm norm;
  float eps;
  int64_t d;
  const float *gamma, *beta;  // padded(d), or null
  Dropout drop;               // D
  bool norm_first() const { return norm == BlockNorm::kPre || norm == BlockNorm::kQuery; }
};

// What f reads: x, or LN x in memory of the arena, with its statistics.
inline ConstRowsAt input_rows(const BlockFrame& f, Arena& arena, const float* x, float* stats, int64_t row, int64_t n) {
  const ConstRowsAt given{x + row * f.d, f.d};
  if (!f.norm_first()) return given;
  const RowsAt rows{arena.take<float>(tile_floats(n, padded(f.d))), padded(f.d)};
  norm_rows(rows, stats + 2 * row, given, f.gamma, f.beta, f.eps, n, f.d);
  return {rows.data, rows.row};
}

// The same once more, from the statistics.
inline ConstRowsAt input_rows_again(const BlockFrame& f, Arena& arena, const float* x, const float* stats, int64_t row,
                                    int64_t n) {
  const ConstRowsAt given{x + row * f.d, f.d};
  if (!f.norm_first()) return given;
  const RowsAt rows{arena.take<float>(tile_floats(n, padded(f.d))), padded(f.d)};
  renorm_rows(rows, stats + 2 * row, given, f.gamma, f.beta, n, f.d);
  return {rows.data, rows.row};
}

// y = x + D(out), or from LN x (`input`), and the norm behind it, made from mid. Spoils out.
inline void add_residual(const BlockFrame& f, float* y, float* mid, float* stats, float* out, const float* x,
                         ConstRowsAt input, int64_t row, int64_t n) {
  const int64_t d = f.d, dp = padded(d);
  const bool post = f.norm == BlockNorm::kPost;
  const ConstRowsAt residual = f.norm == BlockNorm::kQuery ? input : ConstRowsAt{x + row * d, d};
  for (int64_t i = 0; i < n; ++i) {
    float *part = out + i * dp, *to = (post ? mid : y) + (row + i) * d;
    const float* from = residual.data + i * residual.row;
    if (f.drop.active()) dropout_row(f.drop, part, row + i, d);
    for (int64_t k = 0; k < d; k += kLanes) store_up_to(to + k, load(part + k) + load_up_to(from + k, d - k), d - k);
  }
  if (post) norm_rows({y + row * d, d}, stats + 2 * row, {mid + row * d, d}, f.gamma, f.beta, f.eps, n, d);
}

// dsum = the gradient of the sum x + D(f), dout that of f's result; adds to dgamma and dbeta.
inline void residual_back(const BlockFrame& f, float* dsum, float* dout, const float* dy, const float* mid,
                          const float* stats, float* dgamma, float* dbeta, int64_t row, int64_t n) {
  const int64_t d = f.d, dp = padded(d);
  const bool post = f.norm == BlockNorm::kPost;
  if (post) {
    norm_rows_back({dsum, dp}, {dy + row * d, d}, {mid + row * d, d}, stats + 2 * row, f.gamma, dgamma, dbeta, {}, n,
                   d);
  }
  for (int64_t i = 0; i < n; ++i) {
    float *sum = dsum + i * dp, *out = dout + i * dp;
    const float* gradient = post ? sum : dy + (row + i) * d;
    for (int64_t k = 0; k < d; k += kLanes) {
      const Vec part = load_up_to(gradient + k, d - k);
      store(sum + k, part);
      store(out + k, part);
    }
    if (f.drop.active()) dropout_row(f.drop, out, row + i, d);
  }
}

// dx, from dsum and `back`, the gradient of what input_rows returned, which is spoilt; `direct` is that of x where f
// reads it beside LN x, or null. Adds to dgamma and dbeta.
inline void input_back(const BlockFrame& f, float* dx, float* back, const float* dsum, const float* direct,
                       const float* x, const float* stats, float* dgamma, float* dbeta, int64_t row, int64_t n) {
  const int64_t d = f.d, dp = padded(d);
  const bool query = f.norm == BlockNorm::kQuery;
  if (query || !f.norm_first()) {
    for (int64_t i = 0; i < n; ++i) {
      const float* sum = dsum + i * dp;
      float *part = back + i * dp, *to = query ? part : dx + (row + i) * d;
      for (int64_t k = 0; k < d; k += kLanes) store_up_to(to + k, load(part + k) + load(sum + k), d - k);
    }
  }
  if (!f.norm_first()) return;
  norm_rows_back({dx + row * d, d}, {back, dp}, {x + row * d, d}, stats + 2 * row, f.gamma, dgamma, dbeta,
                 {query ? direct : dsum, dp}, n, d);
}

}  // namespace recsys_fast
