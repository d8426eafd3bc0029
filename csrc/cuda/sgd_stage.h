// A stage of an SGD epoch: a run of visits whose items are drawn, and put in order, before any of them is trained. That
// is possible since draws read no table. Its memory is what bounds a stage.
//
// Order. Training one visit after the other, as the contract says, leaves what does not meet free: a visit's level is
// one more than the highest level of the earlier visits that share its user or an item. Visits of one level touch
// nothing in common, so they run at the same time and the bits are those of the sequential order. Negatives that are
// only looked at count as touched.
#pragma once

#include <vector>

#include "cuda/sgd_plan.h"

namespace recsys_fast {

// Visits [begin, end) of one cell; local: where they are in the stage's arrays.
struct SgdPiece {
  int64_t begin, end, local;
};

struct SgdSample {
  int64_t visit;  // in the stage
  int32_t user;
  float value;  // the entry's value, 1 without values
};

// What kernels see of a stage. n = visits, m = items of a visit.
struct SgdStageView {
  int m;
  const SgdPiece* pieces;
  int32_t* items;  // (n, m) by visit: the positive, or -1 where there is no negative, and what was drawn for it
  // In order of training, piece by piece, level by level:
  SgdSample* samples;     // (n)
  int32_t* sample_items;  // (n, m)
  int32_t* level_end;     // (n) of each level of a piece, from the piece's first sample
  int32_t* n_levels;      // (pieces)
  // Scratch of a visit's warp, (n, m) each, where the loss asked for it.
  float* coefficients;
  int32_t* steps;
  float* losses;  // (n) by visit
};

class SgdStage {
 public:
  // in_levels: the order of training is wanted. scratch: so are coefficients and steps. What `bytes` says is taken.
  SgdStage(const SgdProblem& problem, const SgdPlan& plan, const std::vector<SgdPiece>& pieces, int m, bool in_levels,
           bool scratch, Stream stream);
  // Of one visit; of the marks that levels need, there are n_items for each piece.
  static int64_t bytes(int m, bool in_levels, bool scratch);

  const SgdStageView& view() const { return view_; }
  // Adds up losses and skipped visits, by a fixed tree. per_visit: what a trained visit counts.
  SgdTotals totals(int64_t per_visit, Stream stream) const;

 private:
  void draw(const SgdProblem& problem, const SgdPlan& plan, Stream stream);
  void order(const SgdProblem& problem, const SgdPlan& plan, Stream stream);

  int64_t n_, n_pieces_, longest_;
  DeviceBuffer<SgdPiece> pieces_;
  DeviceBuffer<int32_t> items_, sample_items_, level_end_, n_levels_, steps_;
  DeviceBuffer<SgdSample> samples_;
  DeviceBuffer<float> coefficients_, losses_;
  SgdStageView view_{};
};

}  // namespace recsys_fast
