#include "cuda/product_rows.h"

#include "core/sorted_ids.h"

namespace recsys_fast {
namespace {

__global__ void __launch_bounds__(kProductThreads) product_splits_kernel(int64_t* splits, Csr b, Panel panel) {
  const int64_t at = int64_t{blockIdx.x} * kProductThreads + threadIdx.x, k = at / (kProductWarps + 1);
  if (k >= b.n_rows) return;
  const int64_t column = panel.first + at % (kProductWarps + 1) * panel.slice, begin = b.row_ptr[k];
  splits[at] = begin + first_above(b.row_size(k), [&](int64_t i) { return b.col_idx[begin + i] >= column; });
}

}  // namespace

void product_splits(int64_t* splits, const Csr& b, const Panel& panel, Stream stream) {
  if (b.n_rows == 0) return;
  launch(product_splits_kernel, dim3(blocks_for(b.n_rows * (kProductWarps + 1), kProductThreads)),
         dim3(kProductThreads), 0, stream, splits, b, panel);
}

}  // namespace recsys_fast
