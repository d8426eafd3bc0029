// Recurrent layers along packed sequences, forward and backward. The cells differ in their gates; the schedule is one.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// The inputs of a layer. Weights are G gates wide: G H columns, gate after gate. Null h0: zeros; null bias: none.
struct RecurrentLayer {
  Packed<const float> x;  // rows of width d; sequence s holds rows row_ptr[s] to row_ptr[s + 1]
  const float* h0;        // (n_sequences, H), for the LSTM (n_sequences, 2 H): h and c side by side
  const float* w_x;       // (d, G H)
  const float* w_h;       // (H, G H)
  const float* b_x;       // (G H)
  const float* b_h;       // (G H)
  int64_t n_hidden;       // H
};

// What a forward pass writes for every row: the state h (T, H), the LSTM's c (T, H), and the gates (T, 4 H), which the
// plain cell has not; null gates are not kept.
template <class T>
struct RecurrentStates {
  T* h;
  T* c;
  T* gates;
};

// Of the layer's arrays; overwritten. Null dx, dh0, db_x, db_h are not computed.
struct RecurrentGradients {
  float* dx;
  float* dh0;
  float* dw_x;
  float* dw_h;
  float* db_x;
  float* db_h;
};

enum class RecurrentActivation { kTanh = 0, kRelu = 1 };

// With a = x_t w_x + b_x and s = h_{t-1} w_h + b_h, both cut into gates of H columns: r = sigmoid(a_0 + s_0),
// z = sigmoid(a_1 + s_1), m = s_2, n = tanh(a_2 + r m), h_t = n + z (h_{t-1} - n). gates: r, z, n, m. Cho et al. 2014,
// with the reset gate behind the product. Overwrites; deterministic.
template <class Device>
void gru_forward(const RecurrentStates<float>& states, const RecurrentLayer& layer, int n_threads);

// Gradients from dh (T, H), that of states.h. truncate k > 0: none flows from place p of a sequence to p - 1 where p is
// a multiple of k (always to h0). Sums over rows have a tree that depends on row_ptr only.
template <class Device>
void gru_backward(const RecurrentGradients& gradients, const float* dh, const RecurrentStates<const float>& states,
                  const RecurrentLayer& layer, int64_t truncate, int n_threads);

// i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of a + s, c_t = f c_{t-1} + i g, h_t = o tanh(c_t). gates: i, f, g, o.
// Hochreiter & Schmidhuber 1997; Gers et al. 2000.
template <class Device>
void lstm_forward(const RecurrentStates<float>& states, const RecurrentLayer& layer, int n_threads);

template <class Device>
void lstm_backward(const RecurrentGradients& gradients, const float* dh, const RecurrentStates<const float>& states,
                   const RecurrentLayer& layer, int64_t truncate, int n_threads);

// h_t = f(a + s). Elman 1990.
template <class Device>
void rnn_forward(const RecurrentStates<float>& states, const RecurrentLayer& layer, RecurrentActivation activation,
                 int n_threads);

template <class Device>
void rnn_backward(const RecurrentGradients& gradients, const float* dh, const RecurrentStates<const float>& states,
                  const RecurrentLayer& layer, RecurrentActivation activation, int64_t truncate, int n_threads);

}  // namespace recsys_fast
