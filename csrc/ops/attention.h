// The self-attention block over packed sequences. T rows of width d; null pointers are absent.
#pragma once

#include "core/device.h"
#include "ops/block.h"

namespace recsys_fast {

struct AttentionShape {
  const int64_t* row_ptr;  // (n_sequences + 1)
  int64_t n_sequences, n_rows, d;
  int64_t n_heads;  // divides d
  bool causal;
  BlockNorm norm;
  float eps;
  BlockMasks masks;
};

// Parameters (T const) or their gradients.
template <class T>
struct AttentionParameters {
  T* gamma;  // (d), beta (d)
  T* beta;
  T* w_qkv;  // (d, 3 d), b_qkv (3 d)
  T* b_qkv;
  T* w_out;  // (d, d), b_out (d)
  T* b_out;
};

// What the forward pass leaves for the backward pass.
template <class T>
struct AttentionSaved {
  T* qkv;      // (n_rows, 3 d)
  T* context;  // (n_rows, d) results of the heads
  T* lse;      // (n_rows, n_heads) log of the sum of exponentials of the scores
  T* stats;    // (n_rows, 2) mean, 1 / deviation of the layer norm
  T* mid;      // (n_rows, d) what a layer norm behind the residual was made from
};

// f = softmax(q k^T / sqrt(d / n_heads)) v w_out by heads. Overwrites y (n_rows, d) and saved. Vaswani et al. 2017;
// probabilities exist for a tile at a time (Dao et al. 2022).
template <class Device>
void attention_block_forward(const AttentionShape& shape, const AttentionParameters<const float>& parameters,
                             const float* x, float* y, const AttentionSaved<float>& saved, int n_threads);

// Overwrites dx (n_rows, d) and the gradients; a sum over rows has a tree that depends on row_ptr only.
template <class Device>
void attention_block_backward(const AttentionShape& shape, const AttentionParameters<const float>& parameters,
                              const float* x, const AttentionSaved<const float>& saved, const float* dy, float* dx,
                              const AttentionParameters<float>& gradients, int n_threads);

// y (d) for row number `place` of a causal sequence; keys and values (P, d) hold the rows before it and get its own.
// Of the shape only d, n_heads, norm and eps count.
template <class Device>
void attention_block_step(const AttentionShape& shape, const AttentionParameters<const float>& parameters,
                          const float* x, float* y, float* keys, float* values, int64_t place);

}  // namespace recsys_fast
