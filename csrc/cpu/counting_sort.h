// Stable counting sort of entries by a key, shared by transposition and assembly.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/thread_pool.h"

namespace recsys_fast {

// How many entries ahead a put may ask the caches for a place, which is in another cache line nearly every time.
inline constexpr int64_t kSortAhead = 16;

// ptr (n_keys + 1) = where each key's entries start. put(begin, end, cursors) then moves entries begin to end, in
// order, each to cursors[keys[j]]++. The place of an entry is that of a stable sort, whatever the chunks.
// Each chunk has cursors of its own, 32 MB in all at most; one chunk uses ptr itself.
template <class Put>
void counting_sort(int64_t* ptr, int64_t n_keys, const int32_t* keys, int64_t n, int n_threads, Put&& put) {
  constexpr int64_t kCursors = int64_t{32} << 17;  // 32 MB of int64
  constexpr int64_t kPiece = int64_t{1} << 21;     // entries between two polls for Ctrl-C
  // A chunk pays where it has more entries than cursors to clear and to sum.
  const int64_t most = std::min(kCursors / std::max<int64_t>(1, n_keys), n / std::max<int64_t>(1 << 15, n_keys));
  const int64_t n_chunks =
      n_threads == 1 ? 1 : std::clamp<int64_t>(n / kPiece, std::min<int64_t>(n_threads, most), most);
  std::fill(ptr, ptr + n_keys + 1, int64_t{0});
  if (n_chunks <= 1) {
    parallel_for(n, kPiece, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t j = begin; j < end; ++j) ++ptr[keys[j]];
    });
    int64_t place = 0;
    for (int64_t key = 0; key <= n_keys; ++key) place += std::exchange(ptr[key], place);
    parallel_for(n, kPiece, 1, [&](int64_t begin, int64_t end, int) { put(begin, end, ptr); });
    // Each cursor has come to the start of the next key.
    std::copy_backward(ptr, ptr + n_keys, ptr + n_keys + 1);
    ptr[0] = 0;
    return;
  }
  const int64_t grain = (n + n_chunks - 1) / n_chunks;
  std::vector<int64_t> cursors(static_cast<size_t>(n_chunks * n_keys));
  parallel_for(n, grain, n_threads, [&](int64_t begin, int64_t end, int) {
    int64_t* counts = cursors.data() + begin / grain * n_keys;
    for (int64_t j = begin; j < end; ++j) ++counts[keys[j]];
  });
  int64_t place = 0;
  for (int64_t key = 0; key < n_keys; ++key) {
    ptr[key] = place;
    for (int64_t c = 0; c < n_chunks; ++c) place += std::exchange(cursors[c * n_keys + key], place);
  }
  ptr[n_keys] = place;
  parallel_for(n, grain, n_threads,
               [&](int64_t begin, int64_t end, int) { put(begin, end, cursors.data() + begin / grain * n_keys); });
}

}  // namespace recsys_fast
