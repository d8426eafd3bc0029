// The candidates of one query while blocks of its scores stream by: a buffer that is thinned out when full, not a heap,
// so that an insertion is a compressed store and the price of selection is shared by a whole buffer.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/simd.h"
#include "core/views.h"
#include "cpu/best_scores.h"
#include "cpu/id_row.h"

namespace recsys_fast {

inline constexpr int kScoreBlock = 64;  // scores handed over at once, at most

// What is the same for all queries that a worker serves.
struct Selection {
  int64_t k;         // how many are wanted
  int64_t capacity;  // of a query's buffer
  Rows<const float> items;
  uint64_t* keys;  // scratch (capacity)
  // Size at which to thin out a buffer that now holds `size`: often, because a scan stops early by a high threshold.
  int64_t limit(int64_t size) const {
    return std::min(std::max(size, k) + std::max<int64_t>(k / 2, 16), capacity - kScoreBlock - kLanes);
  }
  static int64_t capacity_for(int64_t k) { return padded(k + std::max<int64_t>(k, 128) + 2 * kScoreBlock + kLanes); }
};

class Candidates {
 public:
  // scores, ids: room for `capacity`. slack: twice what an offered score may be off the canonical one.
  void start(const Selection& selection, float* scores, int32_t* ids, const float* query, IdRow seen, float slack) {
    scores_ = scores;
    ids_ = ids;
    query_ = query;
    seen_ = seen;
    slack_ = slack;
    threshold_ = kNoScore;
    size_ = n_unseen_ = 0;
    limit_ = selection.limit(0);
  }

  float threshold() const { return threshold_; }  // scores below it are not wanted any more
  const float* query() const { return query_; }
  int64_t size() const { return size_; }
  const float* scores() const { return scores_; }
  const int32_t* ids() const { return ids_; }

  // Offers the scores of n <= kScoreBlock items; both arrays are readable to whole vectors.
  RF_INLINE void offer(const Selection& selection, const float* scores, const int32_t* ids, int64_t n) {
    const Vec least = broadcast(threshold_);
    for (int64_t j = 0; j < n; j += kLanes) {
      const Vec score = load(scores + j);
      const uint32_t passing = mask_ge(score, least) & first_lanes(n - j);
      compress(ids_ + size_, load(ids + j), passing);
      size_ += compress(scores_ + size_, score, passing);
    }
    if (size_ >= limit_) thin_out(selection);
  }

  // Drops what cannot be among the best k: seen items, and scores too far below the k-th. Raises the threshold.
  void thin_out(const Selection& selection);

  // Replaces the scores by canonical ones, sorts by them and keeps the best k. Ends the scan, or breaks up a crowd of
  // scores that are too close to each other for the slack.
  void settle(const Selection& selection);

 private:
  void raise_threshold(int64_t k);
  void drop_low();

  float* scores_ = nullptr;
  int32_t* ids_ = nullptr;
  const float* query_ = nullptr;
  IdRow seen_;
  float slack_ = 0.0f, threshold_ = kNoScore;
  int64_t size_ = 0, n_unseen_ = 0;  // the first n_unseen_ were looked up among the seen items
  int64_t limit_ = 0;
};

}  // namespace recsys_fast
