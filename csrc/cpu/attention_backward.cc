#include "cpu/attention_block.h"
#include "ops/attention.h"

namespace recsys_fast {
namespace {

// Weights transposed for the gradients of activations.
struct Packed {
  BlockFrame frame;
  const float *w_qkv, *w_out;  // (3 d, padded(d)), (d, padded(d))
};

// Where the gradients of one slot are.
struct Slot {
  float *gamma, *beta, *w_qkv, *b_qkv, *w_out, *b_out;
};

// Sequences [first, last) back through the whole block; adds to the slot.
void backward_tile(const AttentionShape& s, const Heads& h, const Packed& w, const float* x,
                   const AttentionSaved<const float>& saved, const float* dy, float* dx, const Slot& slot,
                   int64_t first, int64_t last) {
  const int64_t d = s.d, dp = padded(d), wide = padded(3 * d), row = s.row_ptr[first];
  const int64_t n = s.row_ptr[last] - row;
  if (n == 0) return;
  Arena& arena = thread_arena();
  arena.reset(sizeof(float) * (6 * tile_floats(n, dp) + 2 * tile_floats(n, wide) + head_scratch_floats(d)) +
              16 * Arena::kAlign);
  HeadRows t{};
  head_scratch(t, arena, d);
  t.qkv = arena.take<float>(tile_floats(n, wide));
  t.dqkv = arena.take<float>(tile_floats(n, wide));
  t.qkv_row = wide;
  t.context_row = dp;
  t.results = saved.context + row * d;
  t.lse = const_cast<float*>(saved.lse);
  float* dsum = arena.take<float>(tile_floats(n, dp));
  float* dout = arena.take<float>(tile_floats(n, dp));
  float* back = arena.take<float>(tile_floats(n, dp));

  residual_back(w.frame, dsum, dout, dy, saved.mid, saved.stats, slot.gamma, slot.beta, row, n);
  t.gradient = dout;
  if (w.w_out != nullptr) {
    t.gradient = arena.take<float>(tile_floats(n, dp));
    product({t.results, 1, d, dout, dp, slot.w_out, dp, d, d, n, nullptr, true});
    add_column_sums(slot.b_out, dout, dp, n, d);
    product({dout, dp, 1, w.w_out, dp, t.gradient, dp, n, d, d});
  }

  copy_rows(t.qkv, wide, saved.qkv + row * 3 * d, 3 * d, n, 3 * d);
  for_each_piece(
      s.row_ptr, first, last,
      [&](int64_t at, int64_t n_rows) {
        transpose_queries(t.queries, t.qkv + at * wide, wide, n_rows, d);
        transpose_queries(t.gradients, t.gradient + at * dp, dp, n_rows, d);
      },
      [&](const Piece& piece) { attend_back(h, t, piece); });

  const ConstRowsAt input = input_rows_again(w.frame, arena, x, saved.stats, row, n);
  add_column_sums(slot.b_qkv, t.dqkv, wide, n, 3 * d);
  const bool apart = s.norm == BlockNorm::kQuery;
  const int64_t n_normed = apart ? d : 3 * d;  // columns of qkv that were made from the normed rows
  product({input.data, 1, input.row, t.dqkv, wide, slot.w_qkv, wide, d, n_normed, n, nullptr, true});
  product({t.dqkv, wide, 1, w.w_qkv, dp, back, dp, n, d, n_normed});
  const float* keys_back = nullptr;
  if (apart) {
    float* rows = arena.take<float>(tile_floats(n, dp));
    product({x + row * d, 1, d, t.dqkv + d, wide, slot.w_qkv + d, wide, d, 2 * d, n, nullptr, true});
    product({t.dqkv + d, wide, 1, w.w_qkv + d * dp, dp, rows, dp, n, d, 2 * d});
    keys_back = rows;
  }
  input_back(w.frame, dx, back, dsum, keys_back, x, saved.stats, slot.gamma, slot.beta, row, n);
}

}  // namespace

template <>
void attention_block_backward<Cpu>(const AttentionShape& s, const AttentionParameters<const float>& w, const float* x,
                                   const AttentionSaved<const float>& saved, const float* dy, float* dx,
                                   const AttentionParameters<float>& gradients, int n_threads) {
  const int64_t d = s.d, dp = padded(d);
  const Heads h = heads_of(s);
  SlotSum sums[] = {{gradients.gamma, 1, d},     {gradients.beta, 1, d},  {gradients.w_qkv, d, 3 * d},
                    {gradients.b_qkv, 1, 3 * d}, {gradients.w_out, d, d}, {gradients.b_out, 1, d}};
  const int64_t slot_floats = place_sums(sums, 6), n_slots = count_slots(s.n_rows);
  Arena& arena = call_arena();
  arena.reset(sizeof(float) * (n_slots * slot_floats + 4 * d * dp + 2 * dp) + 16 * Arena::kAlign);
  float* slots = arena.take<float>(n_slots * slot_floats);
  Packed p{};
  p.frame = {
      s.norm, s.eps, d, padded_vector(arena, w.gamma, d), padded_vector(arena, w.beta, d), Dropout(s.masks.outer)};
  float* qkv = arena.take<float>(3 * d * dp);
  pack_transpose(qkv, w.w_qkv, 3 * d, d, 3 * d);
  p.w_qkv = qkv;
  if (w.w_out != nullptr) {
    float* out = arena.take<float>(d * dp);
    pack_transpose(out, w.w_out, d, d, d);
    p.w_out = out;
  }
  parallel_for(n_slots, 1, n_threads, [&](int64_t slot, int64_t, int) {
    float* base = slots + slot * slot_floats;
    std::fill_n(base, slot_floats, 0.0f);
    const auto at = [&](int k) { return sums[k].out == nullptr ? nullptr : base + sums[k].offset; };
    const Slot copies{at(0), at(1), at(2), at(3), at(4), at(5)};
    const int64_t first = cut_sequences(s.row_ptr, 0, s.n_sequences, n_slots, slot);
    const int64_t last = cut_sequences(s.row_ptr, 0, s.n_sequences, n_slots, slot + 1);
    const int64_t n_tiles = count_tiles(s.row_ptr[last] - s.row_ptr[first]);
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
      backward_tile(s, h, p, x, saved, dy, dx, copies, cut_sequences(s.row_ptr, first, last, n_tiles, tile),
                    cut_sequences(s.row_ptr, first, last, n_tiles, tile + 1));
      check_interrupt();
    }
  });
  for (const SlotSum& sum : sums) add_slots(sum, slots, slot_floats, n_slots, n_threads);
}

}  // namespace recsys_fast
