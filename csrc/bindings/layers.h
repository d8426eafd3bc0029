// What the bindings of layers share: checks of packed rows and optional arrays, and long lists of arguments.
#pragma once

#include "bindings/buffers.h"
#include "ops/activation.h"
#include "ops/block.h"

namespace recsys_fast::bindings {

// Row pointers from 0 to n_rows that never descend; a loop over anything else would leave the arrays. Those on a device
// were looked at when they came: to look here would make the host wait for the device at every layer.
inline void check_row_ptr(const Array<const int64_t>& row_ptr, int64_t n_rows) {
  if (row_ptr.size() < 1) throw ShapeError("length of row_ptr", row_ptr.size(), 1);
  if constexpr (kOnCpu) {
    const auto p = row_ptr.on_host();
    check_size("first of row_ptr", p[0], 0);
    check_size("last of row_ptr", p[row_ptr.size() - 1], n_rows);
    for (int64_t s = 1; s < row_ptr.size(); ++s) {
      if (p[s] < p[s - 1]) throw ShapeError("row_ptr descends to", p[s], p[s - 1]);
    }
  }
}

// An array that may be absent, of length 0, or has `size` numbers. Returns where they are; null where it is absent.
template <class T>
T* optional(const char* what, const Array<T>& array, int64_t size) {
  if (array.size() != 0) check_size(what, array.size(), size);
  return array.data_or_null();
}

inline Activation activation_of(int activation) {
  if (activation < 0 || activation > 5) throw ShapeError("activation", activation, 5);
  return static_cast<Activation>(activation);
}

// Reads the arguments of a call from left to right.
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

// The masks of a block: two rates, then what both have in common.
inline BlockMasks read_masks(Arguments& args) {
  BlockMasks m{};
  m.inner.rate = args.next_as<float>();
  m.outer.rate = args.next_as<float>();
  m.inner.seed = m.outer.seed = args.next_as<uint64_t>();
  m.inner.step = m.outer.step = args.next_as<uint32_t>();
  m.inner.site = args.next_as<uint32_t>();
  m.outer.site = m.inner.site + 1;
  return m;
}

}  // namespace recsys_fast::bindings
