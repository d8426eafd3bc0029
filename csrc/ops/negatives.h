// Negatives that are verified: never an item of the user's row; and the random words behind every sampler.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// out[i, j] = an item that is not in row users[i] of `positives` (sorted rows without duplicates), -1 where there is
// none. out (m, n), users (m). cdf (n_cols) = running sums of the items' weights with cdf[n_cols - 1] >= 1, or null for
// uniform draws. Overwrites. A function of (seed, epoch, i, the row): deterministic for any n_threads.
template <class Device>
void sample_negatives(Rows<int32_t> out, const int32_t* users, Csr positives, const double* cdf, uint64_t seed,
                      uint32_t epoch, int n_threads);

// out[i] = draw number first + i of (seed, epoch): any of n_items items, uniform or by cdf (as above); i < n.
// Overwrites. Words come from block kDrawBlock of a sample: four uniform draws each, or two weighted ones.
template <class Device>
void negatives_draw(int32_t* out, int64_t n, const double* cdf, int64_t n_items, uint64_t seed, uint32_t epoch,
                    uint64_t first, int n_threads);

// out[i] = draw(seed, epoch, first_sample + i, k), i < n.
template <class Device>
void philox_draw(uint32_t* out, int64_t n, uint64_t seed, uint32_t epoch, uint64_t first_sample, uint32_t k,
                 int n_threads);

// out[i, j] = draw(seed, epoch, samples[i], first[i] + j); out (m, n), samples (m), first (m). Overwrites.
template <class Device>
void philox_rows(Rows<uint32_t> out, const int64_t* samples, const uint32_t* first, uint64_t seed, uint32_t epoch,
                 int n_threads);

}  // namespace recsys_fast
