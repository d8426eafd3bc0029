// Ridge regression of every item on few others, by a block of threads per item: what the item has in common with all
// (product_rows.h) chooses the others, whose system is factored in tiles (als_system.h). The others' products come from
// x^T x where that takes little beside counting it; else each of them counts its row from its users' rows, a warp per
// row, in the order of the users.
#include <algorithm>

#include "cuda/als_system.h"
#include "cuda/item_weights.h"
#include "cuda/product_rows.h"

namespace recsys_fast {
namespace {

constexpr int kTile = 64, kThreads = kTileThreads<kTile>;
constexpr float kNoise = 1e-7f;  // a pivot that lost all but this share of its diagonal is rounding noise
constexpr int64_t kMostGram = int64_t{1} << 30;   // entries of x^T x: 4 GB
constexpr int64_t kRoomBytes = int64_t{1} << 30;  // of scratch, all blocks together
constexpr int64_t kResident = 2;                  // blocks on a multiprocessor, by registers
constexpr uint32_t kUntouched = 0x80000000u;      // of -0, which no sum that was added to is
static_assert(kThreads == kProductThreads);

struct RidgeTask {
  ItemWeights out;
  SparseRows<float> rows;  // x^T times x
  Panel panel;             // all columns
  const float* gram;       // x^T x, or null
  const float* norms;
  float regularization;
  int64_t width;  // most items that one is predicted from, n_items - 1 at most: then all others
  int32_t* taken;
  int32_t* failed;
};

// A block's own scratch.
struct RidgeRoom {
  float* sums;      // (n_items) what each has in common with the item
  int32_t* chosen;  // (width)
  int32_t* places;  // (n_items) place among the chosen and 1, or 0; null beside x^T x, as is
  float* counted;   // (width, width) products of the chosen
  float* factor;    // als_factor_floats
};

struct RidgeSizes {
  int64_t n_items, width;
  bool counts;

  RF_HOST_DEVICE int64_t floats() const {
    return n_items + (counts ? width * width : 0) + als_factor_floats<kTile>(width);
  }
  RF_HOST_DEVICE int64_t ints() const { return width + (counts ? n_items : 0); }
  __device__ RidgeRoom room(float* floats_of_all, int32_t* ints_of_all) const {
    float *sums = floats_of_all + floats() * blockIdx.x, *counted = sums + n_items;
    int32_t* chosen = ints_of_all + ints() * blockIdx.x;
    return {sums, chosen, counts ? chosen + width : nullptr, counted, counted + (counts ? width * width : 0)};
  }
};

// The items that `item` is predicted from, ascending; returns how many.
__device__ int64_t choose(const RidgeTask& task, const RidgeRoom& room, int64_t item, const SelectMemory& memory) {
  const int64_t n = task.rows.b.n_cols;
  const bool all = task.width == n - 1;
  return keep_largest(
      n, task.width, memory,
      [&](int64_t p) -> uint64_t {
        const float sum = room.sums[p];
        if (p == item) return 0;
        if (all) return 1;
        if (__float_as_uint(sum) == kUntouched) return 0;
        return rank_key(sum * tile_rsqrt(task.norms[p] + task.regularization), static_cast<int32_t>(p));
      },
      [&](int64_t at, int64_t p) { room.chosen[at] = static_cast<int32_t>(p); });
}

// room.counted = the products of the m chosen below the diagonal.
__device__ void count_products(const RidgeTask& task, const RidgeRoom& room, int64_t m) {
  const Csr &t = task.rows.a, &x = task.rows.b;
  for (int64_t e = threadIdx.x; e < m * m; e += kThreads) room.counted[e] = 0.0f;
  for (int64_t r = threadIdx.x; r < m; r += kThreads) room.places[room.chosen[r]] = static_cast<int32_t>(r + 1);
  __syncthreads();
  for (int64_t r = threadIdx.x / kWarpSize; r < m; r += kThreads / kWarpSize) {
    const int64_t item = room.chosen[r];
    for (int64_t e = t.row_ptr[item]; e < t.row_ptr[item + 1]; ++e) {
      const int64_t u = t.col_idx[e];
      const float value = t.values == nullptr ? 1.0f : t.values[e];
      for (int64_t k = x.row_ptr[u] + Warp::lane(); k < x.row_ptr[u + 1]; k += kWarpSize) {
        const int64_t place = room.places[x.col_idx[k]] - 1;
        if (place >= 0 && place < r) room.counted[r * m + place] += x.values == nullptr ? value : value * x.values[k];
      }
      __syncwarp();  // the next user may hold the same items in other lanes
    }
  }
  __syncthreads();
}

// Dynamic shared memory for task.width numbers, rounded up to tiles.
__global__ void __launch_bounds__(kThreads, 2)
    ridge_kernel(RidgeTask task, RidgeSizes sizes, float* floats, int32_t* ints) {
  RF_SHARED(float, panels, kTilePanels<kTile>);
  RF_SHARED(float, diagonal, kTile* kTileStride<kTile>);
  RF_SHARED(float, inverse, kTile);
  RF_SHARED(int, broken, 1);
  RF_SHARED(double, parts, 32);
  RF_SHARED(int32_t, place, 1);
  RF_SELECT_MEMORY(select)
  RF_DYNAMIC_SHARED(float, z);
  const RidgeRoom room = sizes.room(floats, ints);
  const int64_t n = task.rows.b.n_cols;
  while (true) {
    const int64_t row = next_item(task.taken, task.out.ids.n, place);
    if (row < 0) return;
    const int64_t item = task.out.items[row];
    task.rows.sum(room.sums, item, task.panel, SameBlank{-0.0f});
    __syncthreads();
    const int64_t m = choose(task, room, item, select), padded = (m + kTile - 1) / kTile * kTile;
    __syncthreads();
    if (m == 0) {
      if (threadIdx.x == 0) task.out.counts[row] = 0;
      continue;
    }
    if (task.gram == nullptr) count_products(task, room, m);
#pragma unroll 1
    for (int64_t i = threadIdx.x; i < padded; i += kThreads) z[i] = i < m ? room.sums[room.chosen[i]] + 0.0f : 0.0f;
    __syncthreads();
    const auto norm = [&](int64_t i) { return task.norms[room.chosen[i]] + task.regularization; };
    AlsSystem<kTile> system({panels, diagonal, inverse, z, broken, parts}, room.factor, m);
    const double square = system.solve_matrix(
        [&](int64_t i, int64_t j) {
          if (i == j) return norm(i);
          return task.gram == nullptr ? room.counted[i * m + j] : task.gram[room.chosen[i] * n + room.chosen[j]];
        },
        [&](int64_t i) { return kNoise * norm(i); });
    bool bad = !is_finite(square);
#pragma unroll 1
    for (int64_t i = threadIdx.x; i < m; i += kThreads) bad |= !is_finite(double{z[i]});
    bad = __syncthreads_or(bad ? 1 : 0) != 0;
#pragma unroll 1
    for (int64_t i = threadIdx.x; i < m; i += kThreads) {
      if (task.gram == nullptr) room.places[room.chosen[i]] = 0;
      if (bad) continue;
      task.out.ids.row(row)[i] = room.chosen[i];
      task.out.values.row(row)[i] = z[i];
    }
    if (threadIdx.x == 0) {
      task.out.counts[row] = bad ? 0 : static_cast<int32_t>(m);
      if (bad) atomicAdd(task.failed, 1);
    }
  }
}

// Whether x^T x is worth its n_items^2 entries: counting it takes the sum of the squares of the rows' lengths, which is
// nnz^2 / n_users or more.
bool gram_pays(int64_t n_items, int64_t n_users, int64_t nnz) {
  const double work = static_cast<double>(nnz) * static_cast<double>(nnz) / static_cast<double>(n_users);
  return n_items * n_items <= kMostGram && static_cast<double>(n_items * n_items) <= 4.0 * work;
}

}  // namespace

template <>
int64_t ridge_solve<Cuda>(const ItemWeights& out, const Csr& t, const Csr& x, double regularization, int n_threads) {
  if (out.ids.n == 0) return 0;
  const Stream stream = current_stream();
  const int64_t n = t.n_rows, width = std::min(out.ids.d, n - 1);
  const int64_t nnz = x.n_rows == 0 ? 0 : read_element(x.row_ptr + x.n_rows, stream);
  const bool counts = !gram_pays(n, std::max<int64_t>(1, x.n_rows), nnz);
  DeviceBuffer<float> norms(n, stream), gram(counts ? 0 : n * n, stream);
  DeviceBuffer<int32_t> counters(2, stream);
  fill_zero(counters.data(), 2, stream);
  squared_norms(norms.data(), nullptr, t, stream);
  if (!counts) csr_gram<Cuda>(gram.data(), t, x, 0.0f, n_threads);
  DeviceBuffer<int64_t> splits(x.n_rows * (kProductWarps + 1), stream);
  Panel panel = first_panel(n, n);
  panel.width = static_cast<int>(n);
  product_splits(splits.data(), x, panel, stream);
  const RidgeSizes sizes{n, width, counts};
  const int64_t bytes = int64_t{sizeof(float)} * (sizes.floats() + sizes.ints());
  const int64_t most = std::min(n_multiprocessors() * kResident, kRoomBytes / bytes);
  const int64_t n_blocks = std::max<int64_t>(1, std::min(out.ids.n, most));
  DeviceBuffer<float> floats(n_blocks * sizes.floats(), stream);
  DeviceBuffer<int32_t> ints(n_blocks * sizes.ints(), stream);
  fill_zero(ints.data(), ints.size(), stream);
  const RidgeTask task{out,
                       SparseRows<float>{t, x, splits.data()},
                       panel,
                       gram.data(),
                       norms.data(),
                       static_cast<float>(regularization),
                       width,
                       counters.data(),
                       counters.data() + 1};
  launch(ridge_kernel, dim3(static_cast<unsigned>(n_blocks)), dim3(kThreads),
         static_cast<size_t>((width + kTile - 1) / kTile * kTile) * sizeof(float), stream, task, sizes, floats.data(),
         ints.data());
  return read_element(counters.data() + 1, stream);
}

}  // namespace recsys_fast
