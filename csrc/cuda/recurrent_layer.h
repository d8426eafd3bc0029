// The passes of any recurrent cell along packed sequences. The products of all rows with the weights of the input are
// one product of matrices; a block then takes a few sequences from place to place, a thread per unit, and meets the
// recurrent weights once per place for all of them.
#pragma once

#include "cuda/block_frame.h"
#include "cuda/recurrent_cells.h"
#include "cuda/transpose.h"
#include "ops/recurrent.h"

namespace recsys_fast {

constexpr int kSequences = 4;               // of a block: their states of a unit are one 16-byte load
constexpr int kRecurrentThreads = 256;      // at most; blocks of wider layers take units in turns
constexpr int64_t kStateBytes = 160 << 10;  // of shared memory per block, sm_80

// Where a block's states are, and the weights. Those are read row by row, from shared memory where they fit beside the
// states and sequences are long enough to pay for the copy, else from L1 and L2. States of very wide layers do not fit
// either.
enum class RecurrentMemory { kGlobal, kStates, kWeights };

// Memory of one block on the device, with what is used of Shared<T>.
template <class T>
struct OwnMemory {
  T* data;
  __device__ __forceinline__ T& operator[](int64_t i) const { return data[i]; }
  __device__ __forceinline__ OwnMemory operator+(int64_t n) const { return {data + n}; }
  template <class U>
  __device__ __forceinline__ OwnMemory<U> as() const {
    return {reinterpret_cast<U*>(data)};
  }
};

// Sequences first to first + kSequences as far as there are any; lengths of the others are 0.
struct SequenceGroup {
  int64_t first, row[kSequences];
  int length[kSequences], longest = 0;
  __device__ __forceinline__ SequenceGroup(const int64_t* row_ptr, int64_t n_sequences)
      : first(int64_t{blockIdx.x} * kSequences) {
#pragma unroll
    for (int s = 0; s < kSequences; ++s) {
      const bool there = first + s < n_sequences;
      row[s] = there ? row_ptr[first + s] : 0;
      length[s] = there ? static_cast<int>(row_ptr[first + s + 1] - row[s]) : 0;
      longest = max(longest, length[s]);
    }
  }
};

// sum[g][s] += sum over k < n of weights(k)[g gate + unit] state(k)[s].
template <int kGates, class States, class Weights>
__device__ __forceinline__ void add_state_product(float (&sum)[kGates][kSequences], const States& state,
                                                  const Weights& weights, int64_t n, int64_t row, int64_t gate,
                                                  int64_t unit) {
#pragma unroll 4
  for (int64_t k = 0; k < n; ++k) {
    const float4 h = state[k];
    const float states[kSequences] = {h.x, h.y, h.z, h.w};
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
      const float w = weights[k * row + g * gate + unit];
#pragma unroll
      for (int s = 0; s < kSequences; ++s) sum[g][s] += w * states[s];
    }
  }
}

// Every unit of every place. from_x (T, G H): products with the input. memory: states of two places (2, H, kSequences),
// then w_h where kResident.
template <class Cell, bool kResident, class Memory>
__device__ __forceinline__ void recurrent_places(const RecurrentStates<float>& states, const RecurrentLayer& layer,
                                                 const float* from_x, const Memory& memory) {
  constexpr int kGates = Cell::kGates;
  const int64_t d = layer.n_hidden, width = kGates * d, state_width = Cell::kMemory ? 2 * d : d;
  const SequenceGroup group(layer.x.row_ptr, layer.x.n_sequences);
  const Memory kept = memory + 2 * kSequences * d;
  if constexpr (kResident) {
    for (int64_t e = threadIdx.x; e < d * width; e += blockDim.x) kept[e] = layer.w_h[e];
  }
  for (int64_t e = threadIdx.x; e < d * kSequences; e += blockDim.x) {
    const int64_t s = group.first + e % kSequences;
    const bool there = layer.h0 != nullptr && s < layer.x.n_sequences;
    memory[e] = there ? layer.h0[s * state_width + e / kSequences] : 0.0f;
  }
  __syncthreads();
#pragma unroll 1
  for (int place = 0; place < group.longest; ++place) {
    const Memory before = memory + (place % 2) * kSequences * d, after = memory + (1 - place % 2) * kSequences * d;
#pragma unroll 1
    for (int64_t unit = threadIdx.x; unit < d; unit += blockDim.x) {
      float sum[kGates][kSequences];
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
        const float b = layer.b_h == nullptr ? 0.0f : layer.b_h[g * d + unit];
#pragma unroll
        for (int s = 0; s < kSequences; ++s) sum[g][s] = b;
      }
      if constexpr (kResident) {
        add_state_product<kGates>(sum, before.template as<float4>(), kept, d, width, d, unit);
      } else {
        add_state_product<kGates>(sum, before.template as<float4>(), layer.w_h, d, width, d, unit);
      }
#pragma unroll
      for (int s = 0; s < kSequences; ++s) {
        const float h_before = before[unit * kSequences + s];
        float h = h_before;
        if (place < group.length[s]) {
          const int64_t row = group.row[s] + place;
          float a[kGates], own[kGates], saved[4], c = 0.0f;
          for (int g = 0; g < kGates; ++g) {
            a[g] = from_x[row * width + g * d + unit];
            own[g] = sum[g][s];
          }
          if constexpr (Cell::kMemory) {
            if (place > 0) {
              c = states.c[(row - 1) * d + unit];
            } else if (layer.h0 != nullptr) {
              c = layer.h0[(group.first + s) * state_width + d + unit];
            }
          }
          h = Cell::forward(a, own, h_before, c, saved);
          states.h[row * d + unit] = h;
          if constexpr (Cell::kMemory) states.c[row * d + unit] = c;
          if (Cell::kSaved > 0 && states.gates != nullptr) {
            for (int g = 0; g < Cell::kSaved; ++g) states.gates[(row * Cell::kSaved + g) * d + unit] = saved[g];
          }
        }
        after[unit * kSequences + s] = h;
      }
    }
    __syncthreads();
  }
}

template <class Cell, RecurrentMemory kWhere>
__global__ void __launch_bounds__(kRecurrentThreads, 2)
    recurrent_forward_kernel(RecurrentStates<float> states, RecurrentLayer layer, const float* from_x, float* memory) {
  if constexpr (kWhere == RecurrentMemory::kGlobal) {
    const OwnMemory<float> own{memory + int64_t{blockIdx.x} * 2 * kSequences * layer.n_hidden};
    recurrent_places<Cell, false>(states, layer, from_x, own);
  } else {
    RF_DYNAMIC_SHARED(float, own);
    recurrent_places<Cell, kWhere == RecurrentMemory::kWeights>(states, layer, from_x, own);
  }
}

// What a backward pass writes for every row beside the gradients: those of the products with the input and with the
// state (the same memory where these do not differ), and the state before.
struct RecurrentBack {
  const float* dh;
  float *da, *ds, *before;  // (T, G H), (T, G H), (T, H)
  float* dh0;
  const float* w_ht;  // (G H, H), transposed
  int64_t truncate;
};

// From the last place to the first. memory: gradients of the products with the state (G H, kSequences), gradients of h
// and c on their way to the place before (H, kSequences) each, then w_ht where kResident.
template <class Cell, bool kResident, class Memory>
__device__ __forceinline__ void recurrent_places_back(const RecurrentStates<const float>& states,
                                                      const RecurrentLayer& layer, const RecurrentBack& pass,
                                                      const Memory& memory) {
  constexpr int kGates = Cell::kGates;
  const int64_t d = layer.n_hidden, width = kGates * d, state_width = Cell::kMemory ? 2 * d : d;
  const SequenceGroup group(layer.x.row_ptr, layer.x.n_sequences);
  const Memory slopes = memory, carry = memory + kSequences * width, carry_c = carry + kSequences * d;
  const Memory kept = Cell::kMemory ? carry_c + kSequences * d : carry_c;
  if constexpr (kResident) {
    for (int64_t e = threadIdx.x; e < d * width; e += blockDim.x) kept[e] = pass.w_ht[e];
  }
  // A unit's carries belong to its thread.
  for (int64_t unit = threadIdx.x; unit < d; unit += blockDim.x) {
    for (int s = 0; s < kSequences; ++s) {
      carry[unit * kSequences + s] = 0.0f;
      if constexpr (Cell::kMemory) carry_c[unit * kSequences + s] = 0.0f;
    }
  }
#pragma unroll 1
  for (int place = group.longest - 1; place >= 0; --place) {
    __syncthreads();  // the slopes of the place behind have been read
#pragma unroll 1
    for (int64_t unit = threadIdx.x; unit < d; unit += blockDim.x) {
#pragma unroll
      for (int s = 0; s < kSequences; ++s) {
        float da[kGates] = {}, ds[kGates] = {};
        if (place < group.length[s]) {
          const int64_t row = group.row[s] + place, at = unit * kSequences + s;
          const float* first = layer.h0 == nullptr ? nullptr : layer.h0 + (group.first + s) * state_width + unit;
          float saved[4], c = 0.0f, c_before = 0.0f, dc = 0.0f;
          float dh = pass.dh[row * d + unit] + static_cast<float>(carry[at]);
          const float before = place > 0 ? states.h[(row - 1) * d + unit] : first == nullptr ? 0.0f : *first;
          for (int g = 0; g < Cell::kSaved; ++g) saved[g] = states.gates[(row * Cell::kSaved + g) * d + unit];
          if constexpr (Cell::kMemory) {
            c = states.c[row * d + unit];
            c_before = place > 0 ? states.c[(row - 1) * d + unit] : first == nullptr ? 0.0f : first[d];
            dc = carry_c[at];
          }
          Cell::backward(saved, states.h[row * d + unit], c, before, c_before, dh, dc, da, ds);
          for (int g = 0; g < kGates; ++g) {
            pass.da[row * width + g * d + unit] = da[g];
            if constexpr (Cell::kTwoSides) pass.ds[row * width + g * d + unit] = ds[g];
          }
          pass.before[row * d + unit] = before;
          carry[at] = dh;
          if constexpr (Cell::kMemory) carry_c[at] = dc;
        }
        for (int g = 0; g < kGates; ++g) slopes[(g * d + unit) * kSequences + s] = ds[g];
      }
    }
    __syncthreads();
    if (place == 0 && pass.dh0 == nullptr) break;
    const bool cut = place > 0 && pass.truncate > 0 && place % pass.truncate == 0;
#pragma unroll 1
    for (int64_t unit = threadIdx.x; unit < d; unit += blockDim.x) {
      float sum[1][kSequences];
#pragma unroll
      for (int s = 0; s < kSequences; ++s) sum[0][s] = cut ? 0.0f : static_cast<float>(carry[unit * kSequences + s]);
      if (!cut) {
        if constexpr (kResident) {
          add_state_product<1>(sum, slopes.template as<float4>(), kept, width, d, 0, unit);
        } else {
          add_state_product<1>(sum, slopes.template as<float4>(), pass.w_ht, width, d, 0, unit);
        }
      }
#pragma unroll
      for (int s = 0; s < kSequences; ++s) {
        carry[unit * kSequences + s] = sum[0][s];
        if constexpr (Cell::kMemory) {
          if (cut) carry_c[unit * kSequences + s] = 0.0f;
        }
      }
    }
  }
  if (pass.dh0 == nullptr) return;
  for (int64_t unit = threadIdx.x; unit < d; unit += blockDim.x) {
    for (int s = 0; s < kSequences; ++s) {
      if (group.first + s >= layer.x.n_sequences) break;
      float* out = pass.dh0 + (group.first + s) * state_width + unit;
      out[0] = carry[unit * kSequences + s];
      if constexpr (Cell::kMemory) out[d] = carry_c[unit * kSequences + s];
    }
  }
}

// Floats of a block's states.
template <class Cell>
RF_HOST_DEVICE constexpr int64_t backward_floats(int64_t d) {
  return kSequences * (Cell::kGates + (Cell::kMemory ? 2 : 1)) * d;
}

template <class Cell, RecurrentMemory kWhere>
__global__ void __launch_bounds__(kRecurrentThreads, 2)
    recurrent_backward_kernel(RecurrentStates<const float> states, RecurrentLayer layer, RecurrentBack pass,
                              float* memory) {
  if constexpr (kWhere == RecurrentMemory::kGlobal) {
    const OwnMemory<float> own{memory + int64_t{blockIdx.x} * backward_floats<Cell>(layer.n_hidden)};
    recurrent_places_back<Cell, false>(states, layer, pass, own);
  } else {
    RF_DYNAMIC_SHARED(float, own);
    recurrent_places_back<Cell, kWhere == RecurrentMemory::kWeights>(states, layer, pass, own);
  }
}

// How a pass is launched: where `floats` of states per block go, and the weights.
struct RecurrentLaunch {
  dim3 grid, block;
  RecurrentMemory where;
  size_t shared_bytes = 0;
  DeviceBuffer<float> memory;

  RecurrentLaunch(const RecurrentLayer& layer, int64_t floats, int64_t weights, Stream stream)
      : grid(blocks_for(layer.x.n_sequences, kSequences)),
        block(static_cast<unsigned>(std::min<int64_t>(kRecurrentThreads, (layer.n_hidden + 31) / 32 * 32))) {
    const bool often = layer.x.n_rows >= 8 * layer.x.n_sequences;
    if (4 * floats > kStateBytes) {
      where = RecurrentMemory::kGlobal;
      memory = DeviceBuffer<float>(floats * grid.x, stream);
    } else if (often && 4 * (floats + weights) <= kStateBytes) {
      where = RecurrentMemory::kWeights;
      shared_bytes = static_cast<size_t>(4 * (floats + weights));
    } else {
      where = RecurrentMemory::kStates;
      shared_bytes = static_cast<size_t>(4 * floats);
    }
  }
  template <class Kernel>
  Kernel choose(Kernel global, Kernel states, Kernel weights) const {
    return where == RecurrentMemory::kGlobal ? global : where == RecurrentMemory::kStates ? states : weights;
  }
};

template <class Cell>
void recurrent_forward(const RecurrentStates<float>& states, const RecurrentLayer& layer) {
  using Where = RecurrentMemory;
  if (layer.x.n_rows == 0) return;
  const int64_t d = layer.n_hidden, width = Cell::kGates * d, n = layer.x.n_rows;
  const Stream stream = current_stream();
  DeviceBuffer<float> from_x(n * width, stream);
  gemm(AlongDepth{layer.x.data, layer.x.d}, AcrossDepth{layer.w_x, width}, BiasOut{from_x.data(), width, layer.b_x}, n,
       width, layer.x.d, stream);
  const RecurrentLaunch how(layer, 2 * kSequences * d, d * width, stream);
  launch(how.choose(&recurrent_forward_kernel<Cell, Where::kGlobal>, &recurrent_forward_kernel<Cell, Where::kStates>,
                    &recurrent_forward_kernel<Cell, Where::kWeights>),
         how.grid, how.block, how.shared_bytes, stream, states, layer, static_cast<const float*>(from_x.data()),
         how.memory.data());
}

template <class Cell>
void recurrent_backward(const RecurrentGradients& gradients, const float* dh,
                        const RecurrentStates<const float>& states, const RecurrentLayer& layer, int64_t truncate) {
  using Where = RecurrentMemory;
  const int64_t d = layer.n_hidden, d_in = layer.x.d, width = Cell::kGates * d, n = layer.x.n_rows;
  const Stream stream = current_stream();
  DeviceBuffer<float> da(n * width, stream), ds(Cell::kTwoSides ? n * width : 0, stream), before(n * d, stream);
  DeviceBuffer<float> w_ht(d * width, stream);
  transpose(w_ht.data(), layer.w_h, d, width, stream);
  const RecurrentBack pass{dh, da.data(), ds.data(), before.data(), gradients.dh0, w_ht.data(), truncate};
  if (layer.x.n_sequences > 0) {
    const RecurrentLaunch how(layer, backward_floats<Cell>(d), d * width, stream);
    launch(
        how.choose(&recurrent_backward_kernel<Cell, Where::kGlobal>, &recurrent_backward_kernel<Cell, Where::kStates>,
                   &recurrent_backward_kernel<Cell, Where::kWeights>),
        how.grid, how.block, how.shared_bytes, stream, states, layer, pass, how.memory.data());
  }
  const AcrossDepth from_input{da.data(), width}, from_state{Cell::kTwoSides ? ds.data() : da.data(), width};
  if (gradients.dx != nullptr) {
    gemm(AlongDepth{da.data(), width}, AlongDepth{layer.w_x, width}, BiasOut{gradients.dx, d_in, nullptr}, n, d_in,
         width, stream);
  }
  gemm_over_rows(gradients.dw_x, width, gradients.db_x, AcrossDepth{layer.x.data, d_in}, from_input, d_in, width, n,
                 stream);
  gemm_over_rows(gradients.dw_h, width, gradients.db_h, AcrossDepth{before.data(), d}, from_state, d, width, n, stream);
}

}  // namespace recsys_fast
