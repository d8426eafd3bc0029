// What the two forms of SLIM's coordinate descent share. Both run passes over all candidates, and between them passes
// over only those with a weight, until a pass over all changes no weight by more than the tolerance.
#pragma once

#include "cpu/cooccurrence.h"
#include "ops/linear.h"

namespace recsys_fast {

struct SlimTask {
  Csr t, x;
  const float* gram;  // x^T x, or null
  ElasticNet net;
  float tolerance;
  bool screened;  // x >= 0 and w >= 0: gradients only fall, and items that start at l1 or below keep weight 0
  int64_t n_passes;
  const float* norms;

  float weight(float pull, float norm) const { return net.weight(pull, norm); }
  bool calls(float gradient) const { return net.calls(gradient); }
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
