#include "ops/feed_forward.h"

#include "cpu/activations.h"
#include "cpu/block_gemm.h"
#include "cpu/block_residual.h"
#include "cpu/row_packing.h"

namespace recsys_fast {
namespace {

// Parameters with rows padded to whole vectors; w1 and w2 transposed for the backward pass.
struct Packed {
  BlockFrame frame;
  const float *w1, *b1, *w2, *b2;
};

BlockFrame frame_of(const FeedForwardShape& s, Arena& arena, const FeedForwardParameters<const float>& w) {
  return {s.norm,
          s.eps,
          s.d,
          padded_vector(arena, w.gamma, s.d),
          padded_vector(arena, w.beta, s.d),
          Dropout(s.masks.outer)};
}

// Rows [row, row + n) through the whole block.
void forward_tile(const FeedForwardShape& s, const Dropout& drop, const Packed& w, const float* x, float* y,
                  const FeedForwardSaved<float>& saved, int64_t row, int64_t n) {
  const int64_t d = s.d, dp = padded(d), h = s.h, hp = padded(h);
  Arena& arena = thread_arena();
  arena.reset(sizeof(float) * (2 * tile_floats(n, dp) + tile_floats(n, hp)) + 16 * Arena::kAlign);
  float* hidden = arena.take<float>(tile_floats(n, hp));
  float* out = arena.take<float>(tile_floats(n, dp));
  const ConstRowsAt input = input_rows(w.frame, arena, x, saved.stats, row, n);
  product({input.data, input.row, 1, w.w1, hp, hidden, hp, n, h, d, w.b1});
  with_activation(s.activation, [&]<Activation kind>() {
    for (int64_t i = 0; i < n; ++i) {
      float *at = hidden + i * hp, *kept = saved.hidden + (row + i) * h;
      for (int64_t k = 0; k < h; k += kLanes) {
        const Vec before = load(at + k);
        store_up_to(kept + k, before, h - k);
        store(at + k, activate<kind>(before));
      }
      if (drop.active()) dropout_row(drop, at, row + i, h);
    }
  });
  product({hidden, hp, 1, w.w2, dp, out, dp, n, d, h, w.b2});
  add_residual(w.frame, y, saved.mid, saved.stats, out, x, input, row, n);
}

// Where the gradients of one slot are.
struct Slot {
  float *gamma, *beta, *w1, *b1, *w2, *b2;
};

// Rows [row, row + n) back through the whole block; adds to the slot.
void backward_tile(const FeedForwardShape& s, const Dropout& drop, const Packed& w, const float* x,
                   const FeedForwardSaved<const float>& saved, const float* dy, float* dx, const Slot& slot,
                   int64_t row, int64_t n) {
  const int64_t d = s.d, dp = padded(d), h = s.h, hp = padded(h);
  Arena& arena = thread_arena();
  arena.reset(sizeof(float) * (4 * tile_floats(n, dp) + 2 * tile_floats(n, hp)) + 16 * Arena::kAlign);
  float* dsum = arena.take<float>(tile_floats(n, dp));
  float* dout = arena.take<float>(tile_floats(n, dp));
  float* back = arena.take<float>(tile_floats(n, dp));
  float* inner = arena.take<float>(tile_floats(n, hp));
  float* dinner = arena.take<float>(tile_floats(n, hp));
  residual_back(w.frame, dsum, dout, dy, saved.mid, saved.stats, slot.gamma, slot.beta, row, n);
  product({dout, dp, 1, w.w2, hp, dinner, hp, n, h, d});
  with_activation(s.activation, [&]<Activation kind>() {
    for (int64_t i = 0; i < n; ++i) {
      const float* before = saved.hidden + (row + i) * h;
      float *at = inner + i * hp, *gradient = dinner + i * hp;
      for (int64_t k = 0; k < h; k += kLanes) {
        const Vec value = load_up_to(before + k, h - k);
        store(at + k, activate<kind>(value));
        store(gradient + k, load(gradient + k) * activation_slope<kind>(value));
      }
      if (!drop.active()) continue;
      dropout_row(drop, at, row + i, h);
      dropout_row(drop, gradient, row + i, h);
    }
  });
  product({inner, 1, hp, dout, dp, slot.w2, dp, h, d, n, nullptr, true});
  add_column_sums(slot.b2, dout, dp, n, d);
  const ConstRowsAt input = input_rows_again(w.frame, arena, x, saved.stats, row, n);
  product({input.data, 1, input.row, dinner, hp, slot.w1, hp, d, h, n, nullptr, true});
  add_column_sums(slot.b1, dinner, hp, n, h);
  product({dinner, hp, 1, w.w1, dp, back, dp, n, d, h});
  input_back(w.frame, dx, back, dsum, nullptr, x, saved.stats, slot.gamma, slot.beta, row, n);
}

}  // namespace

template <>
void feed_forward_block_forward<Cpu>(const FeedForwardShape& s, const FeedForwardParameters<const float>& w,
                                     const float* x, float* y, const FeedForwardSaved<float>& saved, int n_threads) {
  const int64_t d = s.d, dp = padded(d), h = s.h, hp = padded(h);
  const Dropout drop(s.masks.inner);
  Arena& arena = call_arena();
  arena.reset(sizeof(float) * (d * hp + h * dp + 3 * dp + hp) + 16 * Arena::kAlign);
  float *w1 = arena.take<float>(d * hp), *w2 = arena.take<float>(h * dp);
  pack_rows(w1, w.w1, h, d, h);
  pack_rows(w2, w.w2, d, h, d);
  const Packed p{frame_of(s, arena, w), w1, padded_vector(arena, w.b1, h), w2, padded_vector(arena, w.b2, d)};
  const int64_t n_tiles = count_tiles(s.n_rows);
  parallel_for(n_tiles, 1, n_threads, [&](int64_t tile, int64_t, int) {
    const int64_t first = cut_rows(0, s.n_rows, n_tiles, tile);
    forward_tile(s, drop, p, x, y, saved, first, cut_rows(0, s.n_rows, n_tiles, tile + 1) - first);
  });
}

template <>
void feed_forward_block_backward<Cpu>(const FeedForwardShape& s, const FeedForwardParameters<const float>& w,
                                      const float* x, const FeedForwardSaved<const float>& saved, const float* dy,
                                      float* dx, const FeedForwardParameters<float>& gradients, int n_threads) {
  const int64_t d = s.d, dp = padded(d), h = s.h, hp = padded(h);
  const Dropout drop(s.masks.inner);
  SlotSum sums[] = {{gradients.gamma, 1, d}, {gradients.beta, 1, d}, {gradients.w1, d, h},
                    {gradients.b1, 1, h},    {gradients.w2, h, d},   {gradients.b2, 1, d}};
  const int64_t slot_floats = place_sums(sums, 6), n_slots = count_slots(s.n_rows);
  Arena& arena = call_arena();
  arena.reset(sizeof(float) * (n_slots * slot_floats + h * dp + d * hp + 2 * dp) + 16 * Arena::kAlign);
  float* slots = arena.take<float>(n_slots * slot_floats);
  float *w1 = arena.take<float>(h * dp), *w2 = arena.take<float>(d * hp);
  pack_transpose(w1, w.w1, h, d, h);
  pack_transpose(w2, w.w2, d, h, d);
  const Packed p{frame_of(s, arena, w), w1, nullptr, w2, nullptr};
  parallel_for(n_slots, 1, n_threads, [&](int64_t slot, int64_t, int) {
    float* base = slots + slot * slot_floats;
    std::fill_n(base, slot_floats, 0.0f);
    const auto at = [&](int k) { return sums[k].out == nullptr ? nullptr : base + sums[k].offset; };
    const Slot copies{at(0), at(1), at(2), at(3), at(4), at(5)};
    const int64_t first = cut_rows(0, s.n_rows, n_slots, slot), last = cut_rows(0, s.n_rows, n_slots, slot + 1);
    const int64_t n_tiles = count_tiles(last - first);
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
      const int64_t row = cut_rows(first, last, n_tiles, tile);
      backward_tile(s, drop, p, x, saved, dy, dx, copies, row, cut_rows(first, last, n_tiles, tile + 1) - row);
      check_interrupt();
    }
  });
  for (const SlotSum& sum : sums) add_slots(sum, slots, slot_floats, n_slots, n_threads);
}

}  // namespace recsys_fast
