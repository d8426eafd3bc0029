// The best of one row's sums: scores are made a vector at a time, and a buffer of candidates is thinned out when full.
#pragma once

#include <algorithm>

#include "core/arena.h"
#include "core/simd.h"
#include "cpu/best_scores.h"
#include "cpu/id_row.h"
#include "cpu/product_plan.h"
#include "ops/product_topk.h"

namespace recsys_fast {

// Scores of sums; 0 where the denominator is not positive.
template <ProductNorms::Mode M>
RF_INLINE Vec product_score(Vec sum, Vec row_norm, Vec col_norm, Vec shrinkage) {
  if constexpr (M == ProductNorms::kNone) return sum;
  const Vec below = (M == ProductNorms::kProduct ? row_norm * col_norm : row_norm + col_norm - sum) + shrinkage;
  return below > Vec{} ? sum / below : Vec{};
}

class ProductSelection {
 public:
  static int64_t capacity_for(int64_t k) { return padded(k + std::max<int64_t>(k, 256)) + 2 * kLanes; }
  static size_t bytes_for(int64_t k) {
    const size_t n = static_cast<size_t>(capacity_for(k));
    return Arena::padded<float>(n) + Arena::padded<int32_t>(n) + Arena::padded<uint64_t>(n);
  }

  ProductSelection(Arena& arena, int64_t k, const ProductPlan& plan) : k_(k), capacity_(capacity_for(k)), plan_(plan) {
    scores_ = arena.take<float>(static_cast<size_t>(capacity_));
    places_ = arena.take<int32_t>(static_cast<size_t>(capacity_));
    keys_ = arena.take<uint64_t>(static_cast<size_t>(capacity_));
  }

  void start() {
    size_ = 0;
    threshold_ = kNoScore;
  }

  // Offers those of kLanes scores that are numbers other than 0 and whose bit in `wanted` is set.
  RF_INLINE void offer(Vec score, VecInt place, uint32_t wanted) {
    const uint32_t passing = mask_ge(score, broadcast(threshold_)) & mask_nonzero(score) & wanted;
    if (passing == 0) return;
    compress(places_ + size_, place, passing);
    size_ += compress(scores_ + size_, score, passing);
    if (size_ > capacity_ - 2 * kLanes) thin_out();
  }

  // Writes the best k offered, and returns their number.
  int64_t finish(int32_t* ids, float* scores) {
    if (size_ > k_) raise_threshold();
    const int64_t n = sort();
    for (int64_t j = 0; j < n; ++j) {
      ids[j] = static_cast<int32_t>(keys_[j]);
      scores[j] = key_score(keys_[j]);
    }
    return n;
  }

  int32_t* scratch() { return places_; }  // room for k, between finish and start

 private:
  void raise_threshold() {
    threshold_ = std::max(threshold_, reached_by(scores_, size_, k_));
    int64_t kept = 0;
    for (int64_t j = 0; j < size_; j += kLanes) {
      const Vec score = load(scores_ + j);
      const uint32_t passing = mask_ge(score, broadcast(threshold_)) & first_lanes(size_ - j);
      compress(places_ + kept, load(places_ + j), passing);
      kept += compress(scores_ + kept, score, passing);
    }
    size_ = kept;
  }

  void thin_out() {
    raise_threshold();
    if (size_ <= capacity_ - 4 * kLanes - k_ / 4) return;
    // A crowd of equal scores: only ids tell them apart. The order of the buffer does not matter, places do.
    size_ = sort();
    for (int64_t j = 0; j < size_; ++j) {
      scores_[j] = key_score(keys_[j]);
      places_[j] = static_cast<int32_t>(plan_.place(static_cast<int32_t>(keys_[j])));
    }
  }

  int64_t sort() {
    for (int64_t j = 0; j < size_; ++j) keys_[j] = sort_key(scores_[j], plan_.column(places_[j]));
    return sort_best(keys_, size_, k_);
  }

  int64_t k_, capacity_;
  const ProductPlan& plan_;
  float* scores_;
  int32_t* places_;
  uint64_t* keys_;
  int64_t size_ = 0;
  float threshold_ = kNoScore;
};

}  // namespace recsys_fast
