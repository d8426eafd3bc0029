// Reads the long argument lists of the blocks from left to right.
#pragma once

#include "bindings/buffers.h"
#include "ops/block.h"

namespace recsys_fast::bindings {

class Arguments {
 public:
  Arguments(const py::args& args, int64_t n) : args_(args.ptr()) {
    check_size("number of arguments", static_cast<int64_t>(args.size()), n);
  }
  py::object next() { return py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(args_, at_++)); }
  template <class T>
  T next_as() {
    return next().cast<T>();
  }

 private:
  PyObject* args_;
  Py_ssize_t at_ = 0;
};

// An array that may be absent: of length 0, or of `size` numbers.
template <class T>
void check_vector(const char* what, const Array<T>& array, int64_t size) {
  if (array.size() != 0) check_size(what, array.size(), size);
}

inline BlockMasks read_masks(Arguments& args) {
  BlockMasks m{};
  m.inner_rate = args.next_as<float>();
  m.outer_rate = args.next_as<float>();
  m.seed = args.next_as<uint64_t>();
  m.step = args.next_as<uint32_t>();
  m.site = args.next_as<uint32_t>();
  return m;
}

}  // namespace recsys_fast::bindings
