// Quotients by a number that a launch knows and the compiler does not.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace recsys_fast {

// n / by for 0 <= n < 2^31 by a multiplication: with l = ceil(log2 by) the factor is floor(2^(31 + l) / by) + 1, below
// 2^32, and exact for 31 bits (Granlund, Montgomery 1994).
struct Divider {
  uint32_t by, factor;
  int shift;

  explicit Divider(int64_t divisor) : by(static_cast<uint32_t>(divisor)), shift(31) {
    while (int64_t{1} << (shift - 31) < divisor) ++shift;
    factor = static_cast<uint32_t>((uint64_t{1} << shift) / by + 1);
  }
  RF_HOST_DEVICE uint32_t quotient(uint32_t n) const { return static_cast<uint32_t>(uint64_t{n} * factor >> shift); }
  // The quotient, and n becomes the rest.
  RF_HOST_DEVICE uint32_t split(uint32_t& n) const {
    const uint32_t q = quotient(n);
    n -= q * by;
    return q;
  }
};

}  // namespace recsys_fast
