// What a dropout mask depends on besides row and column.
#pragma once

#include <cstdint>

namespace recsys_fast {

// The rate is in [0, 1); 0: none. The site tells apart the masks of one step. See core/dropout.h.
struct DropoutMask {
  float rate;
  uint64_t seed;
  uint32_t step, site;
};

}  // namespace recsys_fast
