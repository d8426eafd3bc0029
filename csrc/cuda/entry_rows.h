// Which row of a sparse matrix each of its entries lies in.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

// rows (nnz), overwritten.
void entry_rows(int32_t* rows, const int64_t* row_ptr, int64_t n_rows, int64_t nnz, Stream stream);

}  // namespace recsys_fast
