#include "cuda/item_weights.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;

// A warp per item.
__global__ void __launch_bounds__(kThreads) squared_norms_kernel(float* norms, int32_t* negative, Csr t) {
  const int64_t i = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (i >= t.n_rows) return;
  double sum = t.values == nullptr ? static_cast<double>(t.row_size(i)) : 0.0;
  if (t.values != nullptr) {
    for (int64_t e = t.row_ptr[i] + Warp::lane(); e < t.row_ptr[i + 1]; e += kWarpSize) {
      const double value = t.values[e];
      sum += value * value;
      if (value < 0.0 && negative != nullptr) atomicOr(negative, 1);
    }
    sum = Warp::sum(sum);
  }
  if (Warp::lane() == 0) norms[i] = static_cast<float>(sum);
}

}  // namespace

void squared_norms(float* norms, int32_t* negative, const Csr& t, Stream stream) {
  if (negative != nullptr) fill_zero(negative, 1, stream);
  if (t.n_rows == 0) return;
  launch(squared_norms_kernel, dim3(blocks_for(t.n_rows, kWarps)), dim3(kThreads), 0, stream, norms, negative, t);
}

}  // namespace recsys_fast
