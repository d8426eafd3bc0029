// What the blocks of networks share: where their layer norm is, and which random masks they draw.
#pragma once

#include <cstdint>

namespace recsys_fast {

// y = x + D(f(x)); y = x + D(f(LN x)); y = LN(x + D(f(x))); y = LN x + D(f(LN x)), attention's keys and values from x.
enum class BlockNorm { kNone = 0, kPre = 1, kPost = 2, kQuery = 3 };

// Rates in [0, 1) of the mask inside f and of D. The first is number `site` of the step, the second the next.
struct BlockMasks {
  float inner_rate, outer_rate;
  uint64_t seed;
  uint32_t step, site;
};

}  // namespace recsys_fast
