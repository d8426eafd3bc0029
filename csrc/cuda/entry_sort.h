// Stable sorting of matrix entries by a key, eight bits at a time from the lowest: as many passes as a key has digits.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

inline constexpr int kDigitBits = 8;
inline constexpr int kDigits = 1 << kDigitBits;

// n entries: a key to sort by, and what goes with it; values may be null.
template <class Int, class Float>
struct EntryArrays {
  Int* keys;
  Int* others;
  Float* values;
};
using Entries = EntryArrays<int32_t, float>;
using ConstEntries = EntryArrays<const int32_t, const float>;

// Digits of keys in [0, n_keys); at least one, so that a sort of a single key copies.
inline int n_digits(int64_t n_keys) {
  int n = 1;
  while (n * kDigitBits < 31 && (n_keys - 1) >> (n * kDigitBits) != 0) ++n;
  return n;
}

// One pass: out = in in the order of the digit of the keys that starts at bit `shift`, equal ones as they were.
// out.keys may be null where nobody wants them. Deterministic.
class EntrySorter {
 public:
  EntrySorter(int64_t n, Stream stream);
  void pass(const Entries& out, const ConstEntries& in, int shift) const;

 private:
  int64_t n_, n_tiles_;
  Stream stream_;
  DeviceBuffer<int64_t> starts_;  // (kDigits, n_tiles): entries of a digit, then how many come before
  DeviceBuffer<int64_t> totals_;  // (kDigits)
};

}  // namespace recsys_fast
