// What the host side asks about devices, beyond what kernels need.
#pragma once

#include <cstdint>
#include <string>

namespace recsys_fast {

struct DeviceProbe {
  int driver = 0;   // newest CUDA that the driver serves, as 1000 * major + 10 * minor; 0 without a driver
  int runtime = 0;  // CUDA that this module was built with
  int n_devices = 0;
  std::string error;  // of asking for devices
};

struct DeviceMemory {
  uint64_t free = 0, total = 0;
};

// Never throws: a machine without a driver must be able to say so.
DeviceProbe probe_devices();
std::string device_name(int index);
void set_device(int index);
DeviceMemory device_memory();

// Called now and then by a thread that launches kernels or waits for them; returns true to stop it. See
// check_interrupt.
void set_device_poll(bool (*poll)());

// Position of the first of n numbers that is NaN or infinite, -1 if none is.
int64_t find_not_finite(const float* x, int64_t n);

}  // namespace recsys_fast
