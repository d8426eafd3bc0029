// Layer norm of rows: y = gamma (x - mean) / sqrt(variance + eps) + beta. Ba, Kiros, Hinton 2016.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// Overwrites y (n, d) and stats (n, 2) = mean, 1 / root.
template <class Device>
void layer_norm_forward(Rows<const float> x, const float* gamma, const float* beta, float eps, float* y, float* stats,
                        int n_threads);

// Overwrites dx (n, d), which may be dy, dgamma (d) and dbeta (d); the sums' tree depends on n only.
template <class Device>
void layer_norm_backward(Rows<const float> x, const float* stats, const float* gamma, const float* dy, float* dx,
                         float* dgamma, float* dbeta, int n_threads);

}  // namespace recsys_fast
