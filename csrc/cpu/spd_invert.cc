// Inverse of a symmetric positive definite matrix by the block sweep (Goodnight 1979; Gauss-Jordan without pivoting,
// which is stable for such matrices): for every block k of columns, with a_kk^-1 = V V^T and y = a_ik V,
//   a_ij -= y_i y_j^T,  a_ik <- y_i V^T,  a_kk <- -V V^T,   and in the end a is the inverse, negated.
// These are n^3 operations as for factorization, inversion of the factor and its product together, but all in one
// rank-k update of the lower triangle, whose sums stay in registers for all columns of a block.
#include <cstring>

#include "core/arena.h"
#include "core/cholesky.h"
#include "core/thread_pool.h"
#include "ops/linear.h"

namespace recsys_fast {
namespace {

constexpr int64_t kPivot = 256;                       // columns swept at once
constexpr int64_t kPanel = kTileVectors * kLanes;     // columns of a register tile
constexpr int64_t kStrip = 192;                       // rows of y that a worker makes: whole groups, whole panels
constexpr int64_t kBlockRows = 96;                    // rows of y that stay in L2 while panels pass
constexpr int64_t kSquare = 768, kSmallSquare = 192;  // side of the squares of a that a worker updates
constexpr float kNoise = 2e-7f;                       // a pivot that lost all but this share of the diagonal
static_assert(kStrip % kTileRows == 0 && kStrip % kPanel == 0 && kSquare % kStrip == 0 && kBlockRows % kTileRows == 0);

// out(j, i) = in(i, j) for n_i x n_j elements.
void transpose(float* out, int64_t out_row, const float* in, int64_t in_row, int64_t n_i, int64_t n_j) {
  const int64_t whole_i = n_i / kLanes * kLanes, whole_j = n_j / kLanes * kLanes;
  for (int64_t i = 0; i < whole_i; i += kLanes) {
    for (int64_t j = 0; j < whole_j; j += kLanes)
      transpose_tile(out + j * out_row + i, out_row, in + i * in_row + j, in_row);
    for (int64_t j = whole_j; j < n_j; ++j) {
      for (int64_t r = i; r < i + kLanes; ++r) out[j * out_row + r] = in[r * in_row + j];
    }
  }
  for (int64_t i = whole_i; i < n_i; ++i) {
    for (int64_t j = 0; j < n_j; ++j) out[j * out_row + i] = in[i * in_row + j];
  }
}

class Sweep {
 public:
  Sweep(float* a, int64_t n, int n_threads) : a_(a), n_(n), n_threads_(n_threads), width_(padded(std::min(n, kPivot))) {
    const auto n_padded = static_cast<size_t>((n + kStrip - 1) / kStrip * kStrip);
    const auto width = static_cast<size_t>(width_);
    memory_.reset(2 * Arena::padded<float>(n_padded * width) + 3 * Arena::padded<float>(width * width) +
                  Arena::padded<float>(width) + Arena::padded<float>(n_padded));
    left_ = memory_.take<float>(n_padded * width);
    right_ = memory_.take<float>(n_padded * width);
    factor_ = memory_.take<float>(width * width);
    v_ = memory_.take<float>(width * width);
    v_transposed_ = memory_.take<float>(width * width);
    inverse_ = memory_.take<float>(width);
    diagonal_ = memory_.take<float>(n_padded);
    for (int64_t i = 0; i < n; ++i) diagonal_[i] = a[i * n + i];
  }

  // False where the block at k is not positive definite.
  bool step(int64_t k) {
    k_ = k;
    b_ = std::min(kPivot, n_ - k);
    bp_ = padded(b_);
    if (!invert_pivot()) return false;
    parallel_for((n_ + kStrip - 1) / kStrip, 1, n_threads_,
                 [&](int64_t strip, int64_t, int) { sweep_strip(strip * kStrip); });
    const int64_t side = n_ > 16 * kSmallSquare ? kSquare : kSmallSquare;
    const int64_t n_squares = (n_ + side - 1) / side;
    parallel_for(n_squares * (n_squares + 1) / 2, 1, n_threads_, [&](int64_t task, int64_t, int) {
      auto row = static_cast<int64_t>((std::sqrt(8.0 * static_cast<double>(task) + 1.0) - 1.0) / 2.0);
      while (row * (row + 1) / 2 > task) --row;
      while ((row + 1) * (row + 2) / 2 <= task) ++row;
      update_square(row * side, (task - row * (row + 1) / 2) * side, side);
    });
    return true;
  }

  // Negates the lower triangle and mirrors it.
  void finish() {
    const int64_t n_strips = (n_ + kStrip - 1) / kStrip;
    parallel_for(n_strips, 1, n_threads_, [&](int64_t strip, int64_t, int) {
      const int64_t i = strip * kStrip, rows = std::min(kStrip, n_ - i);
      for (int64_t j = 0; j <= i; j += kStrip) {
        const int64_t columns = std::min(kStrip, n_ - j);
        for (int64_t r = i; r < i + rows; ++r) {
          const int64_t end = std::min(j + columns, r + 1);
          for (int64_t c = j; c < end; ++c) a_[r * n_ + c] = -a_[r * n_ + c];
        }
        if (j < i) {
          transpose(a_ + j * n_ + i, n_, a_ + i * n_ + j, n_, rows, columns);
        } else {
          for (int64_t r = i; r < i + rows; ++r) {
            for (int64_t c = i; c < r; ++c) a_[c * n_ + r] = a_[r * n_ + c];
          }
        }
      }
    });
  }

 private:
  // V = U^-1 of the pivot block U^T U, and V^T; rows and columns past b_ are zero.
  bool invert_pivot() {
    float* u = factor_;
    std::fill_n(u, bp_ * bp_, 0.0f);
    for (int64_t i = 0; i < b_; ++i) {
      for (int64_t j = 0; j <= i; ++j) u[j * bp_ + i] = a_[(k_ + i) * n_ + k_ + j];
    }
    for (int64_t i = b_; i < bp_; ++i) u[i * bp_ + i] = 1.0f;
    if (!cholesky_upper(u, bp_, bp_, bp_, inverse_)) return false;
    for (int64_t i = 0; i < b_; ++i) {
      const float root = u[i * bp_ + i];
      if (!(root * root > kNoise * diagonal_[k_ + i])) return false;
    }
    std::fill_n(v_, bp_ * bp_, 0.0f);
    for (int64_t i = bp_ - kLanes; i >= 0; i -= kLanes) {
      const int64_t done = i + kLanes, rest = bp_ - done;
      // Rows [i, done) of V: U_ii V = I - U_i,rest V_rest.
      gemm(v_ + i * bp_ + done, bp_, u + i * bp_ + done, bp_, v_ + done * bp_ + done, bp_, kLanes, rest, rest, false);
      for (int64_t r = done - 1; r >= i; --r) {
        float* row = v_ + r * bp_;
        for (int64_t c = done; c < bp_; ++c) row[c] = -row[c];
        row[r] = 1.0f;
        for (int64_t below = r + 1; below < done; ++below) {
          axpy(row + i, -u[r * bp_ + below], v_ + below * bp_ + i, bp_ - i);
        }
        for (int64_t c = i; c < bp_; ++c) row[c] *= inverse_[r];
      }
    }
    for (int64_t i = b_; i < bp_; ++i) v_[i * bp_ + i] = 0.0f;
    transpose(v_transposed_, bp_, v_, bp_, bp_, bp_);
    return true;
  }

  // Rows [first, first + kStrip): y into the packed operands, y V^T back into a.
  void sweep_strip(int64_t first) {
    Arena& arena = thread_arena();
    arena.reset(2 * Arena::padded<float>(static_cast<size_t>(kStrip * bp_)));
    float* p = arena.take<float>(static_cast<size_t>(kStrip * bp_));
    float* y = arena.take<float>(static_cast<size_t>(kStrip * bp_));
    const int64_t last = std::min(first + kStrip, n_), above = std::clamp(k_, first, last);
    const int64_t below = std::clamp(k_ + b_, first, last);
    std::fill_n(p, kStrip * bp_, 0.0f);
    if (above > first) transpose(p, bp_, a_ + k_ * n_ + first, n_, b_, above - first);
    for (int64_t i = above; i < below; ++i) p[(i - first) * bp_ + i - k_] = -1.0f;  // so that y V^T is -V V^T
    for (int64_t i = below; i < last; ++i) std::copy_n(a_ + i * n_ + k_, b_, p + (i - first) * bp_);
    for (int64_t j = 0; j < bp_; j += kPanel) {  // V is upper triangular
      const int64_t end = std::min(j + kPanel, bp_);
      gemm(y + j, bp_, p, bp_, v_ + j, bp_, kStrip, end - j, end, false);
    }
    for (int64_t j = 0; j < bp_; j += kPanel) {
      gemm(p + j, bp_, y + j, bp_, v_transposed_ + j * bp_ + j, bp_, kStrip, std::min(kPanel, bp_ - j), bp_ - j, false);
    }
    if (above > first) transpose(a_ + k_ * n_ + first, n_, p, bp_, above - first, b_);
    for (int64_t i = above; i < last; ++i) std::copy_n(p + (i - first) * bp_, b_, a_ + i * n_ + k_);
    for (int64_t i = above; i < below; ++i) std::fill_n(y + (i - first) * bp_, bp_, 0.0f);  // swept, not updated
    for (int64_t i = 0; i < kStrip; i += kTileRows) {
      float* group = left_ + (first + i) * bp_;
      for (int64_t r = 0; r < kTileRows; ++r) {
        for (int64_t c = 0; c < bp_; ++c) group[c * kTileRows + r] = y[(i + r) * bp_ + c];
      }
    }
    for (int64_t i = 0; i < kStrip; i += kPanel)
      transpose(right_ + (first + i) * bp_, kPanel, y + i * bp_, bp_, kPanel, bp_);
  }

  // a_ij -= y_i y_j^T for the square at (row, column), as far as it lies below the diagonal.
  void update_square(int64_t row, int64_t column, int64_t side) {
    const int64_t last = std::min(row + side, n_);
    for (int64_t i = row; i < last; i += kBlockRows) {
      const int64_t end = std::min(i + kBlockRows, last);
      for (int64_t j = column; j < std::min(column + side, end); j += kPanel) {
        for (int64_t r = i; r < end; r += kTileRows) {
          if (j < std::min(r + kTileRows, n_)) update_tile(r, j);
        }
      }
    }
  }

  RF_INLINE void update_tile(int64_t i, int64_t j) {
    float* at = a_ + i * n_ + j;
    const float* group = left_ + i * bp_;
    const float* rows[kTileRows];
    const int64_t n_rows = std::min<int64_t>(kTileRows, n_ - i);
    for (int64_t r = 0; r < kTileRows; ++r) {
      rows[r] = group + r;
      prefetch(at + std::min(r, n_rows - 1) * n_, kPanel * static_cast<int64_t>(sizeof(float)));
    }
    Vec sum[kTileRows][kTileVectors] = {};
    gemm_accumulate(sum, bp_, rows, kTileRows, right_ + j * bp_, kPanel);
    if (n_rows == kTileRows && j + kPanel <= n_) {
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kTileVectors; ++v) {
          float* place = at + r * n_ + v * kLanes;
          store(place, load(place) - sum[r][v]);
        }
      }
      return;
    }
    float edge[kTileRows * kPanel];
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) store(edge + r * kPanel + v * kLanes, sum[r][v]);
    }
    for (int64_t r = 0; r < n_rows; ++r) {
      for (int64_t c = 0; c < std::min(kPanel, n_ - j); ++c) at[r * n_ + c] -= edge[r * kPanel + c];
    }
  }

  float* a_;
  int64_t n_;
  int n_threads_;
  int64_t width_, k_ = 0, b_ = 0, bp_ = 0;  // the pivot block: rows [k_, k_ + b_), padded
  Arena memory_;
  float *left_, *right_;  // y in groups of kTileRows rows, (bp_, kTileRows) each, and in panels, (bp_, kPanel) each
  float *factor_, *v_, *v_transposed_, *inverse_, *diagonal_;
};

}  // namespace

template <>
int64_t spd_invert<Cpu>(float* a, int64_t n, int n_threads) {
  if (n == 0) return -1;
  Sweep sweep(a, n, n_threads);
  for (int64_t k = 0; k < n; k += kPivot) {
    if (!sweep.step(k)) return k;
  }
  sweep.finish();
  return -1;
}

}  // namespace recsys_fast
