// How Caser's horizontal filters lie in memory. Heights come one after the other, n_horizontal filters each: a column.
#pragma once

#include <algorithm>

#include "core/simd.h"
#include "ops/caser.h"

namespace recsys_fast {

struct CaserLayout {
  int64_t window, d, n_horizontal;
  int64_t n_columns() const { return window * n_horizontal; }
  int64_t width() const { return padded(n_columns()); }  // of a row with all columns

  // Rows of w_h before those of `height`.
  int64_t first_row(int64_t height) const { return height * (height - 1) / 2 * d; }

  // A filter's weights as one padded row: its length, where it lies, and the size of all.
  int64_t filter_size(int64_t height) const { return padded(height * d); }
  int64_t filter_at(int64_t height, int64_t f) const {
    int64_t at = 0;
    for (int64_t h = 1; h < height; ++h) at += n_horizontal * filter_size(h);
    return at + f * filter_size(height);
  }
  int64_t filters_size() const { return filter_at(window + 1, 0); }

  // Vectors of columns: taps of the highest filter in one, and the last position of its lowest.
  int64_t n_taps(int64_t v) const { return std::min(window, ((v + 1) * kLanes + n_horizontal - 1) / n_horizontal); }
  int64_t last_position(int64_t v) const { return window - v * kLanes / n_horizontal - 1; }
};

}  // namespace recsys_fast
