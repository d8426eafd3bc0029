#include "cuda/block_frame.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;

// out (n, d) = in times the mask.
__global__ void __launch_bounds__(kThreads)
    mask_rows_kernel(float* out, const float* in, int64_t size, int64_t d, Dropout drop) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < size) out[at] = in[at] * dropout_at(drop, at / d, at % d, dropout_groups(d));
}

// out (n) = a + b; out may be either.
__global__ void __launch_bounds__(kThreads) add_rows_kernel(float* out, const float* a, const float* b, int64_t n) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < n) out[at] = a[at] + b[at];
}

}  // namespace

ResidualGradients::ResidualGradients(const BlockFrame& f, const float* dy, const float* mid, const float* stats,
                                     float* dgamma, float* dbeta)
    : sum(dy), out(dy) {
  const int64_t size = f.n * f.d;
  if (f.norm == BlockNorm::kPost) {
    sum_memory = DeviceBuffer<float>(size, f.stream);
    norm_rows_back(sum_memory.data(), dgamma, dbeta, dy, mid, stats, f.gamma, nullptr, f.n, f.d, f.stream);
    sum = out = sum_memory.data();
  }
  if (f.drop.active() && size > 0) {
    out_memory = DeviceBuffer<float>(size, f.stream);
    launch(mask_rows_kernel, dim3(blocks_for(size, kThreads)), dim3(kThreads), 0, f.stream, out_memory.data(), sum,
           size, f.d, f.drop);
    out = out_memory.data();
  }
}

void input_back(const BlockFrame& f, float* dx, float* back, const float* dsum, const float* direct, const float* x,
                const float* stats, float* dgamma, float* dbeta) {
  const int64_t size = f.n * f.d;
  const bool query = f.norm == BlockNorm::kQuery;
  if ((query || !f.norm_first()) && size > 0) {
    launch(add_rows_kernel, dim3(blocks_for(size, kThreads)), dim3(kThreads), 0, f.stream, query ? back : dx,
           static_cast<const float*>(back), dsum, size);
  }
  if (!f.norm_first()) return;
  norm_rows_back(dx, dgamma, dbeta, back, x, stats, f.gamma, query ? direct : dsum, f.n, f.d, f.stream);
}

}  // namespace recsys_fast
