// NumPy arrays as views, through the buffer protocol only: no NumPy header, hence no coupling to its version.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <type_traits>

#include "core/errors.h"
#include "core/views.h"

namespace recsys_fast::bindings {

namespace py = pybind11;

// What the buffer protocol's format string may say for T; int64 is 'l' or 'q' depending on the platform.
template <class T>
bool format_is(const char* format) {
  using U = std::remove_const_t<T>;
  if (format == nullptr || format[0] == '\0' || format[1] != '\0') return false;
  const char f = format[0];
  if constexpr (std::is_same_v<U, float>) return f == 'f';
  if constexpr (std::is_same_v<U, double>) return f == 'd';
  if constexpr (std::is_same_v<U, int32_t>) return f == 'i' || (f == 'l' && sizeof(long) == 4);
  if constexpr (std::is_same_v<U, uint32_t>) return f == 'I' || (f == 'L' && sizeof(long) == 4);
  if constexpr (std::is_same_v<U, int64_t>) return f == 'q' || (f == 'l' && sizeof(long) == 8);
  if constexpr (std::is_same_v<U, uint8_t>) return f == 'B' || f == '?';
  return false;
}

// A C-contiguous array of T held for the duration of a call. T const: read-only arrays are welcome.
template <class T>
class Array {
 public:
  Array(const py::object& object, const char* name) {
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (std::is_const_v<T> ? 0 : PyBUF_WRITABLE);
    if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) throw py::error_already_set();
    if (!format_is<T>(view_.format) || view_.itemsize != sizeof(T)) {
      const std::string got = view_.format ? view_.format : "B";
      PyBuffer_Release(&view_);
      throw py::type_error(std::string(name) + ": got an array of format '" + got + "', expected itemsize " +
                           std::to_string(sizeof(T)) + " of the documented dtype");
    }
  }
  ~Array() { PyBuffer_Release(&view_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return static_cast<T*>(view_.buf); }
  int64_t size() const { return view_.len / static_cast<int64_t>(sizeof(T)); }
  int ndim() const { return view_.ndim; }
  int64_t dim(int axis) const { return view_.shape[axis]; }
  T* data_or_null() const { return size() == 0 ? nullptr : data(); }

  // One element, and all of them, for checks: on the device these are copies.
  T at(int64_t i) const { return data()[i]; }
  T* on_host() const { return data(); }

  Rows<T> rows(const char* name) const {
    check_size(name, ndim(), 2);
    return {data(), dim(0), dim(1)};
  }

 private:
  Py_buffer view_{};
};

}  // namespace recsys_fast::bindings
