#include "ops/gram.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/arena.h"
#include "core/gemm.h"
#include "core/thread_pool.h"

namespace recsys_fast {
namespace {

constexpr int64_t kPanelRows = 96;    // rows of a factor table that go through the caches together
constexpr int64_t kOutputRows = 192;  // rows of the Gram matrix that one task owns

// Copies n rows of width d into rows of width d_padded, zero-filled.
void pad_rows(float* out, int64_t d_padded, const float* in, int64_t d, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    std::copy_n(in + i * d, d, out + i * d_padded);
    std::fill(out + i * d_padded + d, out + (i + 1) * d_padded, 0.0f);
  }
}

// Upper tiles of c (rows [first, last), all columns from the diagonal on) += panel^T panel.
void gram_panel(float* c, int64_t d_padded, const float* panel, int64_t n_rows, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i += kTileRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kTileRows, last - i));
    for (int64_t j = i / kLanes * kLanes; j < d_padded; j += kTileVectors * kLanes) {
      const int vectors = static_cast<int>(std::min<int64_t>(kTileVectors, (d_padded - j) / kLanes));
      gemm_tile_any(rows, vectors, n_rows, panel + i, 1, d_padded, panel + j, d_padded, c + i * d_padded + j, d_padded,
                    1.0f, true);
    }
  }
}

}  // namespace

template <>
void gram<Cpu>(float* out, Rows<const float> y, int n_threads) {
  const int64_t d = y.d, dp = padded(d);
  // The number of partial sums depends on the shape alone, and bounds their memory to about 8 MB.
  const int64_t n_parts = std::clamp<int64_t>(std::min<int64_t>(y.n / 512, (int64_t{1} << 21) / (dp * dp)), 1, 16);
  const int64_t part_rows = (y.n + n_parts - 1) / n_parts;
  const int64_t n_blocks = (dp + kOutputRows - 1) / kOutputRows;
  std::vector<float> sums(n_parts * dp * dp, 0.0f);
  parallel_for(n_parts * n_blocks, 1, n_threads, [&](int64_t task, int64_t, int) {
    const int64_t part = task / n_blocks, first = task % n_blocks * kOutputRows;
    float* c = sums.data() + part * dp * dp;
    Arena& arena = thread_arena();
    arena.reset(Arena::padded<float>(kPanelRows * dp));
    float* panel = arena.take<float>(kPanelRows * dp);
    const int64_t end = std::min(y.n, (part + 1) * part_rows);
    for (int64_t r = part * part_rows; r < end; r += kPanelRows) {
      const int64_t rows = std::min(kPanelRows, end - r);
      const float* source = y.row(r);
      if (d != dp) {
        pad_rows(panel, dp, source, d, rows);
        source = panel;
      }
      gram_panel(c, dp, source, rows, first, std::min(dp, first + kOutputRows));
    }
  });
  for (int64_t width = 1; width < n_parts; width *= 2) {
    for (int64_t p = 0; p + width < n_parts; p += 2 * width) {
      float* into = sums.data() + p * dp * dp;
      const float* from = sums.data() + (p + width) * dp * dp;
      for (int64_t k = 0; k < dp * dp; ++k) into[k] += from[k];
    }
  }
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = i; j < d; ++j) out[i * d + j] = out[j * d + i] = sums[i * dp + j];
  }
}

template <>
void rows_rotate<Cpu>(Rows<float> x, const float* q, int n_threads) {
  const int64_t d = x.d, dp = padded(d);
  std::vector<float> padded_q;
  if (d != dp) {
    padded_q.assign(dp * dp, 0.0f);
    pad_rows(padded_q.data(), dp, q, d, d);
    q = padded_q.data();
  }
  parallel_for(x.n, kPanelRows, n_threads, [&](int64_t begin, int64_t end, int) {
    const int64_t rows = end - begin;
    Arena& arena = thread_arena();
    arena.reset(2 * Arena::padded<float>(kPanelRows * dp));
    float* in = arena.take<float>(kPanelRows * dp);
    std::copy_n(x.row(begin), rows * d, in);
    if (d == dp) {
      gemm(x.row(begin), d, in, d, q, dp, rows, dp, d, false);
      return;
    }
    float* out = arena.take<float>(kPanelRows * dp);
    gemm(out, dp, in, d, q, dp, rows, dp, d, false);
    for (int64_t i = 0; i < rows; ++i) std::copy_n(out + i * dp, d, x.row(begin + i));
  });
}

}  // namespace recsys_fast
