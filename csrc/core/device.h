// Device tags. An operation is declared once as `template <class Device>` and specialised per device.
#pragma once

namespace recsys_fast {

struct Cpu {};
struct Cuda {};

}  // namespace recsys_fast
