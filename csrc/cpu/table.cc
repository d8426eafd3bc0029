#include "ops/table.h"

#include <algorithm>

#include "core/thread_pool.h"
#include "cpu/row_vectors.h"

namespace recsys_fast {
namespace {

constexpr int kVectors = 4;     // columns of a row that are summed in registers at a time, in vectors
constexpr int64_t kAhead = 8;   // rows of a table that are asked for before they are needed
constexpr int64_t kShares = 8;  // at most, of a table among threads: each looks at all ids

// out[0 .. columns) = sum of the entries' columns from c on; columns <= kVectors * kLanes, all but the last of the n
// vectors whole.
template <int n>
void sum_columns(float* out, const RowGradients& from, int64_t d, int64_t c, int64_t columns, const int32_t* entries,
                 int64_t n_entries) {
  const int64_t rest = columns - (n - 1) * kLanes;
  Vec sum[n] = {};
  for (int64_t i = 0; i < n_entries; ++i) {
    const RowGradient entry = row_gradient(from, d, entries[i]);
    const float* row = entry.row + c;
#pragma GCC unroll 4
    for (int v = 0; v < n - 1; ++v) sum[v] += load(row + v * kLanes) * entry.factor;
    sum[n - 1] += load_up_to(row + (n - 1) * kLanes, rest) * entry.factor;
  }
#pragma GCC unroll 4
  for (int v = 0; v < n - 1; ++v) store(out + v * kLanes, sum[v]);
  store_up_to(out + (n - 1) * kLanes, sum[n - 1], rest);
}

void sum_row(float* out, const RowGradients& from, int64_t d, const int32_t* entries, int64_t n_entries) {
  for (int64_t c = 0; c < d; c += kVectors * kLanes) {
    const int64_t columns = std::min<int64_t>(kVectors * kLanes, d - c);
    switch ((columns + kLanes - 1) / kLanes) {
      case 1:
        sum_columns<1>(out + c, from, d, c, columns, entries, n_entries);
        break;
      case 2:
        sum_columns<2>(out + c, from, d, c, columns, entries, n_entries);
        break;
      case 3:
        sum_columns<3>(out + c, from, d, c, columns, entries, n_entries);
        break;
      default:
        sum_columns<4>(out + c, from, d, c, columns, entries, n_entries);
    }
  }
}

}  // namespace

template <>
void table_gradient<Cpu>(Rows<float> drows, float* dbias, const int64_t* entry_ptr, const int32_t* entries,
                         const RowGradients& from, int n_threads) {
  const int64_t d = drows.d;
  const int team = threads_for(from.size() * d, n_threads);
  parallel_for(drows.n, std::max<int64_t>(1, grain_rows(d) / 4), team, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int32_t* own = entries + entry_ptr[r];
      const int64_t n = entry_ptr[r + 1] - entry_ptr[r];
      sum_row(drows.row(r), from, d, own, n);
      if (dbias == nullptr) continue;
      float sum = 0.0f;
      for (int64_t i = 0; i < n; ++i) sum += row_gradient(from, d, own[i]).bias;
      dbias[r] = sum;
    }
  });
}

template <>
void table_add<Cpu>(Rows<float> dtable, float* dbias, const int32_t* ids, const RowGradients& from, int n_threads) {
  const int64_t d = dtable.d, n = from.size();
  const auto shares = std::min<int64_t>(kShares, threads_for(n * d, n_threads));
  const auto share_of = [&](int32_t id) {  // neighbours go apart: popular rows often lie together
    return static_cast<int64_t>((static_cast<uint32_t>(id) * 0x9E3779B9u >> 16) * static_cast<uint64_t>(shares) >> 16);
  };
  parallel_for(shares, 1, n_threads, [&](int64_t share, int64_t, int) {
    for (int64_t e = 0; e < n; ++e) {
      if (e % 4096 == 4095) check_interrupt();
      const int64_t soon = e + kAhead;
      if (soon < n && ids[soon] >= 0 && share_of(ids[soon]) == share) prefetch(dtable.row(ids[soon]), 4 * d);
      const int32_t id = ids[e];
      if (id < 0 || share_of(id) != share) continue;
      const RowGradient entry = row_gradient(from, d, e);
      float* to = dtable.row(id);
      for_vectors(d, [&](int64_t c, int64_t lanes) {
        store_up_to(to + c, load_up_to(to + c, lanes) + load_up_to(entry.row + c, lanes) * entry.factor, lanes);
      });
      if (dbias != nullptr) dbias[id] += entry.bias;
    }
  });
}

}  // namespace recsys_fast
