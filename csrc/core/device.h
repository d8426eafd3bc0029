// Device tags. An operation is declared once as `template <class Device>` and specialised per device.
#pragma once

// Marks small functions of core/ and ops/ that kernels call too.
#ifdef __CUDACC__
#define RF_HOST_DEVICE __host__ __device__
#else
#define RF_HOST_DEVICE
#endif

namespace recsys_fast {

struct Cpu {};
struct Cuda {};

}  // namespace recsys_fast
