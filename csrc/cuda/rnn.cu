#include "cuda/recurrent_layer.h"

namespace recsys_fast {

template <>
void rnn_forward<Cuda>(const RecurrentStates<float>& states, const RecurrentLayer& layer,
                       RecurrentActivation activation, int) {
  if (activation == RecurrentActivation::kRelu) return recurrent_forward<PlainCell<ThreadMath, true>>(states, layer);
  recurrent_forward<PlainCell<ThreadMath, false>>(states, layer);
}

template <>
void rnn_backward<Cuda>(const RecurrentGradients& gradients, const float* dh,
                        const RecurrentStates<const float>& states, const RecurrentLayer& layer,
                        RecurrentActivation activation, int64_t truncate, int) {
  if (activation == RecurrentActivation::kRelu) {
    return recurrent_backward<PlainCell<ThreadMath, true>>(gradients, dh, states, layer, truncate);
  }
  recurrent_backward<PlainCell<ThreadMath, false>>(gradients, dh, states, layer, truncate);
}

}  // namespace recsys_fast
