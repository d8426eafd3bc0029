// An orthogonal basis in which the first coordinates carry most of a product, so that they and the norms of the rest
// bound a score (as in Li, Chan, Yiu & Mamoulis, "FEXIPRO", SIGMOD 2017). The items' principal axes.
#pragma once

#include <vector>

#include "core/views.h"

namespace recsys_fast {

class Basis {
 public:
  // Finds the axes where a scan of so many queries and candidates gains by them; else nothing is rotated.
  Basis(Rows<const float> items, int64_t n_candidates, int64_t n_queries, int n_threads);

  bool rotates() const { return !axes_.empty(); }
  int64_t head() const { return head_; }  // coordinates that come first; d without a rotation

  // out (padded(d)) = row in this basis.
  void rotate(float* out, const float* row) const;

  // Bit j: whether coordinate j < n <= kSigns is positive. Rows of equal signs point into similar directions.
  int32_t signs(const float* row, int n) const;
  static constexpr int kSigns = 12;

  // |product of rotated rows - product| <= error() |q| |y|, rounding of the product itself aside.
  double error() const { return error_; }

 private:
  int64_t d_, head_;
  std::vector<float> axes_;  // (d, padded(d)), an axis per column
  double error_ = 0.0;
};

}  // namespace recsys_fast
