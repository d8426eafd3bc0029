// A few lines of test harness: cases register themselves, a failed CHECK throws, main() runs all and counts failures.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/rng.h"

namespace recsys_fast::test {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

// n numbers in [-1, 1), the same in every run.
inline std::vector<float> uniform(int64_t n, uint64_t seed) {
  std::vector<float> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    out[static_cast<size_t>(i)] = static_cast<float>(2.0 * to_unit(draw(seed, 0, static_cast<uint64_t>(i), 0)) - 1.0);
  }
  return out;
}

// Largest error of `got` against the float64 `exact`.
inline double worst(const std::vector<float>& got, const std::vector<double>& exact) {
  double out = 0.0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - exact[i]);
    if (!(error <= out)) out = error;  // NaN stays
  }
  return out;
}

inline int run_all() {
  int n_failed = 0;
  for (const Case& c : cases()) {
    try {
      c.run();
      std::printf("ok    %s\n", c.name);
    } catch (const std::exception& e) {
      ++n_failed;
      std::printf("FAIL  %s: %s\n", c.name, e.what());
    }
    std::fflush(stdout);
  }
  std::printf("%zu cases, %d failed\n", cases().size(), n_failed);
  return n_failed == 0 && !cases().empty() ? 0 : 1;
}

}  // namespace recsys_fast::test

#define RF_CASE(name)                                                      \
  static void name();                                                      \
  static const ::recsys_fast::test::Register register_##name(#name, name); \
  static void name()

#define CHECK(condition)                                                                \
  do {                                                                                  \
    if (!(condition)) ::recsys_fast::test::fail(__FILE__, __LINE__, "not " #condition); \
  } while (false)

// As CHECK, and says which size or parameter failed.
#define CHECK_AT(condition, at)                                                                               \
  do {                                                                                                        \
    if (!(condition)) {                                                                                       \
      ::recsys_fast::test::fail(__FILE__, __LINE__, "not " #condition " at " #at " = " + std::to_string(at)); \
    }                                                                                                         \
  } while (false)

#define CHECK_THROWS(expression, Error)                                                          \
  do {                                                                                           \
    bool thrown = false;                                                                         \
    try {                                                                                        \
      expression;                                                                                \
    } catch (const Error&) {                                                                     \
      thrown = true;                                                                             \
    }                                                                                            \
    if (!thrown) ::recsys_fast::test::fail(__FILE__, __LINE__, #expression " threw no " #Error); \
  } while (false)
