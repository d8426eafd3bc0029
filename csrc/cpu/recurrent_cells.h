// The cells of recurrent layers for vectors of units.
#pragma once

#include "core/sigmoid.h"
#include "ops/recurrent_cells.h"

namespace recsys_fast {

struct LaneMath {
  using Number = Vec;
  RF_INLINE static Vec sigmoid(Vec x) { return recsys_fast::sigmoid(x); }
  RF_INLINE static Vec tanh(Vec x) { return recsys_fast::tanh(x); }
};

}  // namespace recsys_fast
