// Dropout masks from a counter: a mask is a function of (seed, step, site, row, column), so the backward pass computes
// it again instead of keeping it, and every backend and number of threads makes the same one. A light hash with 16-bit
// draws costs a tenth of Philox per element, and dropout needs no more than that.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/dropout_mask.h"
#include "core/rng.h"

namespace recsys_fast {

// The masks of one place in a network in one training step. Columns come in groups of 32; column c of a group and
// column c + 16 share the hash of the counter (row * groups + group) * 16 + c, as its lower and upper half.
struct Dropout {
  uint32_t factor = 1, offset = 0;  // of the counter; drawn for (seed, step, site)
  uint32_t threshold = 0;           // of 65,536: draws below it are dropped
  float scale = 1.0f;               // of what is kept: 65,536 / (65,536 - threshold)

  Dropout() = default;
  // The rate is rounded to a multiple of 2^-16.
  explicit Dropout(const DropoutMask& mask) {
    if (mask.rate == 0.0f) return;
    threshold = static_cast<uint32_t>(std::lrint(static_cast<double>(mask.rate) * 65536.0));
    if (threshold > 65535) threshold = 65535;
    scale = static_cast<float>(65536.0 / (65536.0 - threshold));
    const Philox key = draw4(mask.seed, mask.step, mask.site, 0);
    factor = key[0] | 1u;
    offset = key[1];
  }
  RF_HOST_DEVICE bool active() const { return threshold != 0; }
};

// Groups of 32 columns in a row of n_columns.
RF_HOST_DEVICE inline constexpr int64_t dropout_groups(int64_t n_columns) { return (n_columns + 31) / 32; }

// A mixing function of 32 bits in which every input bit flips every output bit with nearly even odds.
RF_HOST_DEVICE inline constexpr uint32_t mix32(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

// 0 or scale for one element; n_groups = dropout_groups(columns of a row).
RF_HOST_DEVICE inline float dropout_at(const Dropout& drop, int64_t row, int64_t column, int64_t n_groups) {
  const uint32_t counter = static_cast<uint32_t>((row * n_groups + column / 32) * 16 + column % 16);
  const uint32_t bits = mix32(counter * drop.factor + drop.offset);
  return (column % 32 < 16 ? bits & 0xFFFFu : bits >> 16) < drop.threshold ? 0.0f : drop.scale;
}

}  // namespace recsys_fast
