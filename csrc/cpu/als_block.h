// A block of columns of rows' least squares problems: what the steps of iALS++ over rows alone (als_subspace.h) and
// over many rows together (als_subspace_crowd.cc) share.
#pragma once

#include "core/cholesky.h"
#include "core/gemm.h"
#include "cpu/als_row.h"

namespace recsys_fast {

// Columns [first, first + width) are next; predictions still lack the change of columns [from, to).
struct AlsBlock {
  int64_t first = 0, width = 0, from = 0, to = 0;

  // Only a row's first visit takes up all columns.
  bool starts(int64_t dp) const { return to - from == dp; }

  AlsBlock next(int64_t first_column, int64_t block, int64_t dp) const {
    return {first_column, std::min(block, dp - first_column), first, first + width};
  }
};

// One row on its way through the blocks.
struct AlsBlockRow {
  const float* scale;  // (dp)
  float *z, *pending;  // (dp) solution; s * its change that the predictions lack
  float* prediction;   // (n)
  float* system;       // (block + 1, block + kLanes) gradient, then the block's matrix
  double objective;

  static size_t system_floats(int64_t block) { return static_cast<size_t>((block + 1) * (block + kLanes)); }

  // scale, z and prediction's place are set.
  void begin(int64_t n, int64_t dp, double constant) {
    std::fill_n(prediction, n, 0.0f);
    for (int64_t k = 0; k < dp; ++k) pending[k] = scale[k] * z[k];
    objective = constant + dot(z, z, dp);
  }

  void begin_block(const AlsBlock& at) {
    const int64_t stride = at.width + kLanes;
    std::fill_n(system, (at.width + 1) * stride, 0.0f);
    for (int64_t k = 0; k < at.width; ++k) {
      system[k] = -z[at.first + k];
      system[(k + 1) * stride + k] = 1.0f;
    }
  }

  // Newton's step of the block, once its system has all entries. step, inv (width): scratch. A failure leaves an
  // objective that is not a number.
  void end_block(const AlsBlock& at, float* step, float* inv) {
    const int64_t stride = at.width + kLanes;
    float* a = system + stride;
    for (int64_t k = 0; k < at.width; ++k) a[k * stride + at.width] = system[k];
    const bool positive = cholesky_upper(a, stride, at.width, stride, inv);
    for (int64_t k = 0; k < at.width; ++k) step[k] = a[k * stride + at.width];
    solve_upper(a, stride, inv, step, at.width);
    objective -= positive ? dot(system, step, at.width) : NAN;
    for (int64_t k = 0; k < at.width; ++k) {
      z[at.first + k] += step[k];
      pending[at.first + k] = scale[at.first + k] * step[k];
    }
  }
};

// The block's columns of some entries, few enough for the L1 cache. A row holds, as the last element of its vector 0,
// the residual, then c_j v_j (left) or v_j (right): the sum of their products is the system with its gradient.
class AlsPanel {
 public:
  static constexpr int kTogether = 8;  // entries whose reductions share their shuffles

  static int64_t bytes(int64_t block) {
    return 2 * static_cast<int64_t>(Arena::padded<float>(n_rows(block) * (block + kLanes)));
  }

  AlsPanel(int64_t block, bool weighted, Arena& arena)
      : rows(n_rows(block)),
        weighted_(weighted),
        left_(arena.take<float>(rows * (block + kLanes))),
        right_(weighted ? arena.take<float>(rows * (block + kLanes)) : left_) {}

  const int64_t rows;

  // Panel rows i.. = up to kTogether entries: their predictions (at `prediction`) take up the pending change. source:
  // columns at.from.. of the entries' rows of y, `offset` before the block's; valid for all kTogether.
  // V = at.width / kLanes, or 0; Start = at.starts().
  template <int V, bool Start>
  RF_INLINE void put(int64_t i, int count, const float* const (&source)[kTogether], int64_t offset, const AlsBlock& at,
                     AlsBlockRow& row, float* prediction, const float* weight, const float* target) {
    const int64_t width = V > 0 ? V * kLanes : at.width, stride = width + kLanes;
    const float* scale = row.scale + at.first;
    float inner[kTogether], residual[kTogether];
    products<Start ? 0 : V>(source, at, row.pending, inner);
    if (count == kTogether) {
      for (int e = 0; e < kTogether; ++e) {
        inner[e] += prediction[e];
        residual[e] = target[e] - weight[e] * inner[e];
      }
      std::copy_n(inner, kTogether, prediction);
    } else {
      for (int e = 0; e < kTogether; ++e) residual[e] = 0.0f;
      for (int e = 0; e < count; ++e) {
        inner[e] += prediction[e];
        residual[e] = target[e] - weight[e] * inner[e];
        prediction[e] = inner[e];
      }
    }
    if constexpr (Start) {
      for (int e = 0; e < count; ++e) {
        row.objective += double{inner[e]} * (double{weight[e]} * inner[e] - 2.0 * target[e]);
      }
    }
    float *left = left_ + i * stride, *right = right_ + i * stride;
#pragma GCC unroll 8
    for (int e = 0; e < kTogether; ++e, left += stride, right += stride) {
      left[kLanes - 1] = residual[e];
#pragma GCC unroll 4
      for (int64_t k = 0; k < width; k += kLanes) {
        const Vec v = load(source[e] + offset + k) * load(scale + k);
        store(right + kLanes + k, v);
        if (weighted_) store(left + kLanes + k, v * broadcast(weight[std::min(e, count - 1)]));
      }
    }
  }

  // system += the products of the panel's first n rows; upper triangle.
  template <int V>
  [[gnu::noinline]] void add_products(float* system, int64_t width, int64_t n) const {
    const float *left = left_ + kLanes, *right = right_ + kLanes;
    const int64_t stride = width + kLanes;
    float* a = system + stride;
    if constexpr (V == 2 && kLanes == 16) {  // few tiles, of 26, 8 and 16 sums
      gemm_tile<13, 2>(n, left - 1, 1, stride, right, stride, system, stride, 1.0f, true);
      gemm_tile<4, 2>(n, left + 12, 1, stride, right, stride, a + 12 * stride, stride, 1.0f, true);
      gemm_tile<16, 1>(n, left + 16, 1, stride, right + 16, stride, a + 16 * stride + 16, stride, 1.0f, true);
      return;
    }
    const auto tiles = [&](int n_rows, int64_t i, int64_t from) {
      for (int64_t j = from; j < width; j += kTileVectors * kLanes) {
        const int n_vectors = static_cast<int>(std::min<int64_t>(kTileVectors, (width - j) / kLanes));
        gemm_tile_any(n_rows, n_vectors, n, left + i, 1, stride, right + j, stride, a + i * stride + j, stride, 1.0f,
                      true);
      }
    };
    tiles(1, -1, 0);
    for (int64_t i = 0; i < width; i += kTileRows) {
      tiles(static_cast<int>(std::min<int64_t>(kTileRows, width - i)), i, i / kLanes * kLanes);
    }
  }

 private:
  static int64_t n_rows(int64_t block) { return std::clamp<int64_t>(4096 / block, 16, 128) / kTogether * kTogether; }

  template <int V>
  RF_INLINE static void products(const float* const (&source)[kTogether], const AlsBlock& at, const float* pending,
                                 float* inner) {
    Vec sum[kTogether] = {};
    const int64_t n_columns = V > 0 ? V * kLanes : at.to - at.from;
#pragma GCC unroll 4
    for (int64_t k = 0; k < n_columns; k += kLanes) {
      const Vec p = load(pending + at.from + k);
#pragma GCC unroll 8
      for (int e = 0; e < kTogether; ++e) sum[e] += load(source[e] + k) * p;
    }
    reduce_add8(sum, inner);
  }

  const bool weighted_;
  float *left_, *right_;
};

}  // namespace recsys_fast
