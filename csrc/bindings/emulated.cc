// What tests ask of the emulated grid: memory that plays the device's, limits, failures to order.
#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/device.h"
#include "testing/grid.h"

namespace recsys_fast::bindings {
namespace {

// Device memory in a Python object's care.
class Memory {
 public:
  Memory(int64_t bytes, int device) : bytes_(bytes) {
    if (bytes == 0) return;
    if (device < 0) device = emulated::pretend().device;
    data_ = static_cast<char*>(emulated::allocate(static_cast<size_t>(bytes), device));
    if (data_ == nullptr) throw DeviceOutOfMemory(static_cast<uint64_t>(bytes), emulated::free_bytes());
  }
  ~Memory() {
    if (data_ != nullptr) emulated::release(data_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uintptr_t pointer() const { return reinterpret_cast<uintptr_t>(data_); }
  // The host's window on it, for copies in both directions only.
  py::memoryview view() { return py::memoryview::from_memory(data_, bytes_); }

 private:
  char* data_ = nullptr;
  int64_t bytes_;
};

}  // namespace

void bind_emulated(py::module_& m) {
  py::class_<Memory>(m, "Memory")
      .def(py::init<int64_t, int>(), py::arg("bytes"), py::arg("device") = -1)
      .def_property_readonly("pointer", &Memory::pointer)
      .def("view", &Memory::view, py::keep_alive<0, 1>());
  m.def("allow_launches", &emulated::allow_launches, py::arg("n"), py::arg("for_good") = false);
  m.def("interrupt_at_launch", &emulated::interrupt_at_launch);
  m.def("counts", [] {  // (launches, waits for the device, allocations) so far
    const emulated::Counts& found = emulated::counts();
    return py::make_tuple(found.launches.load(), found.waits.load(), found.allocations.load());
  });
  m.def("set_memory_limit", &emulated::set_memory_limit);
  m.def("take_peak", &emulated::take_peak);
  m.def("live_allocations", &emulated::live_allocations);
  m.def("set_probe", [](int driver, int n_devices) {
    emulated::pretend().driver = driver;
    emulated::pretend().n_devices = n_devices;
  });
}

}  // namespace recsys_fast::bindings
