// Which rows a batch touches, in linear time: counted over the table where it is not much longer than the ids, else
// sorted by digits, so that nothing of the table's size is ever cleared for a small batch.
#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "core/arena.h"
#include "core/simd.h"
#include "core/thread_pool.h"
#include "ops/table.h"

namespace recsys_fast {
namespace {

constexpr int64_t kDense = 16;                // rows of the table per id up to which counting is the faster way
constexpr int64_t kPiece = int64_t{1} << 20;  // ids between two polls for Ctrl-C
constexpr int kDigitBits = 11, kDigits = 3;   // three digits hold every id
constexpr int64_t kBuckets = int64_t{1} << kDigitBits;

struct Plan {
  int32_t* rows;
  int64_t* entry_ptr;
  int32_t* entries;
};

// use(e) for e in [0, n), in order, on this thread.
template <class Use>
void for_ids(int64_t n, Use&& use) {
  parallel_for(n, kPiece, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t e = begin; e < end; ++e) use(e);
  });
}

int64_t plan_by_count(Plan plan, const int32_t* ids, int64_t n, int64_t n_table) {
  const int64_t n_padded = padded(n_table);
  Arena& arena = thread_arena();
  arena.reset(Arena::padded<int32_t>(n_padded));
  auto* count = arena.take<int32_t>(n_padded);  // of an id's entries; then the place of the next one
  std::fill(count, count + n_padded, 0);
  for_ids(n, [&](int64_t e) {
    if (ids[e] >= 0) ++count[ids[e]];
  });
  int64_t n_rows = 0, place = 0;
  for (int64_t first = 0; first < n_padded; first += kLanes) {
    for (uint32_t some = mask_ge(load(count + first), VecInt{} + 1); some != 0; some &= some - 1) {
      const int64_t row = first + __builtin_ctz(some);
      plan.rows[n_rows] = static_cast<int32_t>(row);
      plan.entry_ptr[n_rows++] = place;
      place += std::exchange(count[row], static_cast<int32_t>(place));
    }
  }
  plan.entry_ptr[n_rows] = place;
  for_ids(n, [&](int64_t e) {
    if (ids[e] >= 0) plan.entries[count[ids[e]]++] = static_cast<int32_t>(e);
  });
  return n_rows;
}

int64_t plan_by_digits(Plan plan, const int32_t* ids, int64_t n, int64_t n_table) {
  int n_digits = 1;
  while (n_digits < kDigits && (n_table - 1) >> (n_digits * kDigitBits) != 0) ++n_digits;
  Arena& arena = thread_arena();
  arena.reset(2 * Arena::padded<uint64_t>(n) + Arena::padded<int32_t>(kDigits * kBuckets));
  auto* from = arena.take<uint64_t>(n);  // id and entry
  auto* to = arena.take<uint64_t>(n);
  auto* starts = arena.take<int32_t>(kDigits * kBuckets);
  std::fill(starts, starts + n_digits * kBuckets, 0);
  int64_t kept = 0;
  for_ids(n, [&](int64_t e) {
    if (ids[e] < 0) return;
    const auto id = static_cast<uint64_t>(ids[e]);
    from[kept++] = id << 32 | static_cast<uint64_t>(e);
    for (int digit = 0; digit < n_digits; ++digit) {
      ++starts[digit * kBuckets + static_cast<int64_t>(id >> (digit * kDigitBits) & (kBuckets - 1))];
    }
  });
  for (int digit = 0; digit < n_digits; ++digit) {
    int32_t* start = starts + digit * kBuckets;
    int32_t place = 0;
    for (int64_t bucket = 0; bucket < kBuckets; ++bucket) place += std::exchange(start[bucket], place);
    const int shift = 32 + digit * kDigitBits;
    for_ids(kept, [&](int64_t i) { to[start[from[i] >> shift & (kBuckets - 1)]++] = from[i]; });
    std::swap(from, to);
  }
  int64_t n_rows = 0, last = -1;
  for_ids(kept, [&](int64_t i) {
    const auto row = static_cast<int64_t>(from[i] >> 32);
    plan.entries[i] = static_cast<int32_t>(from[i]);
    plan.rows[n_rows] = static_cast<int32_t>(row);  // without a branch: whether a row repeats is a coin
    plan.entry_ptr[n_rows] = i;
    n_rows += row != last ? 1 : 0;
    last = row;
  });
  plan.entry_ptr[n_rows] = kept;
  return n_rows;
}

}  // namespace

template <>
int64_t id_plan<Cpu>(int32_t* rows, int64_t* entry_ptr, int32_t* entries, const int32_t* ids, int64_t n,
                     int64_t n_table, int /*n_threads*/) {
  if (n == 0) {
    entry_ptr[0] = 0;
    return 0;
  }
  const Plan plan{rows, entry_ptr, entries};
  return n_table <= kDense * n ? plan_by_count(plan, ids, n, n_table) : plan_by_digits(plan, ids, n, n_table);
}

}  // namespace recsys_fast
