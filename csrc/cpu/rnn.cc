#include "cpu/recurrent_backward.h"
#include "cpu/recurrent_cells.h"

namespace recsys_fast {

template <>
void rnn_forward<Cpu>(const RecurrentStates<float>& states, const RecurrentLayer& layer, RecurrentActivation activation,
                      int n_threads) {
  if (activation == RecurrentActivation::kRelu)
    return recurrent_forward<PlainCell<LaneMath, true>>(states, layer, n_threads);
  recurrent_forward<PlainCell<LaneMath, false>>(states, layer, n_threads);
}

template <>
void rnn_backward<Cpu>(const RecurrentGradients& gradients, const float* dh, const RecurrentStates<const float>& states,
                       const RecurrentLayer& layer, RecurrentActivation activation, int64_t truncate, int n_threads) {
  if (activation == RecurrentActivation::kRelu) {
    return recurrent_backward<PlainCell<LaneMath, true>>(gradients, dh, states, layer, truncate, n_threads);
  }
  recurrent_backward<PlainCell<LaneMath, false>>(gradients, dh, states, layer, truncate, n_threads);
}

}  // namespace recsys_fast
