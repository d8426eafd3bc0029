// The extension module of CUDA, or of the emulated grid: the bindings of the operations that have kernels, compiled
// with RECSYS_FAST_BIND_CUDA, and what the backend asks about devices. A line `bindings::bind_NAME(m);` below is what
// makes the builds compile bind_NAME.cc for the device.
#include <pybind11/pybind11.h>

#include <exception>
#include <string>

#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "bindings/signals.h"
#include "ops/device.h"

namespace recsys_fast::bindings {

void bind_emulated(py::module_& m);

namespace {

void raise(const char* name, const char* text) {
  const py::object error = py::module_::import("recsys_fast.errors").attr(name);
  PyErr_SetString(error.ptr(), text);
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Interrupted&) {  // outside of without_gil, where arguments are read
    if (PyErr_Occurred() == nullptr) PyErr_SetNone(PyExc_KeyboardInterrupt);
  } catch (const DeviceOutOfMemory& error) {
    const auto mend = py::module_::import("recsys_fast.errors").attr("MAKE_ROOM").cast<std::string>();
    raise("DeviceMemoryError", (std::string(error.what()) + ": " + mend).c_str());
  } catch (const DeviceFailure& error) {
    raise("DeviceError", error.what());
  }
}

}  // namespace

void bind_device(py::module_& m) {
  // (driver's CUDA version or 0, version of the build, number of devices, error of asking or ""); never raises.
  m.def("probe", [] {
    const DeviceProbe found = probe_devices();
    return py::make_tuple(found.driver, found.runtime, found.n_devices, found.error);
  });
  m.def("device_name", &device_name);
  m.def("set_device", &set_device);
  m.def("memory_info", [] {  // (bytes free, bytes in all)
    const DeviceMemory memory = device_memory();
    return py::make_tuple(memory.free, memory.total);
  });
  m.def("synchronize", [] { without_gil([] { synchronize(current_stream()); }); });
  m.def("set_stream",
        [](uintptr_t handle) { current_stream().handle = reinterpret_cast<decltype(Stream::handle)>(handle); });
  m.def("find_not_finite", [](const py::object& x) {  // position of the first NaN or infinity, -1 for none
    const Array<const float> array(x, "x");
    return without_gil([&] { return find_not_finite(array.data(), array.size()); });
  });
}

}  // namespace recsys_fast::bindings

PYBIND11_MODULE(RECSYS_FAST_MODULE, m) {
  namespace bindings = recsys_fast::bindings;
  pybind11::register_local_exception_translator(&bindings::translate);
  recsys_fast::set_device_poll(bindings::poll_python_signals);
  bindings::bind_device(m);
  bindings::bind_als(m);
  bindings::bind_attention(m);
  bindings::bind_caser(m);
  bindings::bind_conv(m);
  bindings::bind_conv2d(m);
  bindings::bind_csr(m);
  bindings::bind_csr_dense(m);
  bindings::bind_dense(m);
  bindings::bind_feed_forward(m);
  bindings::bind_embedding(m);
  bindings::bind_field_sums(m);
  bindings::bind_fm(m);
  bindings::bind_gaussian(m);
  bindings::bind_gram(m);
  bindings::bind_linear(m);
  bindings::bind_losses(m);
  bindings::bind_ncf(m);
  bindings::bind_negatives(m);
  bindings::bind_optimizer(m);
  bindings::bind_product_topk(m);
  bindings::bind_rank_metrics(m);
  bindings::bind_recurrent(m);
  bindings::bind_topk(m);
  bindings::bind_sgd(m);
  bindings::bind_skipgram(m);
  bindings::bind_table(m);
  bindings::bind_vectors(m);
#ifdef RECSYS_FAST_EMULATED_GRID
  bindings::bind_emulated(m);
#endif
}
