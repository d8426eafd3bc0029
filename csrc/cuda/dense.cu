#include "ops/dense.h"

#include "cuda/activated_out.h"
#include "cuda/gemm.h"
#include "cuda/slope_rows.h"

namespace recsys_fast {

template <>
void dense_forward<Cuda>(float* y, float* pre, const float* x, int64_t n, const DenseLayer& layer, int) {
  const ActivatedOut out{y, pre, layer.b, layer.d_out, layer.activation, Dropout(layer.dropout)};
  gemm(AlongDepth{x, layer.d_in}, AcrossDepth{layer.w, layer.d_out}, out, n, layer.d_out, layer.d_in, current_stream());
}

template <>
void dense_backward<Cuda>(float* dx, float* dw, float* db, const float* dy, const float* y, const float* pre,
                          const float* x, int64_t n, const DenseLayer& layer, int) {
  const int64_t d_in = layer.d_in, d = layer.d_out;
  const Stream stream = current_stream();
  DeviceBuffer<float> g(n * d, stream);
  slope_rows(g.data(), dy, y, pre, n, d, layer.activation, Dropout(layer.dropout), stream);
  if (dx != nullptr) {
    gemm(AlongDepth{g.data(), d}, AlongDepth{layer.w, d}, BiasOut{dx, d_in, nullptr}, n, d_in, d, stream);
  }
  gemm_over_rows(dw, d, db, AcrossDepth{x, d_in}, AcrossDepth{g.data(), d}, d_in, d, n, stream);
}

}  // namespace recsys_fast
