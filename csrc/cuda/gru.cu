#include "cuda/recurrent_layer.h"

namespace recsys_fast {

template <>
void gru_forward<Cuda>(const RecurrentStates<float>& states, const RecurrentLayer& layer, int) {
  recurrent_forward<GruCell<ThreadMath>>(states, layer);
}

template <>
void gru_backward<Cuda>(const RecurrentGradients& gradients, const float* dh,
                        const RecurrentStates<const float>& states, const RecurrentLayer& layer, int64_t truncate,
                        int) {
  recurrent_backward<GruCell<ThreadMath>>(gradients, dh, states, layer, truncate);
}

}  // namespace recsys_fast
