// The sum of many float64 numbers on the device, by a tree that depends on their number alone.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

// Returns the sum of values (n), device memory. Waits for the stream.
double device_sum(const double* values, int64_t n, Stream stream);

}  // namespace recsys_fast
