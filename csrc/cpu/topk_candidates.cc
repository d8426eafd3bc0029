#include "cpu/topk_candidates.h"

#include "cpu/best_scores.h"

namespace recsys_fast {

void Candidates::raise_threshold(int64_t k) {
  if (size_ > k) threshold_ = std::max(threshold_, reached_by(scores_, size_, k) - slack_);
}

void Candidates::drop_low() {
  const Vec least = broadcast(threshold_);
  int64_t kept = 0, kept_unseen = 0;
  for (int64_t j = 0; j < size_; j += kLanes) {
    const Vec score = load(scores_ + j);
    const VecInt id = load(ids_ + j);
    const uint32_t passing = mask_ge(score, least) & first_lanes(size_ - j);
    kept_unseen += __builtin_popcount(passing & first_lanes(n_unseen_ - j));
    compress(ids_ + kept, id, passing);
    kept += compress(scores_ + kept, score, passing);
  }
  size_ = kept;
  n_unseen_ = kept_unseen;
}

void Candidates::thin_out(const Selection& selection) {
  raise_threshold(selection.k + seen_.n);  // leaves few items to look up among the seen ones
  drop_low();
  const int64_t end = size_;
  size_ = n_unseen_;
  for (int64_t j = size_; j < end; ++j) {
    scores_[size_] = scores_[j];
    ids_[size_] = ids_[j];
    size_ += !seen_.contains(ids_[j]);
  }
  n_unseen_ = size_;
  raise_threshold(selection.k);
  drop_low();
  if (size_ > selection.capacity - 2 * kScoreBlock - kLanes) settle(selection);
  limit_ = selection.limit(size_);
}

void Candidates::settle(const Selection& selection) {
  const Rows<const float> items = selection.items;
  for (int64_t j = 0; j < size_; ++j) prefetch(items.row(ids_[j]), items.d * static_cast<int64_t>(sizeof(float)));
  for (int64_t j = 0; j < size_; ++j) selection.keys[j] = sort_key(dot(query_, items.row(ids_[j]), items.d), ids_[j]);
  const int64_t n = sort_best(selection.keys, size_, selection.k);
  for (int64_t j = 0; j < n; ++j) {
    scores_[j] = key_score(selection.keys[j]);
    ids_[j] = static_cast<int32_t>(selection.keys[j]);
  }
  size_ = n_unseen_ = n;
  if (n == selection.k) threshold_ = std::max(threshold_, scores_[n - 1] - slack_);
}

}  // namespace recsys_fast
