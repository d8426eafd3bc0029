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

inline void check_size(const char* what, int64_t got, int64_t expected) {
  if (got != expected) throw ShapeError(what, got, expected);
}

}  // namespace recsys_fast
