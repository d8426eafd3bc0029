// The residual block of two dilated causal convolutions over tiles of whole sequences. Backward: slots of sequences
// that depend on row_ptr only sum into copies of their own, which are added in order.
#include "ops/conv.h"

#include "core/dropout.h"
#include "core/thread_pool.h"
#include "cpu/block_tiles.h"
#include "cpu/conv_norm.h"
#include "cpu/conv_tile.h"
#include "cpu/row_packing.h"

namespace recsys_fast {
namespace {

constexpr int64_t kForwardRows = 96;    // of a tile: with weights and results it stays in L2
constexpr int64_t kBackwardRows = 128;  // more, for the sums over them
constexpr int64_t kReduceRows = 32;     // rows of weights whose copies a worker adds

// A layer with rows padded to whole vectors.
struct PaddedLayer {
  float *w, *b, *gamma, *beta;
};

struct Shape {
  int64_t d, dp, n_taps;
  int64_t weights() const { return n_taps * d * dp; }
  // Bytes of one layer, or of its gradients.
  size_t bytes() const { return Arena::padded<float>(weights()) + 3 * Arena::padded<float>(dp); }
  PaddedLayer take(Arena& arena) const {
    float* w = arena.take<float>(weights());
    float *b = arena.take<float>(dp), *gamma = arena.take<float>(dp), *beta = arena.take<float>(dp);
    return {w, b, gamma, beta};
  }
};

// Taps side by side, padded; transposed (for the way back): tap by tap.
PaddedLayer pack(Arena& arena, const Shape& shape, const ConvLayer& layer, bool transposed) {
  const PaddedLayer out = shape.take(arena);
  const int64_t d = shape.d;
  if (transposed) {
    for (int64_t tap = 0; tap < shape.n_taps; ++tap) {
      pack_transpose(out.w + tap * d * shape.dp, layer.w + tap * d * d, d, d, d);
    }
    std::fill_n(out.b, shape.dp, 0.0f);
  } else {
    pack_rows(out.w, layer.w, d, shape.n_taps * d, d);
    pack_rows(out.b, layer.b, d, 1, d);
  }
  pack_rows(out.gamma, layer.gamma, d, 1, d);
  pack_rows(out.beta, layer.beta, d, 1, d);
  return out;
}

int64_t shift_of(int64_t tap, int64_t n_taps, int64_t dilation) { return (n_taps - 1 - tap) * dilation; }

// c = b + sum over taps of shifted rows of a times w. The tap without a shift comes first: it starts every row.
void convolve(float* c, const float* a, int64_t a_row, const PaddedLayer& layer, const Shape& shape, int64_t dilation,
              const TapRows& rows) {
  for (int64_t tap = shape.n_taps - 1; tap >= 0; --tap) {
    const int64_t shift = shift_of(tap, shape.n_taps, dilation);
    rows_times(c, 0, shift == 0 ? layer.b : nullptr, a, a_row, shift, layer.w + tap * shape.d * shape.dp, shape.dp,
               shape.d, rows.rows(), rows.count(shift));
  }
}

// da (+)= gradient of convolve by a; overwrites where `start` (a row) is given.
void convolve_back(float* da, const float* start, const float* dc, const PaddedLayer& transposed, const Shape& shape,
                   int64_t dilation, const TapRows& rows) {
  for (int64_t tap = shape.n_taps - 1; tap >= 0; --tap) {
    const int64_t shift = shift_of(tap, shape.n_taps, dilation);
    rows_times(da, shift, shift == 0 ? start : nullptr, dc, shape.dp, 0, transposed.w + tap * shape.d * shape.dp,
               shape.dp, shape.d, rows.rows(), rows.count(shift));
  }
}

void add_weight_gradient(float* dw, const float* a, int64_t a_row, const float* dc, const Shape& shape,
                         int64_t dilation, const TapRows& rows) {
  for (int64_t tap = 0; tap < shape.n_taps; ++tap) {
    const int64_t shift = shift_of(tap, shape.n_taps, dilation);
    rows_outer(dw + tap * shape.d * shape.dp, a, a_row, shift, shape.d, dc, shape.dp, rows.rows(), rows.count(shift));
  }
}

struct Gradients {
  PaddedLayer first, second;
};

// Gradients of one run of sequences [begin, end), a tile, added to `sums`.
void backward_tile(float* dx, const Gradients& sums, const float* dy, const ConvSaved<const float>& saved,
                   const Packed<const float>& x, int64_t begin, int64_t end, const PaddedLayer& first,
                   const PaddedLayer& second, const Shape& shape, const ConvBlock& block, const Dropout& drop) {
  const int64_t at = x.row_ptr[begin], n = x.row_ptr[end] - at, d = shape.d, dp = shape.dp;
  if (n == 0) return;
  Arena& arena = thread_arena();
  arena.reset(3 * Arena::padded<float>(n * dp) + TapRows::bytes(n));
  const TapRows rows(arena, x.row_ptr + begin, end - begin);
  float *g = arena.take<float>(n * dp), *h = arena.take<float>(n * dp), *into = arena.take<float>(n * dp);
  const float *normal1 = saved.normal1 + at * d, *normal2 = saved.normal2 + at * d, *inverse = saved.inverse + at * 2;
  pack_rows(g, dy + at * d, d, n, d);
  for (int64_t t = 0; t < n; ++t) {
    if (drop.active()) dropout_row(drop, g + t * dp, at + t, d);
    norm_relu_back(g + t * dp, sums.second.gamma, sums.second.beta, sums.second.b, normal2 + t * d, inverse[2 * t + 1],
                   second.gamma, second.beta, d);
    scale_relu(h + t * dp, normal1 + t * d, first.gamma, first.beta, d);
  }
  add_weight_gradient(sums.second.w, h, dp, g, shape, 2 * block.dilation, rows);
  convolve_back(into, second.b, g, second, shape, 2 * block.dilation, rows);  // packed transposed, b is all 0
  for (int64_t t = 0; t < n; ++t) {
    norm_relu_back(into + t * dp, sums.first.gamma, sums.first.beta, sums.first.b, normal1 + t * d, inverse[2 * t],
                   first.gamma, first.beta, d);
  }
  add_weight_gradient(sums.first.w, x.data + at * d, d, into, shape, block.dilation, rows);
  pack_rows(g, dy + at * d, d, n, d);  // what the residual branch passes on
  convolve_back(g, nullptr, into, first, shape, block.dilation, rows);
  copy_rows(dx + at * d, d, g, dp, n, d);
}

}  // namespace

template <>
void causal_conv_block_forward<Cpu>(float* y, ConvSaved<float> saved, Packed<const float> x, const ConvBlock& block,
                                    float eps, int n_threads) {
  const Shape shape{x.d, padded(x.d), block.kernel_size};
  const int64_t n_rows = x.row_ptr[x.n_sequences], d = shape.d, dp = shape.dp;
  Arena& memory = call_arena();
  memory.reset(2 * shape.bytes());
  const PaddedLayer first = pack(memory, shape, block.first, false), second = pack(memory, shape, block.second, false);
  const Dropout drop(block.dropout);
  parallel_for((n_rows + kForwardRows - 1) / kForwardRows, 1, n_threads, [&](int64_t tile, int64_t, int) {
    const int64_t begin = sequence_at(x.row_ptr, 0, x.n_sequences, tile * kForwardRows);
    const int64_t end = sequence_at(x.row_ptr, begin, x.n_sequences, (tile + 1) * kForwardRows);
    const int64_t at = x.row_ptr[begin], n = x.row_ptr[end] - at;
    if (n == 0) return;
    Arena& arena = thread_arena();
    arena.reset(2 * Arena::padded<float>(n * dp) + TapRows::bytes(n));
    const TapRows rows(arena, x.row_ptr + begin, end - begin);
    float *c = arena.take<float>(n * dp), *h = arena.take<float>(n * dp);
    convolve(h, x.data + at * d, d, first, shape, block.dilation, rows);
    for (int64_t t = 0; t < n; ++t) {
      saved.inverse[2 * (at + t)] =
          norm_relu(saved.normal1 + (at + t) * d, h + t * dp, first.gamma, first.beta, d, eps);
    }
    convolve(c, h, dp, second, shape, 2 * block.dilation, rows);
    for (int64_t t = 0; t < n; ++t) {
      float* row = c + t * dp;
      const int64_t place = (at + t) * d;
      saved.inverse[2 * (at + t) + 1] = norm_relu(saved.normal2 + place, row, second.gamma, second.beta, d, eps);
      if (drop.active()) dropout_row(drop, row, at + t, d);
      for (int64_t k = 0; k < d; k += kLanes) {
        store_up_to(y + place + k, load_up_to(x.data + place + k, d - k) + load(row + k), d - k);
      }
    }
  });
}

template <>
void causal_conv_block_backward<Cpu>(float* dx, ConvLayerGradients first, ConvLayerGradients second, const float* dy,
                                     ConvSaved<const float> saved, Packed<const float> x, const ConvBlock& block,
                                     int n_threads) {
  const Shape shape{x.d, padded(x.d), block.kernel_size};
  const int64_t n_rows = x.row_ptr[x.n_sequences], d = shape.d;
  const int64_t n_slots = most_slots(n_rows);
  Arena& memory = call_arena();
  memory.reset((2 + 2 * n_slots) * shape.bytes());
  const PaddedLayer one = pack(memory, shape, block.first, true), two = pack(memory, shape, block.second, true);
  Gradients sums[kMaxSlots];
  for (int64_t slot = 0; slot < n_slots; ++slot) sums[slot] = {shape.take(memory), shape.take(memory)};
  const auto stride = static_cast<int64_t>(2 * shape.bytes() / sizeof(float));  // from one slot to the next
  const Dropout drop(block.dropout);
  parallel_for(n_slots, 1, n_threads, [&](int64_t slot, int64_t, int) {
    std::fill_n(sums[slot].first.w, stride, 0.0f);
    const int64_t end = cut_sequences(x.row_ptr, 0, x.n_sequences, n_slots, slot + 1);
    int64_t begin = cut_sequences(x.row_ptr, 0, x.n_sequences, n_slots, slot);
    while (begin < end) {
      check_interrupt();
      int64_t next = begin + 1;
      while (next < end && x.row_ptr[next] - x.row_ptr[begin] < kBackwardRows) ++next;
      backward_tile(dx, sums[slot], dy, saved, x, begin, next, one, two, shape, block, drop);
      begin = next;
    }
  });
  const int64_t n_weights = shape.n_taps * d;
  parallel_for(2 * n_weights, kReduceRows, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const bool is_first = i < n_weights;
      const int64_t row = is_first ? i : i - n_weights;
      add_slot_row((is_first ? first.w : second.w) + row * d,
                   (is_first ? sums[0].first.w : sums[0].second.w) + row * shape.dp, stride, n_slots, d);
    }
  });
  for (const auto& [out, from] : {std::pair{first, sums[0].first}, std::pair{second, sums[0].second}}) {
    add_slot_row(out.b, from.b, stride, n_slots, d);
    add_slot_row(out.gamma, from.gamma, stride, n_slots, d);
    add_slot_row(out.beta, from.beta, stride, n_slots, d);
  }
}

}  // namespace recsys_fast
