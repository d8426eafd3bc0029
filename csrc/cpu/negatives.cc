#include "ops/negatives.h"

#include <algorithm>
#include <cstdint>

#include "core/rng.h"
#include "core/simd.h"
#include "core/thread_pool.h"
#include "cpu/id_row.h"

namespace recsys_fast {
namespace {

constexpr uint32_t kTries = 15;
constexpr uint32_t kWords = 2 * (kTries + 1);      // draws of one weighted negative: two a try, two for the exact way
constexpr int64_t kAhead = 4, kAheadBytes = 1024;  // users are in any order: their rows come from memory

// The random words of one user's negatives, four at a time.
class Words {
 public:
  Words(uint64_t seed, uint32_t epoch, uint64_t sample) : seed_(seed), epoch_(epoch), sample_(sample) {}
  uint32_t word(uint32_t k) {
    if (k / 4 != block_ || !filled_) four_ = draw4(seed_, epoch_, sample_, block_ = k / 4), filled_ = true;
    return four_[k % 4];
  }
  double unit(uint32_t k) {  // 53 bits of words k and k + 1
    const uint64_t high = word(k);
    return static_cast<double>((high << 32 | word(k + 1)) >> 11) * 0x1p-53;
  }

 private:
  uint64_t seed_;
  uint32_t epoch_;
  uint64_t sample_;
  uint32_t block_ = 0;
  bool filled_ = false;
  Philox four_{};
};

// Calls use(first, end, weight) for the runs of items between those of the row that have a weight, until it says stop.
template <class Use>
void for_gaps(IdRow row, const double* cdf, int64_t n_items, Use&& use) {
  for (int64_t t = 0; t <= row.n; ++t) {
    const int64_t first = t > 0 ? row.ids[t - 1] + int64_t{1} : 0;
    const int64_t end = t < row.n ? row.ids[t] : n_items;
    if (first >= end) continue;
    const double below = first > 0 ? cdf[first - 1] : 0.0;
    const double weight = cdf[end - 1] - below;
    if (weight > 0.0 && use(first, end, below, weight)) return;
  }
}

// An item outside the row with probability as its weight, by walking the gaps; -1 if none has a weight.
int32_t absent_by_weight(IdRow row, const double* cdf, int64_t n_items, double unit) {
  double total = 0.0;
  for_gaps(row, cdf, n_items, [&](int64_t, int64_t, double, double weight) {
    total += weight;
    return false;
  });
  double left = unit * total;
  int64_t item = -1;
  for_gaps(row, cdf, n_items, [&](int64_t first, int64_t end, double below, double weight) {
    // The gap's last item with a weight: where rounding would end beyond the gap, or beyond all of them.
    item = std::lower_bound(cdf + first, cdf + end, cdf[end - 1]) - cdf;
    if (left < weight) {
      item = std::min<int64_t>(item, std::upper_bound(cdf + first, cdf + end, below + left) - cdf);
      return true;
    }
    left -= weight;
    return false;
  });
  return static_cast<int32_t>(item);
}

// Tries from the whole distribution, then the exact way, whose distribution is the same.
int32_t draw_weighted(IdRow row, const double* cdf, int64_t n_items, Words& words, uint32_t k) {
  for (uint32_t at = k; at < k + 2 * kTries; at += 2) {
    const double x = words.unit(at) * cdf[n_items - 1];
    const int64_t item = first_above(n_items, [&](int64_t i) { return cdf[i] > x; });
    const int64_t t = first_above(row.n, [&](int64_t i) { return row.ids[i] >= item; });
    if (t == row.n || row.ids[t] != item) return static_cast<int32_t>(item);
  }
  return absent_by_weight(row, cdf, n_items, words.unit(k + 2 * kTries));
}

}  // namespace

template <>
void sample_negatives<Cpu>(Rows<int32_t> out, const int32_t* users, Csr positives, const double* cdf, uint64_t seed,
                           uint32_t epoch, int n_threads) {
  const int64_t n_items = positives.n_cols;
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, out.d));
  parallel_for(out.n, grain, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      if (i + 2 * kAhead < end) prefetch(positives.row_ptr + users[i + 2 * kAhead], 1);
      if (i + kAhead < end) {
        const int64_t soon = users[i + kAhead];
        prefetch(positives.col_idx + positives.row_ptr[soon], std::min(kAheadBytes, 4 * positives.row_size(soon)));
      }
      const IdRow row{positives.col_idx + positives.row_ptr[users[i]], positives.row_size(users[i])};
      const auto n_absent = static_cast<int32_t>(n_items - row.n);
      Words words(seed, epoch, static_cast<uint64_t>(i));
      for (int64_t j = 0; j < out.d; ++j) {
        const auto k = static_cast<uint32_t>(j);
        int32_t& item = out.row(i)[j];
        if (n_absent == 0) {
          item = -1;
        } else if (cdf != nullptr) {
          item = draw_weighted(row, cdf, n_items, words, k * kWords);
        } else {
          item = nth_absent(row, to_range(words.word(k), n_absent));
        }
      }
    }
  });
}

template <>
void philox_draw<Cpu>(uint32_t* out, int64_t n, uint64_t seed, uint32_t epoch, uint64_t first_sample, uint32_t k,
                      int n_threads) {
  parallel_for(n, int64_t{1} << 16, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = draw(seed, epoch, first_sample + static_cast<uint64_t>(i), k);
  });
}

}  // namespace recsys_fast
