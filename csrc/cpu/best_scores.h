// Selection of the best of many scores: a bound that k of them reach, and keys that order like (score, id).
#pragma once

#include <algorithm>
#include <bit>
#include <limits>

#include "core/simd.h"

namespace recsys_fast {

inline constexpr float kNoScore = -std::numeric_limits<float>::infinity();

inline int64_t count_reaching(const float* scores, int64_t n_padded, float least) {
  int64_t n = 0;
  for (int64_t j = 0; j < n_padded; j += kLanes) {
    n += __builtin_popcount(mask_ge(load(scores + j), broadcast(least)));
  }
  return n;
}

// A value that at least k <= n of the scores reach, and few more where they differ. scores: room for kLanes more.
// Bisection between the extremes: vector compares only, where nth_element mispredicts at every other step.
inline float reached_by(float* scores, int64_t n, int64_t k) {
  constexpr int kBisections = 24;
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
inline uint64_t sort_key(float score, int32_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);
  const uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{~ascending} << 32 | static_cast<uint32_t>(id);
}

inline float key_score(uint64_t key) {
  const uint32_t ascending = ~static_cast<uint32_t>(key >> 32);
  return std::bit_cast<float>((ascending >> 31) != 0 ? ascending & 0x7fffffffu : ~ascending);
}

// Sorts the best min(n, k) of the keys to the front, and returns their number.
inline int64_t sort_best(uint64_t* keys, int64_t n, int64_t k) {
  const int64_t kept = std::min(n, k);
  if (n > 2 * kept) std::nth_element(keys, keys + kept, keys + n);
  std::sort(keys, keys + (n > 2 * kept ? kept : n));
  return kept;
}

}  // namespace recsys_fast
