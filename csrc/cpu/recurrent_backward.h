// The backward pass of any recurrent cell: backpropagation through time. The gradients of a chunk's gates stay in the
// caches until the products over all its rows are made of them: dx, and the parameters' gradients of the tile's slot.
#pragma once

#include "cpu/recurrent_forward.h"

namespace recsys_fast {

// What the tiles of a backward pass share. Bias gradients are the products' last rows: inputs and states get a 1 behind
// their last column.
struct RecurrentBackward {
  const RecurrentLayer& layer;
  const RecurrentGradients& gradients;
  const float* dh;
  const RecurrentPlan& plan;
  int64_t truncate;
  PackedMatrix w_xt, w_ht;  // transposed
  const float* zeros;       // (2 padded(H))

  // Of the sums of a slot: d + 1 rows for the input, H + 1 for the state, each `stride` long.
  int64_t n_rows() const { return layer.x.d + 1 + layer.n_hidden + 1; }
};

// Scratch of one worker, for a chunk's rows or (carry, dc) a tile's sequences.
template <class Cell>
struct BackwardScratch {
  static constexpr int64_t kRows = RecurrentChunk::kRows;

  int64_t d_in, d, stride;
  float* da;     // (kRows, stride) gradients of the gates' products with the input
  float* ds;     // (kRows, stride) of those with the state; da where they are the same
  float* x;      // (kRows, d_in + 1) inputs, and a 1
  float* h;      // (kRows, d + 1) states before, and a 1
  float* carry;  // (kRows, padded(d)) gradients of the states before, as they come from later places
  float* dc;     // (kRows, padded(d)) likewise of c; null for cells without

  static size_t floats(int64_t d_in, int64_t d) {
    const int64_t columns = (Cell::kTwoSides ? 2 : 1) * padded(Cell::kGates * d) + padded(d_in + 1) + padded(d + 1) +
                            (Cell::kMemory ? 2 : 1) * padded(d);
    return static_cast<size_t>(kRows * columns);
  }
  BackwardScratch(float* at, int64_t d_in_, int64_t d_) : d_in(d_in_), d(d_), stride(padded(Cell::kGates * d_)) {
    const auto take = [&](int64_t columns) {
      float* taken = at;
      at += kRows * columns;
      return taken;
    };
    da = take(stride);
    ds = Cell::kTwoSides ? take(stride) : da;
    x = take(padded(d_in + 1));
    h = take(padded(d + 1));
    carry = take(padded(d));
    dc = Cell::kMemory ? take(padded(d)) : nullptr;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t j = Cell::kGates * d; j < stride; ++j) da[r * stride + j] = ds[r * stride + j] = 0.0f;
      x[r * (d_in + 1) + d_in] = h[r * (d + 1) + d] = 1.0f;
    }
  }
};

// The cell's gradients at one row: writes da and ds, turns carry (and dc) into what reaches the place before directly.
template <class Cell>
RF_INLINE void backward_row(const float* dh, const float* h, const float* c, const float* gates, const float* before,
                            const float* c_before, float* da, float* ds, float* carry, float* dc, int64_t d) {
  for (int64_t unit = 0; unit < d; unit += kLanes) {
    const int64_t n = d - unit;
    Vec saved[4], to_a[Cell::kGates], to_s[Cell::kGates], cell = {}, cell_before = {}, d_cell = {};
    for (int g = 0; g < Cell::kSaved; ++g) saved[g] = load_up_to(gates + g * d + unit, n);
    if constexpr (Cell::kMemory) {
      cell = load_up_to(c + unit, n);
      cell_before = load_up_to(c_before + unit, n);
      d_cell = load(dc + unit);
    }
    Vec d_h = load_up_to(dh + unit, n) + load(carry + unit);
    Cell::backward(saved, load_up_to(h + unit, n), cell, load_up_to(before + unit, n), cell_before, d_h, d_cell, to_a,
                   to_s);
    for (int g = 0; g < Cell::kGates; ++g) {
      store_up_to(da + g * d + unit, to_a[g], n);
      if constexpr (Cell::kTwoSides) store_up_to(ds + g * d + unit, to_s[g], n);
    }
    store(carry + unit, d_h);
    if constexpr (Cell::kMemory) store(dc + unit, d_cell);
  }
}

template <class Cell>
void backward_tile(const RecurrentBackward& pass, const RecurrentStates<const float>& states, int64_t tile,
                   const BackwardScratch<Cell>& own, float* sums, bool& accumulate) {
  constexpr int64_t kRows = RecurrentChunk::kRows;
  const RecurrentLayer& layer = pass.layer;
  const int64_t d = layer.n_hidden, d_in = layer.x.d, stride = own.stride, wide = padded(d);
  const float *before[kRows], *c_before[kRows], *da_rows[kRows], *ds_rows[kRows];
  float *carry_rows[kRows], *dx_rows[kRows];
  for (int64_t i = 0; i < kRows; ++i) {
    da_rows[i] = own.da + i * stride;
    ds_rows[i] = own.ds + i * stride;
    carry_rows[i] = own.carry + i * wide;
  }

  RecurrentChunk chunk(pass.plan, tile, false);
  std::fill(own.carry, own.carry + chunk.n_sequences() * wide, 0.0f);
  if constexpr (Cell::kMemory) std::fill(own.dc, own.dc + chunk.n_sequences() * wide, 0.0f);
  while (chunk.next()) {
    check_interrupt();
    for (int64_t k = 0; k < chunk.n_steps; ++k) {
      const auto& step = chunk.steps[k];
      point_before<Cell>(states, layer, chunk, step, pass.zeros, before, c_before);
      for (int64_t i = 0; i < step.n; ++i) {
        const int64_t row = chunk.rows[step.first + i], at = step.first + i;
        const float* gates = Cell::kSaved > 0 ? states.gates + row * Cell::kSaved * d : nullptr;
        const float* c = Cell::kMemory ? states.c + row * d : nullptr;
        backward_row<Cell>(pass.dh + row * d, states.h + row * d, c, gates, before[i],
                           Cell::kMemory ? c_before[i] : nullptr, own.da + at * stride, own.ds + at * stride,
                           carry_rows[i], Cell::kMemory ? own.dc + i * wide : nullptr, d);
        std::copy(before[i], before[i] + d, own.h + at * (d + 1));
        if (step.place > 0) {  // the next step's rows lie all over the batch
          prefetch(pass.dh + (row - 1) * d, d * 4);
          if constexpr (Cell::kSaved > 0) prefetch(states.gates + (row - 1) * Cell::kSaved * d, Cell::kSaved * d * 4);
          if (step.place > 1) prefetch(states.h + (row - 2) * d, d * 4);
          if constexpr (Cell::kMemory) prefetch(states.c + (row - 1) * d, d * 4);
        }
      }
      if (step.place > 0 && pass.truncate > 0 && step.place % pass.truncate == 0) {
        std::fill(own.carry, own.carry + step.n * wide, 0.0f);
        if constexpr (Cell::kMemory) std::fill(own.dc, own.dc + step.n * wide, 0.0f);
      } else if (step.place > 0 || pass.gradients.dh0 != nullptr) {
        multiply_rows(pass.w_ht, ds_rows + step.first, carry_rows, step.n, nullptr, true);
      }
    }
    for (int64_t i = 0; i < chunk.n_rows; ++i) {
      const float* x = layer.x.data + chunk.rows[i] * d_in;
      std::copy(x, x + d_in, own.x + i * (d_in + 1));
      if (pass.gradients.dx != nullptr) dx_rows[i] = pass.gradients.dx + chunk.rows[i] * d_in;
    }
    if (pass.gradients.dx != nullptr) multiply_rows(pass.w_xt, da_rows, dx_rows, chunk.n_rows, nullptr, false);
    multiply_transposed(sums, stride, own.x, d_in + 1, d_in + 1, own.da, stride, stride, chunk.n_rows, accumulate);
    multiply_transposed(sums + (d_in + 1) * stride, stride, own.h, d + 1, d + 1, own.ds, stride, stride, chunk.n_rows,
                        accumulate);
    accumulate = true;
  }
  if (pass.gradients.dh0 == nullptr) return;
  for (int64_t i = 0; i < chunk.n_sequences(); ++i) {
    float* out = pass.gradients.dh0 + chunk.sequences()[i] * state_width<Cell>(d);
    std::copy(carry_rows[i], carry_rows[i] + d, out);
    if constexpr (Cell::kMemory) std::copy(own.dc + i * wide, own.dc + i * wide + d, out + d);
  }
}

// The parameters' gradients: the slots' sums (n_slots, n_rows, stride), added in order.
void add_slot_sums(const RecurrentBackward& pass, const float* sums, int64_t stride, int64_t width, int n_threads);

template <class Cell>
void recurrent_backward(const RecurrentGradients& gradients, const float* dh,
                        const RecurrentStates<const float>& states, const RecurrentLayer& layer, int64_t truncate,
                        int n_threads) {
  using Scratch = BackwardScratch<Cell>;
  const int64_t d = layer.n_hidden, d_in = layer.x.d, n_sequences = layer.x.n_sequences, width = Cell::kGates * d;
  const int64_t stride = padded(width), slot_floats = (d_in + d + 2) * stride;
  Arena& arena = thread_arena();
  const int64_t n_rows = layer.x.row_ptr[n_sequences], max_slots = RecurrentPlan::max_slots(n_rows, n_sequences);
  n_threads = static_cast<int>(std::min<int64_t>(n_threads, max_slots));
  const auto workers = static_cast<size_t>(n_threads);
  const size_t scratch = Scratch::floats(d_in, d), w_xt = PackedMatrix::floats(width, d_in),
               w_ht = PackedMatrix::floats(width, d), sum_floats = static_cast<size_t>(max_slots * slot_floats);
  arena.reset(RecurrentPlan::bytes(n_rows, n_sequences) + Arena::padded<float>(w_xt) + Arena::padded<float>(w_ht) +
              Arena::padded<float>(static_cast<size_t>(2 * padded(d))) + Arena::padded<float>(workers * scratch) +
              Arena::padded<float>(sum_floats));
  const RecurrentPlan plan = RecurrentPlan::make(arena, layer.x.row_ptr, n_sequences);
  float* zeros = arena.take<float>(static_cast<size_t>(2 * padded(d)));
  std::fill(zeros, zeros + 2 * padded(d), 0.0f);
  const RecurrentBackward pass{
      layer, gradients, dh, plan, truncate, {arena.take<float>(w_xt), width, d_in}, {arena.take<float>(w_ht), width, d},
      zeros};
  float* memory = arena.take<float>(workers * scratch);
  float* sums = arena.take<float>(sum_floats);

  const int64_t n_panels = gradients.dx != nullptr ? pass.w_xt.n_panels() : 0;
  parallel_for(n_panels + pass.w_ht.n_panels(), 1, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      if (p < n_panels) {
        pack_panel_transposed(pass.w_xt, p, layer.w_x);
      } else {
        pack_panel_transposed(pass.w_ht, p - n_panels, layer.w_h);
      }
    }
  });
  if (gradients.dh0 != nullptr) {
    for (int64_t s = 0; s < n_sequences; ++s) {  // empty sequences have no tile
      if (layer.x.row_ptr[s + 1] > layer.x.row_ptr[s]) continue;
      std::fill_n(gradients.dh0 + s * state_width<Cell>(d), state_width<Cell>(d), 0.0f);
    }
  }
  parallel_for(plan.n_slots, 1, n_threads, [&](int64_t begin, int64_t end, int worker) {
    const Scratch own(memory + static_cast<size_t>(worker) * scratch, d_in, d);
    for (int64_t slot = begin; slot < end; ++slot) {
      float* sum = sums + slot * slot_floats;
      bool accumulate = false;
      for (int64_t tile = plan.slot[slot]; tile < plan.slot[slot + 1]; ++tile) {
        backward_tile<Cell>(pass, states, tile, own, sum, accumulate);
      }
      if (!accumulate) std::fill_n(sum, slot_floats, 0.0f);
    }
  });
  add_slot_sums(pass, sums, stride, width, n_threads);
}

}  // namespace recsys_fast
