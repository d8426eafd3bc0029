// What the two forms of SLIM's coordinate descent share. Both run passes over all candidates, and between them passes
// over only those with a weight, until a pass over all changes no weight by more than the tolerance.
#pragma once

#include "cpu/cooccurrence.h"

namespace recsys_fast {

struct SlimTask {
  Csr t, x;
  const float* gram;  // x^T x, or null
  float l1, l2, tolerance;
  bool nonnegative;
  bool screened;  // x >= 0 and w >= 0: gradients only fall, and items that start at l1 or below keep weight 0
  int64_t n_passes;
  const float* norms;

  // soft(pull, l1) / (norm + l2)
  float weight(float pull, float norm) const {
    if (pull > l1) return (pull - l1) / (norm + l2);
    if (pull < -l1 && !nonnegative) return (pull + l1) / (norm + l2);
    return 0.0f;
  }
  bool calls(float gradient) const { return gradient > l1 || (!nonnegative && gradient < -l1); }
};

struct Candidate {
  int32_t item;
  float weight;
};

class SlimSolver {
 public:
  virtual ~SlimSolver() = default;
  // False when n_passes were not enough. candidates() then holds the weights so far.
  virtual bool solve(int32_t item) = 0;
  std::vector<Candidate>& candidates() { return candidates_; }

 protected:
  std::vector<Candidate> candidates_;
};

}  // namespace recsys_fast
