// A fully connected layer over tiles of rows. Backward in two passes: gradients before the activation, and of the
// inputs, row tile by row tile; then gradients of the weights, whose blocks are each summed over all rows by one
// worker.
#include "ops/dense.h"

#include "core/thread_pool.h"
#include "cpu/activations.h"
#include "cpu/block_gemm.h"
#include "cpu/block_tiles.h"
#include "cpu/row_packing.h"
#include "cpu/row_vectors.h"

namespace recsys_fast {
namespace {

constexpr int64_t kTile = 96;            // rows of a tile; a multiple of kTileRows
constexpr int64_t kWeightRows = 48;      // rows of w whose gradients a worker sums
constexpr int64_t kWeightColumns = 128;  // and columns
constexpr int64_t kSumRows = 96;         // rows of x and of g that stay in L1 meanwhile
constexpr int64_t kFewRows = 128;        // that would wait for the copy of a w with
constexpr int64_t kWide = 1024;          // as many rows

// Rows of a tile: few rows are shared by two threads.
int64_t tile_rows(int64_t n) {
  return n >= kTile ? kTile : std::max<int64_t>(2 * kTileRows, (n / 2 + kTileRows) / kTileRows * kTileRows);
}

// Whether the gradients of the inputs are made together with those of the weights, by blocks of rows of w.
bool by_blocks(int64_t n, int64_t d_in) { return n <= kFewRows && d_in >= kWide; }

// product() by pieces of the depth: of those a panel of b's columns stays in L1 while the rows of a pass. Few rows pass
// too fast to pay for sums that are stored and loaded often.
void product_by_depth(const Product& whole) {
  const int64_t depth = whole.n_i < kTile ? 512 : 128, n_parts = std::max<int64_t>(1, (whole.n_k + depth - 1) / depth);
  for (int64_t part = 0; part < n_parts; ++part) {
    const int64_t first = cut_rows(0, whole.n_k, n_parts, part), last = cut_rows(0, whole.n_k, n_parts, part + 1);
    Product p = whole;
    p.a += first;
    p.b += first * p.b_row;
    p.n_k = last - first;
    if (part > 0) p.start = nullptr;
    p.accumulate = part > 0;
    product(p);
  }
}

// y = D(activation(y)), of the batch's row `row`; pre, unless null, is y as it was.
template <Activation A>
void finish_row(float* y, float* pre, int64_t d, int64_t row, const Dropout& drop) {
  if (A != Activation::kIdentity || pre != nullptr) {
    for_vectors(d, [&](int64_t c, int64_t n) {
      const Vec v = load_up_to(y + c, n);
      if (pre != nullptr) store_up_to(pre + c, v, n);
      store_up_to(y + c, activate<A>(v), n);
    });
  }
  if (drop.active()) {
    for_masked_vectors(drop, row, d,
                       [&](int64_t c, int64_t n, Vec mask) { store_up_to(y + c, load_up_to(y + c, n) * mask, n); });
  }
}

// g (padded(d)) = dy times mask and slope.
template <Activation A>
void start_row(float* g, const float* dy, const float* y, const float* pre, int64_t d, int64_t row,
               const Dropout& drop) {
  const float undo = 1.0f / drop.scale;  // where an element was kept, y undo is the activation
  const auto start = [&](int64_t c, int64_t n, Vec mask) {
    const Vec before = pre != nullptr ? load_up_to(pre + c, n) : Vec{};
    const Vec after = load_up_to(y + c, n) * undo;
    store(g + c, load_up_to(dy + c, n) * mask * activation_slope<A>(after, before));
  };
  if (drop.active()) {
    for_masked_vectors(drop, row, d, start);
  } else {
    for_vectors(d, [&](int64_t c, int64_t n) { start(c, n, broadcast(1.0f)); });
  }
}

// y[r] = b + the product of row r with w, where the layer has one output.
void one_output(float* y, const float* x, int64_t n, const DenseLayer& layer) {
  const int64_t d = layer.d_in;
  for (int64_t r = 0; r < n; r += 8) {
    const int64_t m = std::min<int64_t>(8, n - r);
    Vec lanes[8] = {};
    float sums[8];
    for (int64_t i = 0; i < m; ++i) lanes[i] = dot_lanes(x + (r + i) * d, layer.w, d);
    reduce_add8(lanes, sums);
    for (int64_t i = 0; i < m; ++i) y[r + i] = layer.b != nullptr ? sums[i] + *layer.b : sums[i];
  }
}

// Of the gradients of w and b, and with `dx` of x, what one worker sums at a time: b's are those of a row of w more,
// which only ones are multiplied with.
struct WeightSums {
  float *dx, *dw, *db;
  const float *g, *x;
  int64_t n, g_row;
  const DenseLayer& layer;

  int64_t n_rows() const { return layer.d_in + (db != nullptr ? 1 : 0); }
  int64_t n_columns() const { return dx != nullptr ? 1 : (layer.d_out + kWeightColumns - 1) / kWeightColumns; }
  // An even number in all, which two threads share evenly.
  int64_t n_blocks() const {
    const int64_t n_blocks = (n_rows() + kWeightRows - 1) / kWeightRows;
    return n_blocks + (n_blocks % 2 != 0 && n_columns() % 2 != 0 ? 1 : 0);
  }

  // Rows [first, last) of w, columns [column, column + width).
  void run(int64_t first, int64_t last, int64_t column, int64_t width) const {
    const int64_t d_in = layer.d_in, d = layer.d_out, n_i = last - first, n_x = std::min(last, d_in) - first;
    const int64_t wp = padded(width);
    Arena& arena = thread_arena();
    arena.reset(Arena::padded<float>(kWeightRows * wp) + Arena::padded<float>(kWeightRows * kSumRows) +
                (dx != nullptr ? Arena::padded<float>(kWeightRows * d) : 0));
    float *c = arena.take<float>(kWeightRows * wp), *left = arena.take<float>(kWeightRows * kSumRows);
    if (dx != nullptr && n_x > 0) {
      float* turned = arena.take<float>(kWeightRows * d);
      pack_transpose(turned, layer.w + first * d, d, n_x, d);
      product({g, g_row, 1, turned, padded(n_x), dx + first, d_in, n, n_x, d});
    }
    if (n == 0) std::fill_n(c, n_i * wp, 0.0f);
    if (n_i > n_x) {
      for (int64_t k = 0; k < kSumRows; ++k) left[k * kWeightRows + n_x] = 1.0f;
    }
    for (int64_t r = 0; r < n; r += kSumRows) {
      const int64_t n_k = std::min(kSumRows, n - r);
      for (int64_t k = 0; k < n_k; ++k) {  // columns of wide rows would fall into few sets of the cache
        const float* from = x + (r + k) * d_in + first;
        for_vectors(n_x,
                    [&](int64_t i, int64_t m) { store_up_to(left + k * kWeightRows + i, load_up_to(from + i, m), m); });
      }
      if (d == 1) {  // the transpose, whose rows fill vectors
        product({g + r * g_row, 0, g_row, left, kWeightRows, c, kWeightRows, 1, n_i, n_k, nullptr, r > 0});
      } else {
        product({left, 1, kWeightRows, g + r * g_row + column, g_row, c, wp, n_i, width, n_k, nullptr, r > 0});
      }
    }
    if (d == 1) {
      std::copy_n(c, n_x, dw + first);
      if (n_i > n_x) *db = c[n_x];
      return;
    }
    copy_rows(dw + first * d + column, d, c, wp, n_x, width);
    if (n_i > n_x) std::copy_n(c + n_x * wp, width, db + column);
  }
};

}  // namespace

template <>
void dense_forward<Cpu>(float* y, float* pre, const float* x, int64_t n, const DenseLayer& layer, int n_threads) {
  const int64_t d_in = layer.d_in, d = layer.d_out;
  const bool as_it_is = d == 1 || (d == padded(d) && (d == spread(d) || n < kTile));
  const int64_t w_row = as_it_is ? d : spread(d);
  Arena& memory = call_arena();
  memory.reset((as_it_is ? 0 : Arena::padded<float>(d_in * w_row)) + Arena::padded<float>(padded(d)));
  float *b = memory.take<float>(padded(d)), *packed = memory.take<float>(as_it_is ? 0 : d_in * w_row);
  if (!as_it_is) {
    parallel_for(d_in, grain_rows(d), threads_for(d_in * d, n_threads), [&](int64_t begin, int64_t end, int) {
      pack_rows(packed + begin * w_row, layer.w + begin * d, d, end - begin, d, w_row);
    });
  }
  std::fill_n(b, padded(d), 0.0f);
  if (layer.b != nullptr) std::copy_n(layer.b, d, b);
  const Dropout drop(layer.dropout);
  parallel_for(n, tile_rows(n), n_threads, [&](int64_t begin, int64_t end, int) {
    if (d == 1) {
      one_output(y + begin, x + begin * d_in, end - begin, layer);
    } else {
      product_by_depth(
          {x + begin * d_in, d_in, 1, as_it_is ? layer.w : packed, w_row, y + begin * d, d, end - begin, d, d_in, b});
    }
    with_activation(layer.activation, [&]<Activation A>() {
      for (int64_t r = begin; r < end; ++r) {
        finish_row<A>(y + r * d, pre == nullptr ? nullptr : pre + r * d, d, r, drop);
      }
    });
  });
}

template <>
void dense_backward<Cpu>(float* dx, float* dw, float* db, const float* dy, const float* y, const float* pre,
                         const float* x, int64_t n, const DenseLayer& layer, int n_threads) {
  const int64_t d_in = layer.d_in, d = layer.d_out, w_row = spread(d_in), g_row = spread(d);
  Arena& memory = call_arena();
  const bool blocks = by_blocks(n, d_in), whole = dx != nullptr && !blocks;
  memory.reset((whole ? Arena::padded<float>(d * w_row) : 0) + Arena::padded<float>(n * g_row));
  float *w = memory.take<float>(whole ? d * w_row : 0), *g = memory.take<float>(n * g_row);
  if (whole) {
    parallel_for(d, grain_rows(d_in) / kLanes * kLanes + kLanes, threads_for(d * d_in, n_threads),
                 [&](int64_t begin, int64_t end, int) {
                   pack_transpose(w + begin * w_row, layer.w + begin, d, d_in, end - begin, w_row);
                 });
  }
  const Dropout drop(layer.dropout);
  parallel_for(n, tile_rows(n), n_threads, [&](int64_t begin, int64_t end, int) {
    with_activation(layer.activation, [&]<Activation A>() {
      for (int64_t r = begin; r < end; ++r) {
        start_row<A>(g + r * g_row, dy + r * d, y + r * d, pre == nullptr ? nullptr : pre + r * d, d, r, drop);
      }
    });
    if (whole) {
      product_by_depth({g + begin * g_row, g_row, 1, w, w_row, dx + begin * d_in, d_in, end - begin, d_in, d});
    }
  });
  const WeightSums sums{blocks ? dx : nullptr, dw, db, g, x, n, g_row, layer};
  const int64_t n_columns = sums.n_columns(), n_blocks = sums.n_blocks();
  parallel_for(n_blocks * n_columns, 1, n_threads, [&](int64_t part, int64_t, int) {
    const int64_t block = part / n_columns, column = n_columns == 1 ? 0 : part % n_columns * kWeightColumns;
    const int64_t width = n_columns == 1 ? d : std::min(kWeightColumns, d - column);
    sums.run(cut_rows(0, sums.n_rows(), n_blocks, block), cut_rows(0, sums.n_rows(), n_blocks, block + 1), column,
             width);
  });
}

}  // namespace recsys_fast
