// What the blocks of networks share: where their layer norm is, and which random masks they draw.
#pragma once

#include "core/dropout_mask.h"

namespace recsys_fast {

// y = x + D(f(x)); y = x + D(f(LN x)); y = LN(x + D(f(x))); y = LN x + D(f(LN x)), attention's keys and values from x.
enum class BlockNorm { kNone = 0, kPre = 1, kPost = 2, kQuery = 3 };

// The mask inside f, and D.
struct BlockMasks {
  DropoutMask inner, outer;
};

}  // namespace recsys_fast
