// Arrays on the device as views, through __cuda_array_interface__ (version 3): CuPy, PyTorch, numba and others.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "core/errors.h"
#include "core/views.h"
#include "cuda/kernel.h"

namespace recsys_fast::bindings {

namespace py = pybind11;

template <class T>
bool typestr_is(const std::string& typestr) {
  using U = std::remove_const_t<T>;
  if constexpr (std::is_same_v<U, float>) return typestr == "<f4";
  if constexpr (std::is_same_v<U, double>) return typestr == "<f8";
  if constexpr (std::is_same_v<U, int32_t>) return typestr == "<i4";
  if constexpr (std::is_same_v<U, uint32_t>) return typestr == "<u4";
  if constexpr (std::is_same_v<U, int64_t>) return typestr == "<i8";
  if constexpr (std::is_same_v<U, uint8_t>) return typestr == "|u1" || typestr == "|b1";
  return false;
}

// A C-contiguous array of T on the current device, held for the duration of a call. T const: read-only arrays are
// welcome. Host memory, or another device's, is refused: a kernel would fault on it.
template <class T>
class Array {
 public:
  Array(const py::object& object, const char* name) : object_(object) {
    if (!py::hasattr(object, "__cuda_array_interface__")) {
      throw py::type_error(std::string(name) + ": got " + std::string(py::str(py::type::of(object).attr("__name__"))) +
                           ", expected an array on the device, with __cuda_array_interface__");
    }
    const py::dict interface = object.attr("__cuda_array_interface__");
    const auto typestr = interface["typestr"].cast<std::string>();
    if (!typestr_is<T>(typestr)) {
      throw py::type_error(std::string(name) + ": got an array of type '" + typestr + "', expected itemsize " +
                           std::to_string(sizeof(T)) + " of the documented dtype");
    }
    for (const py::handle n : interface["shape"]) shape_.push_back(n.cast<int64_t>());
    for (const int64_t n : shape_) size_ *= n;
    check_contiguous(interface, name);
    const auto data = interface["data"].cast<py::tuple>();
    data_ = reinterpret_cast<T*>(data[0].cast<uintptr_t>());
    if (!std::is_const_v<T> && data[1].cast<bool>()) throw py::value_error(std::string(name) + ": read-only array");
    if (size_ != 0) check_on_device(data_, name);
    // What the producer still does on another stream must end first; 1 is the default one.
    if (interface.contains("stream") && !interface["stream"].is_none()) {
      const auto stream = interface["stream"].cast<uintptr_t>();
      const auto handle = reinterpret_cast<decltype(Stream::handle)>(stream == 1 ? 0 : stream);
      if (handle != current_stream().handle) synchronize(Stream{handle});
    }
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  int ndim() const { return static_cast<int>(shape_.size()); }
  int64_t dim(int axis) const { return shape_[static_cast<size_t>(axis)]; }
  T* data_or_null() const { return size_ == 0 ? nullptr : data_; }

  // One element, and a copy of all of them: both wait for the device.
  std::remove_const_t<T> at(int64_t i) const { return read_element<std::remove_const_t<T>>(data_ + i); }
  std::vector<std::remove_const_t<T>> on_host() const {
    std::vector<std::remove_const_t<T>> all(static_cast<size_t>(size_));
    copy_to_host<std::remove_const_t<T>>(all.data(), data_, size_);
    return all;
  }

  Rows<T> rows(const char* name) const {
    check_size(name, ndim(), 2);
    return {data(), dim(0), dim(1)};
  }

 private:
  void check_contiguous(const py::dict& interface, const char* name) const {
    if (!interface.contains("strides") || interface["strides"].is_none() || size_ == 0) return;
    const auto strides = interface["strides"].cast<py::tuple>();
    int64_t expected = sizeof(T);
    for (size_t axis = shape_.size(); axis-- > 0; expected *= shape_[axis]) {
      if (shape_[axis] > 1 && strides[axis].cast<int64_t>() != expected) {
        throw py::value_error(std::string(name) + ": array on the device is not C-contiguous");
      }
    }
  }

  py::object object_;
  std::vector<int64_t> shape_;
  T* data_ = nullptr;
  int64_t size_ = 1;
};

}  // namespace recsys_fast::bindings
