// Gradients of Caser's convolutions. Behind the maximum a filter has a gradient at one position per window only: g
// times its weights goes to that slice of the window, g times that slice to its weights. Filter by filter (or slice by
// slice) the sums stay in registers.
#include "core/dropout.h"
#include "core/gemm.h"
#include "core/thread_pool.h"
#include "cpu/block_tiles.h"
#include "cpu/caser_layout.h"
#include "cpu/row_packing.h"

namespace recsys_fast {
namespace {

constexpr int64_t kTile = 16;                // windows whose slices stay in L1
constexpr int64_t kSlotWindows = 32;         // the fewest for a copy of the gradients
constexpr int64_t kReduceRows = 16;          // filters whose copies a worker adds
constexpr int kSums = kVectorRegisters / 2;  // vectors of a filter at once
constexpr int kVertical = 4;                 // vertical filters at once

// One slot's gradients: filters as in CaserLayout; w_v and b_v lane by lane, (window, n_vertical, kLanes) and
// (n_vertical, kLanes).
struct Sums {
  float *filters, *b_h, *w_v, *b_v;
};

struct Problem {
  CaserLayout layout;
  CaserSizes sizes;
  const float* filters;  // transposed weights
  const float* w_v;
  int64_t row() const { return sizes.window * sizes.d; }
  int64_t n_columns() const { return layout.n_columns(); }
};

// A tile's windows, their gradients, and per column the position's offset in its window; gradients are 0 where the
// maximum was 0.
struct Tile {
  int64_t n;
  const float* x;
  float *dx, *g;
  int32_t* offset;  // rows as long as those of g
  int64_t g_row;
};

// filters += sum over windows of g times the slice under the maximum.
void add_filter_gradients(const Sums& sums, const Tile& tile, const Problem& problem) {
  const int64_t row = problem.row(), n_columns = problem.n_columns(), n_h = problem.sizes.n_horizontal;
  for (int64_t column = 0; column < n_columns; ++column) {
    const int64_t height = column / n_h + 1, size = problem.layout.filter_size(height);
    float* out = sums.filters + problem.layout.filter_at(height, column % n_h);
    for (int64_t k = 0; k < size; k += kSums * kLanes) {
      with_tile<1, kSums>(1, (size - k) / kLanes, [&]<int, int NV>() {
        Vec sum[NV];
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) sum[v] = load(out + k + v * kLanes);
        for (int64_t i = 0; i < tile.n; ++i) {
          const Vec g = broadcast(tile.g[i * tile.g_row + column]);
          const float* slice = tile.x + i * row + tile.offset[i * tile.g_row + column] + k;
#pragma GCC unroll 16
          for (int v = 0; v < NV; ++v) sum[v] += g * load(slice + v * kLanes);
        }
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) store(out + k + v * kLanes, sum[v]);
      });
    }
  }
}

// dx of one window += sum over the filters of a height of g times their weights, at the slice under the maximum.
void add_slice_gradients(float* dx, const float* g, const int32_t* offset, int64_t height, const Problem& problem) {
  const int64_t d = problem.sizes.d, n_h = problem.sizes.n_horizontal, first = (height - 1) * n_h;
  const int64_t size = problem.layout.filter_size(height);
  const float* filters = problem.filters + problem.layout.filter_at(height, 0);
  for (int64_t p = 0; p + height <= problem.sizes.window; ++p) {
    const auto at = static_cast<int32_t>(p * d);
    for (int64_t f0 = 0; f0 < n_h; f0 += kLanes) {
      const int64_t n = std::min<int64_t>(kLanes, n_h - f0);
      uint32_t here = mask_eq(load_up_to(offset + first + f0, n), VecInt{} + at);
      if (n < kLanes) here &= (1u << n) - 1;
      if (here == 0) continue;
      for (int64_t k = 0; k < size; k += kSums * kLanes) {
        with_tile<1, kSums>(1, (size - k) / kLanes, [&]<int, int NV>() {
          float* out = dx + at + k;
          Vec sum[NV];
#pragma GCC unroll 16
          for (int v = 0; v < NV; ++v) sum[v] = load(out + v * kLanes);
          for (uint32_t bits = here; bits != 0; bits &= bits - 1) {
            const int64_t f = f0 + __builtin_ctz(bits);
            const Vec gradient = broadcast(g[first + f]);
            const float* w = filters + f * size + k;
#pragma GCC unroll 16
            for (int v = 0; v < NV; ++v) sum[v] += gradient * load(w + v * kLanes);
          }
#pragma GCC unroll 16
          for (int v = 0; v < NV; ++v) store(out + v * kLanes, sum[v]);
        });
      }
    }
  }
}

// Vertical filters of one window: g has d columns per filter. Overwrites dx, with zeros where there are no filters.
void vertical_gradients(const Sums& sums, float* dx, const float* x, const float* g, const Problem& problem) {
  const int64_t d = problem.sizes.d, n_v = problem.sizes.n_vertical, window = problem.sizes.window;
  if (n_v == 0) std::fill_n(dx, problem.row(), 0.0f);
  for (int64_t c = 0; c < n_v; c += kVertical) {
    with_tile<1, kVertical>(1, n_v - c, [&]<int, int NF>() {
      for (int64_t l = 0; l < window; ++l) {
        float* lanes = sums.w_v + (l * n_v + c) * kLanes;
        Vec sum[NF];
#pragma GCC unroll 8
        for (int f = 0; f < NF; ++f) sum[f] = load(lanes + f * kLanes);
        for (int64_t k = 0; k < d; k += kLanes) {
          const Vec row = load(x + l * d + k);  // what lies behind d meets zeros
          Vec into = c == 0 ? Vec{} : load(dx + l * d + k);
#pragma GCC unroll 8
          for (int f = 0; f < NF; ++f) {
            const Vec gradient = load_up_to(g + (c + f) * d + k, d - k);
            sum[f] += gradient * row;
            into += gradient * problem.w_v[l * n_v + c + f];
          }
          store(dx + l * d + k, into);  // rows ascend: what this writes behind d is written again, or is scratch
        }
#pragma GCC unroll 8
        for (int f = 0; f < NF; ++f) store(lanes + f * kLanes, sum[f]);
      }
#pragma GCC unroll 8
      for (int f = 0; f < NF; ++f) {
        float* lanes = sums.b_v + (c + f) * kLanes;
        Vec sum = load(lanes);
        for (int64_t k = 0; k < d; k += kLanes) sum += load_up_to(g + (c + f) * d + k, d - k);
        store(lanes, sum);
      }
    });
  }
}

void backward_tile(const Sums& sums, const Tile& tile, const Problem& problem) {
  const int64_t row = problem.row(), n_columns = problem.n_columns();
  for (int64_t i = 0; i < tile.n; ++i) {
    const float* g = tile.g + i * tile.g_row;
    vertical_gradients(sums, tile.dx + i * row, tile.x + i * row, g + n_columns, problem);
    for (int64_t k = 0; k < n_columns; k += kLanes) {
      store(sums.b_h + k, load(sums.b_h + k) + load_up_to(g + k, n_columns - k));
    }
  }
  for (int64_t height = 1; height <= problem.sizes.window; ++height) {  // one height's filters stay in L1
    for (int64_t i = 0; i < tile.n; ++i) {
      add_slice_gradients(tile.dx + i * row, tile.g + i * tile.g_row, tile.offset + i * tile.g_row, height, problem);
    }
  }
  add_filter_gradients(sums, tile, problem);
}

// g = dz times its mask, 0 in columns whose maximum was 0; offsets of positions.
void fill_tile(const Tile& tile, const float* dz, const int32_t* argmax, const Problem& problem, const Dropout& drop,
               int64_t first) {
  const int64_t n_columns = problem.n_columns(), width = problem.sizes.width();
  const auto d = static_cast<int32_t>(problem.sizes.d);
  for (int64_t i = 0; i < tile.n; ++i) {
    float* g = tile.g + i * tile.g_row;
    const float* given = dz + (first + i) * width;
    for (int64_t k = 0; k < width; k += kLanes) store(g + k, load_up_to(given + k, width - k));
    if (drop.active()) dropout_row(drop, g, first + i, width);
    const int32_t* places = argmax + (first + i) * n_columns;
    for (int64_t k = 0; k < n_columns; k += kLanes) {
      const VecInt place = load_up_to(places + k, n_columns - k);  // 0 behind the columns: g stays
      const Vec gradient = load(g + k);
      store(g + k, place < 0 ? Vec{} : gradient);
      store(tile.offset + i * tile.g_row + k, max(place, VecInt{}) * d);
    }
  }
}

}  // namespace

template <>
void caser_backward<Cpu>(float* dx, const CaserGradients& gradients, const float* dz, const int32_t* argmax,
                         const float* x, const CaserWeights& weights, const CaserSizes& sizes,
                         const DropoutMask& dropout, int n_threads) {
  const CaserLayout layout{sizes.window, sizes.d, sizes.n_horizontal};
  const int64_t n_columns = layout.n_columns(), n_h = sizes.n_horizontal, n_v = sizes.n_vertical;
  const int64_t n_slots = most_slots(sizes.n, kSlotWindows), row = sizes.window * sizes.d;
  const int64_t g_row = padded(sizes.width());
  const int64_t slot_size = layout.filters_size() + layout.width() + (sizes.window + 1) * n_v * kLanes;
  Arena& memory = call_arena();
  memory.reset(Arena::padded<float>(layout.filters_size()) + Arena::padded<float>(n_slots * slot_size));
  float* filters = memory.take<float>(layout.filters_size());
  float* slots = memory.take<float>(n_slots * slot_size);
  for (int64_t height = 1; height <= sizes.window; ++height) {
    pack_transpose(filters + layout.filter_at(height, 0), weights.w_h + layout.first_row(height) * n_h, n_h,
                   height * sizes.d, n_h);
  }
  const auto sums_of = [&](int64_t slot) {
    float* at = slots + slot * slot_size;
    float* b_h = at + layout.filters_size();
    return Sums{at, b_h, b_h + layout.width(), b_h + layout.width() + sizes.window * n_v * kLanes};
  };
  const Problem problem{layout, sizes, filters, weights.w_v};
  const Dropout drop(dropout);
  parallel_for(n_slots, 1, n_threads, [&](int64_t slot, int64_t, int) {
    Arena& arena = thread_arena();
    arena.reset(2 * Arena::padded<float>(kTile * row + kLanes) + Arena::padded<float>(kTile * g_row) +
                Arena::padded<int32_t>(kTile * g_row));
    float* copy = arena.take<float>(kTile * row + kLanes);
    float *into = arena.take<float>(kTile * row + kLanes), *g = arena.take<float>(kTile * g_row);
    Tile tile{0, nullptr, into, g, arena.take<int32_t>(kTile * g_row), g_row};
    const Sums sums = sums_of(slot);
    std::fill_n(sums.filters, slot_size, 0.0f);
    const int64_t stop = (slot + 1) * sizes.n / n_slots;
    for (int64_t first = slot * sizes.n / n_slots; first < stop; first += kTile) {
      check_interrupt();
      tile.n = std::min(kTile, stop - first);
      tile.x = x + first * row;
      if ((sizes.n - first - tile.n) * row < kLanes) {  // slices are read to the end of a vector
        std::copy_n(tile.x, tile.n * row, copy);
        std::fill_n(copy + tile.n * row, kLanes, 0.0f);
        tile.x = copy;
      }
      fill_tile(tile, dz, argmax, problem, drop, first);
      backward_tile(sums, tile, problem);
      std::copy_n(tile.dx, tile.n * row, dx + first * row);
    }
  });
  parallel_for(n_columns, kReduceRows, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t column = begin; column < end; ++column) {
      const int64_t height = column / n_h + 1, f = column % n_h, at = layout.filter_at(height, f);
      add_slot_row(slots + at, slots + at, slot_size, n_slots, layout.filter_size(height));
    }
  });
  for (int64_t slot = 1; slot < n_slots; ++slot) {  // the rest is small
    float* into = sums_of(0).b_h;
    const float* from = sums_of(slot).b_h;
    for (int64_t k = 0; k < slot_size - layout.filters_size(); k += kLanes)
      store(into + k, load(into + k) + load(from + k));
  }
  for (int64_t height = 1; height <= sizes.window; ++height) {
    const float* from = slots + layout.filter_at(height, 0);
    float* out = gradients.w_h + layout.first_row(height) * n_h;
    const int64_t size = layout.filter_size(height);
    for (int64_t k = 0; k < height * sizes.d; ++k) {
      for (int64_t f = 0; f < n_h; ++f) out[k * n_h + f] = from[f * size + k];
    }
  }
  const Sums total = sums_of(0);
  std::copy_n(total.b_h, n_columns, gradients.b_h);
  for (int64_t i = 0; i < sizes.window * n_v; ++i) gradients.w_v[i] = reduce_add(load(total.w_v + i * kLanes));
  if (gradients.b_v != nullptr) {
    for (int64_t c = 0; c < n_v; ++c) gradients.b_v[c] = reduce_add(load(total.b_v + c * kLanes));
  }
}

}  // namespace recsys_fast
