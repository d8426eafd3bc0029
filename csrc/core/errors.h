// Errors that cross from native code to the caller, and the texts they carry: what, got, expected.
#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>

namespace recsys_fast {

// The caller's poll asked to stop (Ctrl-C). The binding turns it into the pending Python exception.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

// An argument whose shape does not fit the others; becomes ValueError.
struct ShapeError : std::invalid_argument {
  ShapeError(const std::string& what, int64_t got, int64_t expected)
      : std::invalid_argument(what + ": got " + std::to_string(got) + ", expected " + std::to_string(expected)) {}
};

// The device refused or failed; becomes DeviceError.
struct DeviceFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The device has no room; becomes DeviceMemoryError.
struct DeviceOutOfMemory : DeviceFailure {
  DeviceOutOfMemory(uint64_t asked, uint64_t free)
      : DeviceFailure("device memory: " + std::to_string(asked) + " bytes asked for, " + std::to_string(free) +
                      " bytes free") {}
};

inline void check_size(const char* what, int64_t got, int64_t expected) {
  if (got != expected) throw ShapeError(what, got, expected);
}

}  // namespace recsys_fast
