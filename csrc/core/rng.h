// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
// draw(seed, epoch, sample, k) has no state, so any thread may draw any sample and a checkpoint needs only counters.
// The numba backend makes the same bits.
#pragma once

#include <array>
#include <cstdint>

#include "core/device.h"

namespace recsys_fast {

using Philox = std::array<uint32_t, 4>;

// Ten rounds over counter c with key (k0, k1).
RF_HOST_DEVICE inline Philox philox4x32(Philox c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// Four draws: k = 4 * block to 4 * block + 3 of `sample`.
RF_HOST_DEVICE inline Philox draw4(uint64_t seed, uint32_t epoch, uint64_t sample, uint32_t block) {
  const Philox counter = {static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32), epoch, block};
  return philox4x32(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// The k-th 32-bit draw of `sample`.
RF_HOST_DEVICE inline uint32_t draw(uint64_t seed, uint32_t epoch, uint64_t sample, uint32_t k) {
  return draw4(seed, epoch, sample, k / 4)[k % 4];
}

// Maps a draw to [0, n); the bias is below n / 2^32.
RF_HOST_DEVICE inline int32_t to_range(uint32_t bits, int32_t n) {
  return static_cast<int32_t>((uint64_t{bits} * static_cast<uint64_t>(n)) >> 32);
}

// Maps a draw to [0, 1) with 32 bits.
RF_HOST_DEVICE inline double to_unit(uint32_t bits) { return bits * 0x1p-32; }

}  // namespace recsys_fast
