// The forward pass of any recurrent cell. A chunk's products with the input are one GEMM; every step then multiplies
// the states of its active sequences with packed weights, and the gates are made of the sums while those are in
// registers.
#pragma once

#include "core/gemm.h"
#include "core/thread_pool.h"
#include "cpu/recurrent_gemm.h"
#include "cpu/recurrent_plan.h"
#include "ops/recurrent.h"

namespace recsys_fast {

// Width of a state: h, and the LSTM's c beside it.
template <class Cell>
constexpr int64_t state_width(int64_t n_hidden) {
  return Cell::kMemory ? 2 * n_hidden : n_hidden;
}

// w_h and b_h by blocks of units: of each block all gates, kVectors vectors, for one row of the weights behind those
// for the other. kColumns: vectors of units in a block, so that its sums fill the registers.
template <class Cell>
struct GatePanels {
  static constexpr int kColumns = Cell::kGates == 1 ? 4 : 1;
  static constexpr int kVectors = Cell::kGates * kColumns;
  static constexpr int kUnits = kColumns * kLanes;

  int64_t n_hidden;
  float* weights;  // (n_blocks, n_hidden, kVectors kLanes)
  float* bias;     // (n_blocks, kVectors kLanes)

  static int64_t n_blocks(int64_t n_hidden) { return (n_hidden + kUnits - 1) / kUnits; }
  static size_t floats(int64_t n_hidden) {
    return static_cast<size_t>(n_blocks(n_hidden) * n_hidden * kVectors * kLanes);
  }
  float* block(int64_t b) const { return weights + b * n_hidden * kVectors * kLanes; }

  // Zeros where there is no unit.
  void pack(int64_t b, const float* w_h, const float* b_h) const {
    for (int64_t k = 0; k < n_hidden; ++k) {
      pack_row(block(b) + k * kVectors * kLanes, b, w_h + k * Cell::kGates * n_hidden);
    }
    float* start = bias + b * kVectors * kLanes;
    if (b_h != nullptr) return pack_row(start, b, b_h);
    for (int v = 0; v < kVectors; ++v) store(start + v * kLanes, Vec{});
  }

 private:
  void pack_row(float* out, int64_t b, const float* row) const {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t unit = b * kUnits + v % kColumns * kLanes, n = n_hidden - unit;
      store(out + v * kLanes, n > 0 ? load_up_to(row + v / kColumns * n_hidden + unit, n) : Vec{});
    }
  }
};

// One step of a chunk: for each active sequence its row, its product with the input, and where its state before lies.
struct RecurrentStep {
  int64_t n;
  const int64_t* rows;
  const float* from_x;  // (n, stride)
  int64_t stride;
  const float* const* before;    // h of the place before, or h0, or zeros
  const float* const* c_before;  // likewise c; unset for cells without
  bool product;                  // whether `before` is more than zeros
};

// Points before[i], and for the LSTM c_before[i], to what the i-th active sequence comes from.
template <class Cell, class States>
void point_before(const States& states, const RecurrentLayer& layer, const RecurrentChunk& chunk,
                  const RecurrentChunk::Step& step, const float* zeros, const float** before, const float** c_before) {
  const int64_t d = layer.n_hidden;
  for (int64_t i = 0; i < step.n; ++i) {
    const int64_t row = chunk.rows[step.first + i];
    const float* state = zeros;
    if (step.place == 0 && layer.h0 != nullptr) state = layer.h0 + chunk.sequences()[i] * state_width<Cell>(d);
    before[i] = step.place > 0 ? states.h + (row - 1) * d : state;
    if constexpr (Cell::kMemory) {
      c_before[i] = step.place > 0 ? states.c + (row - 1) * d : state == zeros ? zeros : state + d;
    }
  }
}

// Rows i to i + MR of a step, units of block b: sums of the product with the state, then the cell.
template <class Cell, int MR>
void step_tile(const RecurrentStates<float>& states, const GatePanels<Cell>& panels, const RecurrentStep& step,
               int64_t b, int64_t i) {
  using Panels = GatePanels<Cell>;
  constexpr int kVectors = Panels::kVectors;
  const int64_t d = panels.n_hidden;
  Vec sum[MR][kVectors];
  const float* left[MR];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r) {
    left[r] = step.before[i + r];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(panels.bias + (b * kVectors + v) * kLanes);
  }
  if (step.product) gemm_accumulate<MR, kVectors>(sum, d, left, 1, panels.block(b), kVectors * kLanes);
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r) {
    const int64_t row = step.rows[i + r];
    const float* from_x = step.from_x + (i + r) * step.stride;
#pragma GCC unroll 4
    for (int column = 0; column < Panels::kColumns; ++column) {
      const int64_t unit = b * Panels::kUnits + column * kLanes, n = d - unit;
      if (n <= 0) break;
      Vec a[Cell::kGates], s[Cell::kGates], saved[4], c = {};
      for (int g = 0; g < Cell::kGates; ++g) {
        a[g] = load(from_x + g * d + unit);  // past the last unit other gates' numbers, which nobody looks at
        s[g] = sum[r][g * Panels::kColumns + column];
      }
      if constexpr (Cell::kMemory) c = load_up_to(step.c_before[i + r] + unit, n);
      const Vec h = Cell::forward(a, s, load_up_to(left[r] + unit, n), c, saved);
      store_up_to(states.h + row * d + unit, h, n);
      if constexpr (Cell::kMemory) store_up_to(states.c + row * d + unit, c, n);
      if (Cell::kSaved > 0 && states.gates != nullptr) {
        for (int g = 0; g < Cell::kSaved; ++g) {
          store_up_to(states.gates + (row * Cell::kSaved + g) * d + unit, saved[g], n);
        }
      }
    }
  }
}

template <class Cell>
constexpr int step_rows() {
  if (kVectorRegisters == 32) return GatePanels<Cell>::kVectors == 3 ? 8 : 6;
  return GatePanels<Cell>::kVectors == 3 ? 4 : 2;
}

template <class Cell, int MR = step_rows<Cell>()>
void step_tile_any(int64_t n_rows, const RecurrentStates<float>& states, const GatePanels<Cell>& panels,
                   const RecurrentStep& step, int64_t b, int64_t i) {
  if constexpr (MR > 1) {
    if (n_rows < MR) return step_tile_any<Cell, MR - 1>(n_rows, states, panels, step, b, i);
  }
  step_tile<Cell, MR>(states, panels, step, b, i);
}

// The forward pass of one tile. Scratch: from_x (kRows + 1, padded(G H)); zeros (2 H).
template <class Cell>
void forward_tile(const RecurrentStates<float>& states, const RecurrentLayer& layer, const RecurrentPlan& plan,
                  int64_t tile, const PackedMatrix& w_x, const float* b_x, const GatePanels<Cell>& panels,
                  float* from_x, const float* zeros) {
  constexpr int64_t kRows = RecurrentChunk::kRows;
  const int64_t d = layer.n_hidden, stride = padded(Cell::kGates * d);
  const float *inputs[kRows], *before[kRows], *c_before[kRows];
  float* products[kRows];
  for (int64_t i = 0; i < kRows; ++i) products[i] = from_x + i * stride;

  RecurrentChunk chunk(plan, tile, true);
  while (chunk.next()) {
    check_interrupt();
    for (int64_t i = 0; i < chunk.n_rows; ++i) inputs[i] = layer.x.data + chunk.rows[i] * layer.x.d;
    multiply_rows(w_x, inputs, products, chunk.n_rows, b_x, false);
    for (int64_t k = 0; k < chunk.n_steps; ++k) {
      const auto& at = chunk.steps[k];
      point_before<Cell>(states, layer, chunk, at, zeros, before, c_before);
      const RecurrentStep step{at.n,
                               chunk.rows + at.first,
                               from_x + at.first * stride,
                               stride,
                               before,
                               c_before,
                               at.place > 0 || layer.h0 != nullptr};
      for (int64_t b = 0; b < panels.n_blocks(d); ++b) {
        for (int64_t i = 0; i < at.n; i += step_rows<Cell>()) {
          step_tile_any<Cell>(std::min<int64_t>(step_rows<Cell>(), at.n - i), states, panels, step, b, i);
        }
      }
    }
  }
}

template <class Cell>
void recurrent_forward(const RecurrentStates<float>& states, const RecurrentLayer& layer, int n_threads) {
  using Panels = GatePanels<Cell>;
  const int64_t d = layer.n_hidden, n_sequences = layer.x.n_sequences, width = Cell::kGates * d;
  const int64_t n_rows = layer.x.row_ptr[n_sequences];
  n_threads = static_cast<int>(std::min<int64_t>(n_threads, RecurrentPlan::max_tiles(n_rows, n_sequences)));
  const auto workers = static_cast<size_t>(n_threads);
  Arena& arena = thread_arena();
  const size_t scratch = Arena::padded<float>(static_cast<size_t>((RecurrentChunk::kRows + 1) * padded(width)));
  const auto bias_floats = static_cast<size_t>(Panels::n_blocks(d) * Panels::kVectors * kLanes);
  arena.reset(RecurrentPlan::bytes(n_rows, n_sequences) + Arena::padded<float>(PackedMatrix::floats(layer.x.d, width)) +
              Arena::padded<float>(Panels::floats(d)) + Arena::padded<float>(bias_floats) +
              Arena::padded<float>(static_cast<size_t>(padded(width) + 2 * padded(d))) + workers * scratch);
  const RecurrentPlan plan = RecurrentPlan::make(arena, layer.x.row_ptr, n_sequences);
  const PackedMatrix w_x{arena.take<float>(PackedMatrix::floats(layer.x.d, width)), layer.x.d, width};
  const Panels panels{d, arena.take<float>(Panels::floats(d)), arena.take<float>(bias_floats)};
  float* b_x = arena.take<float>(static_cast<size_t>(padded(width) + 2 * padded(d)));
  float* zeros = b_x + padded(width);
  float* from_x = arena.take<float>(workers * scratch / sizeof(float));
  std::fill(b_x, zeros + 2 * padded(d), 0.0f);
  if (layer.b_x != nullptr) std::copy(layer.b_x, layer.b_x + width, b_x);

  const int64_t n_panels = w_x.n_panels();
  parallel_for(n_panels + panels.n_blocks(d), 4, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      if (p < n_panels) {
        pack_panel(w_x, p, layer.w_x);
      } else {
        panels.pack(p - n_panels, layer.w_h, layer.b_h);
      }
    }
  });
  parallel_for(plan.n_tiles, 1, n_threads, [&](int64_t begin, int64_t end, int worker) {
    float* own = from_x + static_cast<size_t>(worker) * scratch / sizeof(float);
    for (int64_t tile = begin; tile < end; ++tile) {
      forward_tile<Cell>(states, layer, plan, tile, w_x, b_x, panels, own, zeros);
    }
  });
}

}  // namespace recsys_fast
