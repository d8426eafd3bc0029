// What the passes of the attention block share: scratch of a tile, weights as products want them.
#pragma once

#include <cmath>

#include "cpu/attention_heads.h"
#include "cpu/block_residual.h"
#include "cpu/row_packing.h"
#include "ops/attention.h"

namespace recsys_fast {

inline Heads heads_of(const AttentionShape& s) {
  const int64_t width = s.d / s.n_heads;
  return {s.d, s.n_heads, width, s.causal, 1.0f / std::sqrt(static_cast<float>(width)), Dropout(s.masks.inner)};
}

// Floats that head_scratch takes.
inline int64_t head_scratch_floats(int64_t d) { return 2 * padded(d) * kWide + 2 * kKeys * kQueries + 4 * kLanes; }

inline void head_scratch(HeadRows& t, Arena& arena, int64_t d) {
  t.queries = arena.take<float>(padded(d) * kWide);
  t.gradients = arena.take<float>(padded(d) * kWide);
  t.scores = arena.take<float>(kKeys * kQueries);
  t.slopes = arena.take<float>(kKeys * kQueries);
}

}  // namespace recsys_fast
