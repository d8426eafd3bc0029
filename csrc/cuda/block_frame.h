// The frame around f of a network block, y = x + D(f(x)) with a layer norm where BlockNorm says: what attention and
// feed-forward do alike. Results of products that end in it are functors of cuda/gemm.h.
#pragma once

#include "core/dropout_hash.h"
#include "cuda/gemm.h"
#include "cuda/norm_rows.h"
#include "ops/block.h"

namespace recsys_fast {

// y = residual + D(product + b).
struct ResidualOut {
  float* y;
  const float *residual, *b;
  int64_t d;
  Dropout drop;
  __device__ void operator()(int64_t row, int64_t col, float value) const {
    const int64_t at = row * d + col;
    if (b != nullptr) value += b[col];
    if (drop.active()) value *= dropout_at(drop, row, col, dropout_groups(d));
    y[at] = value + residual[at];
  }
};

struct BlockFrame {
  BlockNorm norm;
  float eps;
  int64_t n, d;
  const float *gamma, *beta;
  Dropout drop;  // D
  Stream stream;

  bool norm_first() const { return norm == BlockNorm::kPre || norm == BlockNorm::kQuery; }

  // What f reads: x, or LN x in `memory`, with its statistics.
  const float* input(DeviceBuffer<float>& memory, const float* x, float* stats) const {
    if (!norm_first()) return x;
    memory = DeviceBuffer<float>(n * d, stream);
    norm_rows(memory.data(), stats, x, n, d, gamma, beta, eps, stream);
    return memory.data();
  }
  // The same once more, from the statistics.
  const float* input_again(DeviceBuffer<float>& memory, const float* x, const float* stats) const {
    if (!norm_first()) return x;
    memory = DeviceBuffer<float>(n * d, stream);
    renorm_rows(memory.data(), stats, x, n, d, gamma, beta, stream);
    return memory.data();
  }

  // Where and how the last product of f ends; `finish` then makes y of mid.
  ResidualOut residual(float* y, float* mid, const float* x, const float* input, const float* b) const {
    return {norm == BlockNorm::kPost ? mid : y, norm == BlockNorm::kQuery ? input : x, b, d, drop};
  }
  void finish(float* y, const float* mid, float* stats) const {
    if (norm == BlockNorm::kPost) norm_rows(y, stats, mid, n, d, gamma, beta, eps, stream);
  }
};

// The gradients of the sum x + D(f) and of f's result; with neither norm behind nor mask these are dy itself.
struct ResidualGradients {
  DeviceBuffer<float> sum_memory, out_memory;
  const float *sum, *out;

  // Overwrites dgamma and dbeta where the norm is behind.
  ResidualGradients(const BlockFrame& f, const float* dy, const float* mid, const float* stats, float* dgamma,
                    float* dbeta);
};

// dx, from the gradient of the sum and `back`, that of what f read, which is spoilt; `direct` is that of x where f
// reads it beside LN x, or null. Overwrites dgamma and dbeta where the norm is first.
void input_back(const BlockFrame& f, float* dx, float* back, const float* dsum, const float* direct, const float* x,
                const float* stats, float* dgamma, float* dbeta);

}  // namespace recsys_fast
