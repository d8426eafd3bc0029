#include "cuda/sgd_engine.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;
constexpr int kClasses = 64;

__global__ void __launch_bounds__(kThreads) length_classes_kernel(uint8_t* classes, const int64_t* row_ptr, int64_t n) {
  const int64_t user = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (user >= n) return;
  const int64_t length = row_ptr[user + 1] - row_ptr[user];
  classes[user] = static_cast<uint8_t>(length > 0 ? __clzll(length) : kClasses - 1);
}

}  // namespace

void users_by_length(int32_t* users, const Csr& data, Stream stream) {
  if (data.n_rows == 0) return;
  DeviceBuffer<uint8_t> classes(data.n_rows, stream);
  DeviceBuffer<int64_t> begin(kClasses + 1, stream);
  launch(length_classes_kernel, dim3(blocks_for(data.n_rows, kThreads)), dim3(kThreads), 0, stream, classes.data(),
         data.row_ptr, data.n_rows);
  counting_sort(users, begin.data(), classes.data(), data.n_rows, kClasses, stream);
}

}  // namespace recsys_fast
