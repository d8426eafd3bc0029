#include "cpu/recurrent_backward.h"
#include "cpu/recurrent_cells.h"

namespace recsys_fast {

template <>
void lstm_forward<Cpu>(const RecurrentStates<float>& states, const RecurrentLayer& layer, int n_threads) {
  recurrent_forward<LstmCell<LaneMath>>(states, layer, n_threads);
}

template <>
void lstm_backward<Cpu>(const RecurrentGradients& gradients, const float* dh,
                        const RecurrentStates<const float>& states, const RecurrentLayer& layer, int64_t truncate,
                        int n_threads) {
  recurrent_backward<LstmCell<LaneMath>>(gradients, dh, states, layer, truncate, n_threads);
}

}  // namespace recsys_fast
