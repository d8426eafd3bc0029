#include "cuda/sgd_plan.h"

#include "core/rng.h"
#include "cuda/counting_sort.h"
#include "cuda/prefix_sum.h"

namespace recsys_fast {
namespace {

constexpr uint64_t kItemSamples = uint64_t{1} << 62;  // the hash of item i is a draw of sample 2^62 + i
constexpr uint32_t kBlockWord = 0xFFFFFFFFu, kVisitsWord = 0xFFFFFFFEu;
constexpr int kThreads = 256;

__device__ int64_t thread_index() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

__global__ void __launch_bounds__(kThreads)
    blocks_kernel(uint8_t* block, int64_t n, uint64_t first_sample, uint64_t seed, uint32_t epoch, int n_blocks) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const uint32_t word = draw(seed, epoch, first_sample + static_cast<uint64_t>(i), kBlockWord);
  block[i] = static_cast<uint8_t>(to_range(word, n_blocks));
}

// A thread per block: the sums must be added from left to right to have the same bits everywhere, and a block has at
// most a sixteenth of the items.
__global__ void sums_kernel(double* sums, SgdOrder o) {
  const int b = static_cast<int>(threadIdx.x);
  if (b >= o.n_blocks) return;
  double sum = 0.0;
  for (int64_t t = o.item_begin[b]; t < o.item_begin[b + 1]; ++t) {
    const int32_t i = o.members[t];
    sum += i > 0 ? o.cdf[i] - o.cdf[i - 1] : o.cdf[0];
    sums[t] = sum;
  }
}

// rows (nnz) = the user of each entry; cells (nnz, or null) = its cell. A warp per user, so that writes are contiguous.
__global__ void __launch_bounds__(kThreads) cells_kernel(int32_t* rows, uint8_t* cells, Csr data, SgdOrder o) {
  const int64_t user = thread_index() / 32;
  if (user >= data.n_rows) return;
  const int user_block = cells != nullptr ? o.user_block[user] : 0;
  for (int64_t e = data.row_ptr[user] + threadIdx.x % 32; e < data.row_ptr[user + 1]; e += 32) {
    rows[e] = static_cast<int32_t>(user);
    if (cells == nullptr) continue;
    const int round = (o.item_block[data.col_idx[e]] + o.n_blocks - user_block) % o.n_blocks;
    cells[e] = static_cast<uint8_t>(round * o.n_blocks + user_block);
  }
}

__global__ void __launch_bounds__(kThreads)
    gather_kernel(int32_t* users, int32_t* items, const int64_t* entries, const int32_t* rows, Csr data, int64_t nnz) {
  const int64_t p = thread_index();
  if (p >= nnz) return;
  users[p] = rows[entries[p]];
  items[p] = data.col_idx[entries[p]];
}

// counts (nnz + 1) = visits of each entry, then 0.
__global__ void __launch_bounds__(kThreads)
    visit_counts_kernel(int64_t* counts, SgdProblem problem, SgdOrder o, int64_t nnz) {
  const int64_t p = thread_index();
  if (p > nnz) return;
  if (p == nnz) {
    counts[p] = 0;
    return;
  }
  const int64_t e = o.entries != nullptr ? o.entries[p] : p;
  const int64_t sample = problem.frozen == SgdFrozen::kItems ? e - problem.data.row_ptr[o.users[p]] : e;
  const double unit = to_unit(draw(problem.seed, problem.epoch, static_cast<uint64_t>(sample), kVisitsWord));
  counts[p] = static_cast<uint32_t>(static_cast<double>(problem.rates[e]) + unit);
}

__global__ void __launch_bounds__(kThreads) expand_kernel(int64_t* entry_of, const int64_t* first_visit, int64_t nnz) {
  const int64_t p = thread_index();
  if (p >= nnz) return;
  for (int64_t v = first_visit[p]; v < first_visit[p + 1]; ++v) entry_of[v] = p;
}

// out[c] = first_visit[cell_begin[c]]
__global__ void cell_visits_kernel(int64_t* out, const int64_t* cell_begin, const int64_t* first_visit, int n) {
  for (int c = static_cast<int>(threadIdx.x); c < n; c += static_cast<int>(blockDim.x)) {
    out[c] = first_visit[cell_begin[c]];
  }
}

}  // namespace

int64_t count_entries(const Csr& matrix, Stream stream) {
  return matrix.n_rows > 0 ? read_element(matrix.row_ptr + matrix.n_rows, stream) : 0;
}

SgdPlan::SgdPlan(const SgdProblem& problem, int n_blocks, const double* cdf, Stream stream)
    : nnz_(count_entries(problem.data, stream)),
      user_block_(n_blocks > 1 ? problem.data.n_rows : 0, stream),
      item_block_(n_blocks > 1 ? problem.data.n_cols : 0, stream),
      members_(item_block_.size(), stream),
      item_begin_(n_blocks > 1 ? n_blocks + 1 : 0, stream),
      cell_begin_(n_blocks > 1 ? n_blocks * n_blocks + 1 : 0, stream),
      sums_(n_blocks > 1 && cdf != nullptr ? problem.data.n_cols : 0, stream),
      users_(nnz_, stream),
      items_(n_blocks > 1 ? nnz_ : 0, stream),
      entries_(items_.size(), stream),
      first_visit_(problem.rates != nullptr ? nnz_ + 1 : 0, stream) {
  const int64_t n_users = problem.data.n_rows, n_items = problem.data.n_cols;
  order_.n_blocks = n_blocks;
  order_.cdf = cdf;
  order_.sums = cdf;
  if (n_blocks > 1) {
    launch(blocks_kernel, blocks_for(n_users, kThreads), dim3(kThreads), 0, stream, user_block_.data(), n_users, 0,
           problem.seed, problem.epoch, n_blocks);
    launch(blocks_kernel, blocks_for(n_items, kThreads), dim3(kThreads), 0, stream, item_block_.data(), n_items,
           kItemSamples, problem.seed, problem.epoch, n_blocks);
    counting_sort(members_.data(), item_begin_.data(), item_block_.data(), n_items, n_blocks, stream);
    order_.user_block = user_block_.data();
    order_.item_block = item_block_.data();
    order_.members = members_.data();
    order_.item_begin = item_begin_.data();
    if (cdf != nullptr) {
      launch(sums_kernel, dim3(1), dim3(32), 0, stream, sums_.data(), order_);
      order_.sums = sums_.data();
    }
  }
  order_entries(problem, stream);
  count_visits(problem, stream);
}

void SgdPlan::order_entries(const SgdProblem& problem, Stream stream) {
  const Csr& data = problem.data;
  const int n_cells = order_.n_blocks * order_.n_blocks;
  order_.users = users_.data();
  order_.items = data.col_idx;
  if (nnz_ == 0) return;
  const dim3 warps = blocks_for(32 * data.n_rows, kThreads);
  if (order_.n_blocks == 1) {
    launch(cells_kernel, warps, dim3(kThreads), 0, stream, users_.data(), nullptr, data, order_);
    return;
  }
  DeviceBuffer<int32_t> rows(nnz_, stream);
  DeviceBuffer<uint8_t> cells(nnz_, stream);
  launch(cells_kernel, warps, dim3(kThreads), 0, stream, rows.data(), cells.data(), data, order_);
  counting_sort(entries_.data(), cell_begin_.data(), cells.data(), nnz_, n_cells, stream);
  launch(gather_kernel, blocks_for(nnz_, kThreads), dim3(kThreads), 0, stream, users_.data(), items_.data(),
         entries_.data(), rows.data(), data, nnz_);
  order_.items = items_.data();
  order_.entries = entries_.data();
  order_.cell_begin = cell_begin_.data();
}

void SgdPlan::count_visits(const SgdProblem& problem, Stream stream) {
  const int n_cells = order_.n_blocks * order_.n_blocks;
  cell_visits_.assign(static_cast<size_t>(n_cells + 1), 0);
  if (nnz_ == 0) return;
  cell_visits_.back() = nnz_;
  if (problem.rates == nullptr) {
    if (n_cells > 1) copy_to_host(cell_visits_.data(), cell_begin_.data(), n_cells + 1, stream);
    return;
  }
  launch(visit_counts_kernel, blocks_for(nnz_ + 1, kThreads), dim3(kThreads), 0, stream, first_visit_.data(), problem,
         order_, nnz_);
  prefix_sum(first_visit_.data(), nnz_ + 1, stream);
  const int64_t* first_visit = first_visit_.data();
  if (n_cells > 1) {
    DeviceBuffer<int64_t> visits(n_cells + 1, stream);
    launch(cell_visits_kernel, dim3(1), dim3(kThreads), 0, stream, visits.data(), cell_begin_.data(), first_visit,
           n_cells + 1);
    copy_to_host(cell_visits_.data(), visits.data(), n_cells + 1, stream);
  } else {
    cell_visits_.back() = read_element(first_visit + nnz_, stream);
  }
  entry_of_ = DeviceBuffer<int64_t>(n_visits(), stream);
  launch(expand_kernel, blocks_for(nnz_, kThreads), dim3(kThreads), 0, stream, entry_of_.data(), first_visit, nnz_);
  order_.first_visit = first_visit;
  order_.entry_of = entry_of_.data();
}

}  // namespace recsys_fast
