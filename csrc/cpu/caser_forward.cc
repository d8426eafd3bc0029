// Caser's convolutions. A position of a window is one contiguous slice of it, so for the start p all heights together
// are a product of that slice with a matrix whose columns are filters: a vector of columns takes part as far as its
// filters reach. Relu, maximum and its position are taken from the registers.
#include "core/dropout.h"
#include "core/gemm.h"
#include "core/thread_pool.h"
#include "cpu/block_tiles.h"
#include "cpu/caser_layout.h"
#include "cpu/row_packing.h"

namespace recsys_fast {
namespace {

constexpr int kRows = kVectorRegisters == 32 ? 8 : 4;     // windows at once: enough sums also for one vector
constexpr int kVectors = kVectorRegisters == 32 ? 3 : 2;  // of columns
constexpr int64_t kTile = 32;                             // windows of a task
static_assert(kTile % kRows == 0);

// packed (window d, width): row tap d + k holds w_h of every filter that has this tap, 0 for the others.
void pack(float* packed, const float* w_h, const CaserLayout& layout) {
  const int64_t width = layout.width(), n_h = layout.n_horizontal;
  std::fill_n(packed, layout.window * layout.d * width, 0.0f);
  for (int64_t height = 1; height <= layout.window; ++height) {
    const float* w = w_h + layout.first_row(height) * n_h;
    for (int64_t k = 0; k < height * layout.d; ++k)
      std::copy_n(w + k * n_h, n_h, packed + k * width + (height - 1) * n_h);
  }
}

// sum[., First ..] += rows first_k to last_k of the product.
template <int First, int MR, int NV>
RF_INLINE void accumulate(Vec (&sum)[MR][NV], const float* const (&x)[MR], const float* w, int64_t width, int64_t k,
                          int64_t last_k) {
  for (; k < last_k; ++k) {
    Vec right[NV];
#pragma GCC unroll 8
    for (int v = First; v < NV; ++v) right[v] = load(w + k * width + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const Vec left = broadcast(x[i][k]);
#pragma GCC unroll 8
      for (int v = First; v < NV; ++v) sum[i][v] += left * right[v];
    }
  }
}

// Columns leave the product one vector after the other, as their filters end (ends, ascending).
template <int First, int MR, int NV>
RF_INLINE void accumulate_all(Vec (&sum)[MR][NV], const float* const (&x)[MR], const float* w, int64_t width,
                              const int64_t* ends, int64_t k) {
  accumulate<First>(sum, x, w, width, k, ends[First]);
  if constexpr (First + 1 < NV) accumulate_all<First + 1>(sum, x, w, width, ends, ends[First]);
}

struct Best {
  float* z;         // rows z_row apart
  int32_t* argmax;  // rows `width` apart
  int64_t z_row;
};

// Position p of MR windows, whose rows are window_row apart, and of NV vectors of columns from v0 on.
template <int MR, int NV>
void position(const Best& best, const float* x, int64_t window_row, const float* packed, const float* bias,
              const CaserLayout& layout, int64_t v0, int64_t p) {
  const int64_t width = layout.width();
  Vec sum[MR][NV] = {};
  const float* rows[MR];
  int64_t ends[NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) rows[i] = x + i * window_row + p * layout.d;
  for (int v = 0; v < NV; ++v) ends[v] = std::min(layout.n_taps(v0 + v), layout.window - p) * layout.d;
  accumulate_all<0>(sum, rows, packed + v0 * kLanes, width, ends, 0);
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) {
    const int64_t column = (v0 + v) * kLanes;
    const int64_t n_valid = (layout.window - p) * layout.n_horizontal - column;  // higher filters do not fit here
    const Vec offset = load(bias + column);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      float* z = best.z + i * best.z_row + column;
      int32_t* argmax = best.argmax + i * width + column;
      const Vec score = keep_first(sum[i][v] + offset, n_valid), old = load(z);
      store(z, score > old ? score : old);
      store(argmax, score > old ? VecInt{} + static_cast<int32_t>(p) : load(argmax));
    }
  }
}

// z (d columns for every filter) of one window; may write up to a vector more.
void vertical(float* z, const float* x, const float* w_v, const float* b_v, int64_t window, int64_t d, int64_t n_v) {
  for (int64_t c = 0; c < n_v; ++c) {
    for (int64_t k = 0; k < d; k += kLanes) {
      Vec sum = broadcast(b_v != nullptr ? b_v[c] : 0.0f);
      for (int64_t l = 0; l < window; ++l) sum += load_up_to(x + l * d + k, d - k) * w_v[l * n_v + c];
      store(z + c * d + k, sum);
    }
  }
}

}  // namespace

template <>
void caser_forward<Cpu>(float* z, int32_t* argmax, const float* x, const CaserWeights& weights, const CaserSizes& sizes,
                        const DropoutMask& dropout, int n_threads) {
  const CaserLayout layout{sizes.window, sizes.d, sizes.n_horizontal};
  const int64_t width = layout.width(), n_vectors = width / kLanes, window_row = sizes.window * sizes.d;
  const int64_t n_maxima = sizes.n_maxima(), z_row = std::max(width, padded(sizes.width())) + kLanes;
  Arena& memory = call_arena();
  memory.reset(Arena::padded<float>(window_row * width) + Arena::padded<float>(width));
  float *packed = memory.take<float>(window_row * width), *bias = memory.take<float>(width);
  pack(packed, weights.w_h, layout);
  pack_rows(bias, weights.b_h, n_maxima, 1, n_maxima);
  const Dropout drop(dropout);
  parallel_for(sizes.n, kTile, n_threads, [&](int64_t begin, int64_t end, int) {
    Arena& arena = thread_arena();
    arena.reset(Arena::padded<float>(kRows * z_row) + Arena::padded<int32_t>(kRows * width));
    const Best best{arena.take<float>(kRows * z_row), arena.take<int32_t>(kRows * width), z_row};
    for (int64_t first = begin; first < end; first += kRows) {
      const int64_t n = std::min<int64_t>(kRows, end - first);
      for (int64_t i = 0; i < n; ++i) std::fill_n(best.z + i * z_row, width, 0.0f);
      std::fill_n(best.argmax, n * width, -1);
      for (int64_t v = 0; v < n_vectors; v += kVectors) {
        for (int64_t p = 0; p <= layout.last_position(v); ++p) {
          int64_t n_v = std::min<int64_t>(kVectors, n_vectors - v);
          while (layout.last_position(v + n_v - 1) < p) --n_v;
          with_tile<kRows, kVectors>(n, n_v, [&]<int MR, int NV>() {
            position<MR, NV>(best, x + first * window_row, window_row, packed, bias, layout, v, p);
          });
        }
      }
      for (int64_t i = 0; i < n; ++i) {
        float* row = best.z + i * z_row;
        vertical(row + n_maxima, x + (first + i) * window_row, weights.w_v, weights.b_v, sizes.window, sizes.d,
                 sizes.n_vertical);
        if (drop.active()) dropout_row(drop, row, first + i, sizes.width());
        std::copy_n(row, sizes.width(), z + (first + i) * sizes.width());
        std::copy_n(best.argmax + i * width, n_maxima, argmax + (first + i) * n_maxima);
      }
    }
  });
}

}  // namespace recsys_fast
