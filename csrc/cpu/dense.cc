// A fully connected layer over tiles of rows. Backward in two passes: gradients before the activation, and of the
// inputs, row tile by row tile; then gradients of the weights, whose blocks are each summed over all rows by one
// worker.
#include "ops/dense.h"

#include "core/dropout.h"
#include "core/gemm.h"
#include "core/thread_pool.h"
#include "cpu/activations.h"
#include "cpu/block_tiles.h"
#include "cpu/row_packing.h"

namespace recsys_fast {
namespace {

constexpr int64_t kTile = 96;        // rows of a tile; a multiple of kTileRows
constexpr int64_t kWeightRows = 48;  // rows of w whose gradients a worker sums
constexpr int64_t kSumRows = 128;    // rows of x that stay in L1 meanwhile
constexpr int64_t kDepth = 512;      // rows of w that stay in L2 while a tile's rows pass

// Rows of a tile: few rows are shared by two threads.
int64_t tile_rows(int64_t n) {
  return n >= kTile ? kTile : std::max<int64_t>(2 * kTileRows, (n / 2 + kTileRows) / kTileRows * kTileRows);
}

// Whether the gradients of the inputs are made together with those of the weights, by blocks of rows of w: few rows
// would wait for the copy of a large w.
bool by_blocks(int64_t n, int64_t d_in) { return n <= kSumRows && d_in >= 2 * kDepth; }

// y = D(activation(row)); row (padded(d)) has the bias added already and is spoilt.
template <Activation A>
void finish_row(float* y, float* pre, float* row, int64_t d, int64_t at, const Dropout& drop) {
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec v = load(row + k);
    if (pre != nullptr) store_up_to(pre + k, v, d - k);
    store(row + k, activate<A>(v));
  }
  if (drop.active()) dropout_row(drop, row, at, d);
  for (int64_t k = 0; k < d; k += kLanes) store_up_to(y + k, load(row + k), d - k);
}

// g (padded(d)) = dy times mask and slope. mask: scratch of padded(d).
template <Activation A>
void start_row(float* g, const float* dy, const float* y, const float* pre, float* mask, int64_t d, int64_t at,
               const Dropout& drop) {
  std::fill_n(mask, padded(d), 1.0f);
  if (drop.active()) dropout_row(drop, mask, at, d);
  const float undo = 1.0f / drop.scale;  // where an element was kept, y undo is the activation
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec before = pre != nullptr ? load_up_to(pre + k, d - k) : Vec{};
    const Vec after = load_up_to(y + k, d - k) * undo;
    store(g + k, load_up_to(dy + k, d - k) * load(mask + k) * activation_slope<A>(after, before));
  }
}

}  // namespace

template <>
void dense_forward<Cpu>(float* y, float* pre, const float* x, int64_t n, const DenseLayer& layer, int n_threads) {
  const int64_t d_in = layer.d_in, d = layer.d_out, dp = padded(d);
  Arena& memory = call_arena();
  memory.reset((d == dp ? 0 : Arena::padded<float>(d_in * dp)) + Arena::padded<float>(dp));
  float *b = memory.take<float>(dp), *packed = memory.take<float>(d == dp ? 0 : d_in * dp);
  if (d != dp) pack_rows(packed, layer.w, d, d_in, d);
  const float* w = d == dp ? layer.w : packed;
  std::fill_n(b, dp, 0.0f);
  if (layer.b != nullptr) std::copy_n(layer.b, d, b);
  const Dropout drop(layer.dropout);
  parallel_for(n, tile_rows(n), n_threads, [&](int64_t begin, int64_t end, int) {
    Arena& arena = thread_arena();
    arena.reset(Arena::padded<float>(kTile * dp));
    float* out = arena.take<float>(kTile * dp);
    for (int64_t r = 0; r < end - begin; ++r) std::copy_n(b, dp, out + r * dp);
    for (int64_t k = 0; k < d_in; k += kDepth) {
      gemm(out, dp, x + begin * d_in + k, d_in, w + k * dp, dp, end - begin, dp, std::min(kDepth, d_in - k), true);
    }
    with_activation(layer.activation, [&]<Activation A>() {
      for (int64_t r = begin; r < end; ++r) {
        finish_row<A>(y + r * d, pre == nullptr ? nullptr : pre + r * d, out + (r - begin) * dp, d, r, drop);
      }
    });
  });
}

template <>
void dense_backward<Cpu>(float* dx, float* dw, float* db, const float* dy, const float* y, const float* pre,
                         const float* x, int64_t n, const DenseLayer& layer, int n_threads) {
  const int64_t d_in = layer.d_in, ip = padded(d_in), d = layer.d_out, dp = padded(d);
  Arena& memory = call_arena();
  const bool blocks = by_blocks(n, d_in), whole = dx != nullptr && !blocks;
  memory.reset((whole ? Arena::padded<float>(d * ip) : 0) + Arena::padded<float>(n * dp) +
               2 * Arena::padded<float>(dp));
  float *w = memory.take<float>(whole ? d * ip : 0), *g = memory.take<float>(n * dp);
  float *sum = memory.take<float>(dp), *part = memory.take<float>(dp);
  if (whole) pack_transpose(w, layer.w, d, d_in, d);
  const Dropout drop(layer.dropout);
  parallel_for(n, kTile, n_threads, [&](int64_t begin, int64_t end, int) {
    Arena& arena = thread_arena();
    arena.reset((whole ? Arena::padded<float>(kTile * ip) : 0) + Arena::padded<float>(dp));
    float *into = arena.take<float>(whole ? kTile * ip : 0), *mask = arena.take<float>(dp);
    with_activation(layer.activation, [&]<Activation A>() {
      for (int64_t r = begin; r < end; ++r) {
        start_row<A>(g + r * dp, dy + r * d, y + r * d, pre == nullptr ? nullptr : pre + r * d, mask, d, r, drop);
      }
    });
    if (!whole) return;
    gemm(into, ip, g + begin * dp, dp, w, ip, end - begin, ip, d, false);
    copy_rows(dx + begin * d_in, d_in, into, ip, end - begin, d_in);
  });
  const int64_t n_blocks = (d_in + kWeightRows - 1) / kWeightRows;
  parallel_for(n_blocks + 1, 1, n_threads, [&](int64_t block, int64_t, int) {
    if (block == n_blocks) {
      if (db == nullptr) return;
      std::fill_n(sum, dp, 0.0f);
      for (int64_t r = 0; r < n; r += kSumRows) {
        std::fill_n(part, dp, 0.0f);
        for (int64_t i = r; i < std::min(n, r + kSumRows); ++i) axpy(part, 1.0f, g + i * dp, dp);
        axpy(sum, 1.0f, part, dp);
      }
      std::copy_n(sum, d, db);
      return;
    }
    const int64_t first = block * kWeightRows, n_i = std::min(kWeightRows, d_in - first);
    Arena& arena = thread_arena();
    arena.reset(2 * Arena::padded<float>(kWeightRows * dp) + 2 * Arena::padded<float>(kWeightRows * kSumRows));
    float *c = arena.take<float>(kWeightRows * dp), *left = arena.take<float>(kWeightRows * kSumRows);
    if (dx != nullptr && blocks) {
      float *turned = arena.take<float>(kWeightRows * dp), *into = arena.take<float>(kWeightRows * kSumRows);
      const int64_t np = padded(n_i);
      pack_transpose(turned, layer.w + first * d, d, n_i, d);
      gemm(into, np, g, dp, turned, np, n, np, d, false);
      copy_rows(dx + first, d_in, into, np, n, n_i);
    }
    std::fill_n(c, n_i * dp, 0.0f);
    for (int64_t r = 0; r < n; r += kSumRows) {
      const int64_t n_k = std::min(kSumRows, n - r);
      for (int64_t k = 0; k < n_k; ++k) {  // columns of wide rows would fall into few sets of the cache
        std::copy_n(x + (r + k) * d_in + first, n_i, left + k * kWeightRows);
      }
      for (int64_t j = 0; j < dp; j += kTileVectors * kLanes) {
        const int n_vectors = static_cast<int>(std::min<int64_t>(kTileVectors, (dp - j) / kLanes));
        for (int64_t i = 0; i < n_i; i += kTileRows) {
          const int n_rows = static_cast<int>(std::min<int64_t>(kTileRows, n_i - i));
          gemm_tile_any(n_rows, n_vectors, n_k, left + i, 1, kWeightRows, g + r * dp + j, dp, c + i * dp + j, dp, 1.0f,
                        true);
        }
      }
    }
    copy_rows(dw + first * d, d, c, dp, n_i, d);
  });
}

}  // namespace recsys_fast
