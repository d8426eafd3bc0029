// Sampling from normal distributions whose parameters are outputs of a network, and their divergence from N(0, 1).
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// Which random numbers: element (t, c) has the (c mod 4)-th normal of draw4(seed, step, site << 32 | t, c / 4).
struct NoiseKey {
  uint64_t seed;
  uint32_t step, site;
};

// z (n, k) = mu + e^(v / 2) noise for stats (n, 2 k) = [mu | v], v = log sigma^2; without a key z = mu. Returns the sum
// over the rows of KL(N(mu, sigma^2) || N(0, 1)) = 1/2 sum (e^v + mu^2 - 1 - v), with a fixed tree: infinite or NaN
// where it is not finite. Overwrites.
template <class Device>
double gaussian_forward(Rows<float> z, const float* stats, const NoiseKey* key, int n_threads);

// dstats (n, 2 k) of dz (n, k), plus kl_weight times that of the divergence. Overwrites. Rows are independent.
template <class Device>
void gaussian_backward(float* dstats, Rows<const float> dz, const float* stats, float kl_weight, const NoiseKey* key,
                       int n_threads);

}  // namespace recsys_fast
