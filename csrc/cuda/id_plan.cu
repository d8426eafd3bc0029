// Ids are sorted with their places, eight bits at a time (cuda/entry_sort.h); -1 goes behind the table's last row. What
// begins a run of equal ids is counted, and its running number is where the row goes.
#include "cuda/entry_sort.h"
#include "cuda/prefix_sum.h"
#include "ops/table.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;

// keys (n) = ids, n_table for -1; others (n) = 0, 1, ... Overwrites.
__global__ void __launch_bounds__(kThreads)
    id_keys_kernel(int32_t* keys, int32_t* others, const int32_t* ids, int64_t n, int64_t n_table) {
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (e >= n) return;
  keys[e] = ids[e] >= 0 ? ids[e] : static_cast<int32_t>(n_table);
  others[e] = static_cast<int32_t>(e);
}

__device__ __forceinline__ bool begins(const int32_t* keys, int64_t i) { return i == 0 || keys[i] != keys[i - 1]; }

// heads (n + 1) = 1 where a row's entries begin, 0 elsewhere.
__global__ void __launch_bounds__(kThreads)
    id_heads_kernel(int64_t* heads, const int32_t* keys, int64_t n, int64_t n_table) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i <= n) heads[i] = i < n && keys[i] < n_table && begins(keys, i) ? 1 : 0;
}

// rows and entry_ptr from the running sums of heads; entry_ptr of the row behind the last = number of entries.
__global__ void __launch_bounds__(kThreads) id_rows_kernel(int32_t* rows, int64_t* entry_ptr, const int64_t* places,
                                                           const int32_t* keys, int64_t n, int64_t n_table) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i > n || (i < n && !begins(keys, i))) return;
  if (i < n && keys[i] < n_table) rows[places[i]] = keys[i];
  if (i < n || keys[n - 1] < n_table) entry_ptr[places[i]] = i;
}

}  // namespace

template <>
int64_t id_plan<Cuda>(int32_t* rows, int64_t* entry_ptr, int32_t* entries, const int32_t* ids, int64_t n,
                      int64_t n_table, int) {
  const Stream stream = current_stream();
  if (n == 0) {
    fill_zero(entry_ptr, 1, stream);
    return 0;
  }
  const int n_passes = n_digits(n_table + 1);
  DeviceBuffer<int32_t> first_keys(n, stream), second_keys(n, stream), second_entries(n, stream);
  Entries from{first_keys.data(), entries, nullptr}, to{second_keys.data(), second_entries.data(), nullptr};
  if (n_passes % 2 != 0) std::swap(from, to);  // so that the last pass writes into entries
  const dim3 grid(blocks_for(n + 1, kThreads)), block(kThreads);
  launch(id_keys_kernel, grid, block, 0, stream, from.keys, from.others, ids, n, n_table);
  const EntrySorter sorter(n, stream);
  for (int k = 0; k < n_passes; ++k) {
    sorter.pass(to, {from.keys, from.others, nullptr}, k * kDigitBits);
    std::swap(from, to);
  }
  DeviceBuffer<int64_t> heads(n + 1, stream);
  launch(id_heads_kernel, grid, block, 0, stream, heads.data(), from.keys, n, n_table);
  prefix_sum(heads.data(), n + 1, stream);
  launch(id_rows_kernel, grid, block, 0, stream, rows, entry_ptr, heads.data(), from.keys, n, n_table);
  return read_element(heads.data() + n, stream);
}

}  // namespace recsys_fast
