// Stable order of a device array by small keys.
#pragma once

#include <cstdint>

#include "cuda/kernel.h"

namespace recsys_fast {

inline constexpr int kMostKeys = 256;

// order (n) = 0 ... n - 1 by keys[i] < n_keys, equal keys in their order; begin (n_keys + 1) = where each key starts.
// Overwrites. Index: int32_t or int64_t.
template <class Index>
void counting_sort(Index* order, int64_t* begin, const uint8_t* keys, int64_t n, int n_keys, Stream stream);

}  // namespace recsys_fast
