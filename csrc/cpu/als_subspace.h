// iALS++ (Rendle et al. 2021): Newton steps over blocks of columns, given the rest. In the eigenbasis the blocks of the
// unobserved part do not couple, so a block's system is I + V_B^T C V_B and its gradient needs the predictions only.
// Per block the entries are visited once: predictions take up the step of the block before on the way.
#pragma once

#include "cpu/als_block.h"

namespace recsys_fast {

class AlsSubspace {
 public:
  static int64_t bytes(int64_t n, int64_t dp, int64_t block) {
    return static_cast<int64_t>(Arena::padded<float>(n) + (1 + AlsPanel::kTogether) * Arena::padded<float>(dp) +
                                2 * Arena::padded<float>(block) +
                                Arena::padded<float>(AlsBlockRow::system_floats(block))) +
           AlsPanel::bytes(block);
  }

  AlsSubspace(const AlsRow& row, int64_t block, Arena& arena)
      : row_(row),
        block_(block),
        panel_(block, row.problem.weights != nullptr, arena),
        step_(arena.take<float>(block)),
        inv_(arena.take<float>(block)),
        stage_(als_incomplete(row.problem, row.y) ? arena.take<float>(kTogether * row.d_padded) : nullptr) {
    state_.scale = row.scale;
    state_.pending = arena.take<float>(row.d_padded);
    state_.prediction = arena.take<float>(row.size());
    state_.system = arena.take<float>(AlsBlockRow::system_floats(block));
  }

  // z (dp) in: start, out: after n_steps passes over all blocks. Returns the row's objective at z, NaN on failure.
  double solve(float* z, int n_steps) {
    const int64_t dp = row_.d_padded;
    state_.z = z;
    state_.begin(row_.size(), dp, row_.constant);
    AlsBlock at{0, dp, 0, 0};
    for (int pass = 0; pass < n_steps; ++pass) {
      for (int64_t first = 0; first < dp && !std::isnan(state_.objective); first += block_) {
        at = at.next(first, block_, dp);
        state_.begin_block(at);
        const bool pair = at.width == 2 * kLanes;
        if (at.starts(dp)) {
          pair ? add_entries<2, true>(at) : add_entries<0, true>(at);
        } else {
          pair&& at.to - at.from == at.width ? add_entries<2, false>(at) : add_entries<0, false>(at);
        }
        state_.end_block(at, step_, inv_);
      }
    }
    return state_.objective;
  }

 private:
  static constexpr int kTogether = AlsPanel::kTogether;
  static constexpr int64_t kAhead = 24;        // entries; what is prefetched
  static constexpr int64_t kLeastAhead = 512;  // a shorter row stays in the L2 cache after its first visit

  template <int V, bool Start>
  [[gnu::noinline]] void add_entries(const AlsBlock& at) {
    const int64_t n = row_.size();
    for (int64_t j0 = 0; j0 < n; j0 += panel_.rows) {
      const int64_t rows = std::min(panel_.rows, n - j0);
      for (int64_t i = 0; i < rows; i += kTogether) {
        const int64_t j = j0 + i;
        const int count = static_cast<int>(std::min<int64_t>(kTogether, rows - i));
        const float* source[kTogether];
        locate<Start>(source, j, count, at);
        panel_.put<V, Start>(i, count, source, at.first - at.from, at, state_, state_.prediction + j, row_.weight + j,
                             row_.target + j);
      }
      panel_.add_products<V>(state_.system, at.width, rows);
    }
  }

  // source[e] = columns at.from.. of the row of y of entry j + e; of the last one where there are fewer.
  template <bool Start>
  RF_INLINE void locate(const float* (&source)[kTogether], int64_t j, int count, const AlsBlock& at) const {
    const Rows<const float>& y = row_.y;
    const int32_t* col = row_.col_idx + row_.begin + j;
    if (Start && row_.begin + j + kAhead + kTogether <= row_.nnz) {
      for (int e = 0; e < kTogether; ++e) prefetch(y.row(col[kAhead + e]), y.d * 4);
    } else if (!Start && row_.size() > kLeastAhead && j + kAhead + kTogether <= row_.size()) {
      const int64_t bytes = std::min(y.d - at.from, 2 * at.width) * 4;  // mostly the next block follows
      for (int e = 0; e < kTogether; ++e) prefetch(y.row(col[kAhead + e]) + at.from, bytes);
    }
    if (count == kTogether) {
#pragma GCC unroll 8
      for (int e = 0; e < kTogether; ++e) source[e] = y.row(col[e]) + at.from;
    } else {
      for (int e = 0; e < kTogether; ++e) source[e] = y.row(col[std::min(e, count - 1)]) + at.from;
    }
    if (stage_ == nullptr) return;
    for (int e = 0; e < kTogether; ++e) {
      float* out = stage_ + e * row_.d_padded;
      als_complete(out, source[e] - at.from, row_.problem, row_.y.d);
      source[e] = out + at.from;
    }
  }

  const AlsRow& row_;
  const int64_t block_;
  AlsPanel panel_;
  AlsBlockRow state_;
  float *step_, *inv_;  // (block)
  float* stage_;        // (kTogether, dp), or null where y's rows are complete
};

}  // namespace recsys_fast
