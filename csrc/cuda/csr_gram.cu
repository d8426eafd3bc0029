// x^T x of a sparse matrix, dense: a block holds a panel of up to 8,192 columns of one row in shared memory, in float64
// (64 KB), summed as product_rows.h says, up to the diagonal; warps whose slice lies above it have nothing to do. Then
// the lower triangle is mirrored.
#include <algorithm>

#include "cuda/product_rows.h"
#include "cuda/symmetric.h"
#include "ops/linear.h"

namespace recsys_fast {
namespace {

constexpr int kMostColumns = 8192;

// A panel of row panel.first + blockIdx.x: earlier rows do not reach it.
__global__ void __launch_bounds__(kProductThreads)
    csr_gram_kernel(float* out, SparseRows<double> rows, Panel panel, float regularization) {
  RF_DYNAMIC_SHARED(double, sums);
  const int64_t n = rows.b.n_cols, row = panel.first + blockIdx.x;
  const int width = static_cast<int>(min(int64_t{panel.width}, int64_t{blockIdx.x} + 1));
  Panel own = panel;  // in whole slices, since they are summed whole
  own.width = min(panel.width, (width + panel.slice - 1) / panel.slice * panel.slice);
  rows.sum(sums, row, own, SameBlank{0.0f});
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kProductThreads) {
    const float sum = static_cast<float>(static_cast<double>(sums[c]));
    out[row * n + panel.first + c] = panel.first + c == row ? sum + regularization : sum;
  }
}

}  // namespace

template <>
void csr_gram<Cuda>(float* out, const Csr& t, const Csr& x, float regularization, int) {
  const int64_t n = t.n_rows;
  if (n == 0) return;
  const Stream stream = current_stream();
  DeviceBuffer<int64_t> splits(x.n_rows * (kProductWarps + 1), stream);
  Panel panel = first_panel(n, kMostColumns);
  const int width = panel.width;
  for (; panel.first < n; panel.first += width) {
    panel.width = static_cast<int>(std::min<int64_t>(width, n - panel.first));
    product_splits(splits.data(), x, panel, stream);
    launch(csr_gram_kernel, dim3(blocks_for(n - panel.first, 1)), dim3(kProductThreads),
           static_cast<size_t>(panel.width) * sizeof(double), stream, out, SparseRows<double>{t, x, splits.data()},
           panel, regularization);
  }
  mirror_lower(out, n, 1.0f, stream);
}

}  // namespace recsys_fast
