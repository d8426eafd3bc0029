// Tensor cores on the emulated grid: the product of a warp, as the PTX manual lays out its operands (cuda/mma.h).
#pragma once

#include <cstdint>

#include "testing/grid.h"

namespace recsys_fast::emulated {

// sum (16, 8) += a (16, 16) b (16, 8) in pairs of bfloat16: exact products, whose sum is rounded once. The hardware
// rounds on the way, in an order of its own.
void mma_bf16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place place = Place::current());

}  // namespace recsys_fast::emulated
