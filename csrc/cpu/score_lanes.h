// The losses of kLanes rows at once: a row per lane, a candidate per step, so that nothing is summed across lanes.
#pragma once

#include "core/simd.h"
#include "ops/losses.h"

namespace recsys_fast {

// Rows of kLanes lanes. A lane whose positive is negative has no loss and gradient 0.
struct ScoreLanes {
  int32_t positive[kLanes];   // which candidate is the target
  int32_t target_id[kLanes];  // its id, where ids are given
  float weight[kLanes], scale;
};

// s[j * stride + lane], j < n: scores, then scale * weight * d loss / d score. Minus infinity is a candidate that is
// left out, as is one with the target's id (ids (n) or null). Returns the sum of the weighted losses.
double score_lanes(float* s, int64_t stride, int64_t n, const ScoreLanes& rows, const int32_t* ids,
                   const ScoreLossOptions& options);

}  // namespace recsys_fast
