#include "cpu/topk_candidates.h"

#include <bit>

namespace recsys_fast {
namespace {

constexpr int kBisections = 24;

int64_t count_reaching(const float* scores, int64_t n_padded, float least) {
  int64_t n = 0;
  for (int64_t j = 0; j < n_padded; j += kLanes) {
    n += __builtin_popcount(mask_ge(load(scores + j), broadcast(least)));
  }
  return n;
}

// A value that at least k <= n of the scores reach, and few more where they differ. scores: room for kLanes more.
// Bisection between the extremes: vector compares only, where nth_element mispredicts at every other step.
float reached_by(float* scores, int64_t n, int64_t k) {
  const int64_t n_padded = padded(n);
  for (int64_t j = n; j < n_padded; ++j) scores[j] = scores[0];
  Vec most = load(scores), least = most;
  for (int64_t j = kLanes; j < n_padded; j += kLanes) {
    most = max(most, load(scores + j));
    least = min(least, load(scores + j));
  }
  float low = least[0], high = most[0];
  for (int i = 1; i < kLanes; ++i) {
    low = std::min(low, least[i]);
    high = std::max(high, most[i]);
  }
  for (int64_t j = n; j < n_padded; ++j) scores[j] = kNoScore;
  for (int step = 0; step < kBisections; ++step) {
    const float middle = 0.5f * low + 0.5f * high;
    if (!(middle > low && middle < high)) break;
    const int64_t n_reaching = count_reaching(scores, n_padded, middle);
    (n_reaching >= k ? low : high) = middle;
    if (n_reaching >= k && n_reaching <= k + k / 8) break;
  }
  return low;
}

// Orders like (score descending, id ascending); -0 equals 0.
uint64_t sort_key(float score, int32_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);
  const uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{~ascending} << 32 | static_cast<uint32_t>(id);
}

float key_score(uint64_t key) {
  const uint32_t ascending = ~static_cast<uint32_t>(key >> 32);
  return std::bit_cast<float>((ascending >> 31) != 0 ? ascending & 0x7fffffffu : ~ascending);
}

}  // namespace

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
  const int64_t n = std::min(size_, selection.k);
  if (size_ > 2 * n) std::nth_element(selection.keys, selection.keys + n, selection.keys + size_);
  std::sort(selection.keys, selection.keys + (size_ > 2 * n ? n : size_));
  for (int64_t j = 0; j < n; ++j) {
    scores_[j] = key_score(selection.keys[j]);
    ids_[j] = static_cast<int32_t>(selection.keys[j]);
  }
  size_ = n_unseen_ = n;
  if (n == selection.k) threshold_ = std::max(threshold_, scores_[n - 1] - slack_);
}

}  // namespace recsys_fast
