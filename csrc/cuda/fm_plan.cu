#include "cuda/fm_plan.h"

#include <algorithm>

#include "core/sorted_ids.h"
#include "cuda/prefix_sum.h"
#include "cuda/reduce.h"
#include "ops/table.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
constexpr int64_t kWindow = int64_t{1} << 16;  // samples, where a batch is not larger
constexpr int64_t kMostKeys = (int64_t{1} << 31) - 1;

// rows of the samples from `first` on: the sample itself, or a positive row and a negative one of its group.
__global__ void __launch_bounds__(kThreads) fm_rows_kernel(int32_t* rows, FmOrder order, FmData data, uint64_t seed,
                                                           uint32_t epoch, int64_t first, int64_t n, bool pairs) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const int64_t p = order(first + i);
  if (!pairs) {
    rows[i] = static_cast<int32_t>(p);
    return;
  }
  const int64_t begin = data.negative_ptr[data.groups[p]], end = data.negative_ptr[data.groups[p] + 1];
  const uint32_t word = draw(seed, epoch, static_cast<uint64_t>(p), 0);
  rows[2 * i] = data.positives[p];
  rows[2 * i + 1] = data.negatives[begin + to_range(word, static_cast<int32_t>(end - begin))];
}

// lengths (n + 1) = entries of each row, then 0.
__global__ void __launch_bounds__(kThreads)
    fm_lengths_kernel(int64_t* lengths, const int32_t* rows, const int64_t* row_ptr, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i <= n) lengths[i] = i < n ? row_ptr[rows[i] + 1] - row_ptr[rows[i]] : 0;
}

// The entries of every row: their features, counted on from batch to batch, places and values. A warp per row.
__global__ void __launch_bounds__(kThreads)
    fm_keys_kernel(int32_t* keys, int32_t* places, float* values, const int64_t* starts, const int32_t* rows, Csr x,
                   int64_t n, int64_t batch_rows) {
  const int64_t i = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (i >= n) return;
  const int64_t begin = x.row_ptr[rows[i]], size = x.row_ptr[rows[i] + 1] - begin, to = starts[i];
  const int64_t shift = i / batch_rows * x.n_cols;
  for (int64_t e = Warp::lane(); e < size; e += kWarpSize) {
    keys[to + e] = static_cast<int32_t>(shift + x.col_idx[begin + e]);
    places[to + e] = static_cast<int32_t>(i);
    if (x.values != nullptr) values[to + e] = x.values[begin + e];
  }
}

// starts (n_batches + 1): the first run of each batch.
__global__ void __launch_bounds__(kThreads)
    fm_batch_runs_kernel(int64_t* starts, const int32_t* runs, int64_t n_runs, int64_t n_batches, int64_t n_features) {
  const int64_t j = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (j <= n_batches) starts[j] = first_above(n_runs, [&](int64_t r) { return runs[r] >= j * n_features; });
}

template <class T>
void make_room(DeviceBuffer<T>& buffer, int64_t n, Stream stream) {
  if (buffer.size() < n) buffer = DeviceBuffer<T>(n, stream);
}

}  // namespace

FmPlan::FmPlan(const FmData& data, const FmTraining& training, Stream stream)
    : data_(data),
      training_(training),
      stream_(stream),
      pairs_(training.loss == FmLoss::kBpr),
      n_samples_(pairs_ ? data.n_positives : data.rows.n_rows),
      batch_(std::max<int64_t>(1, std::min(training.batch_size, n_samples_))),
      order_(training.seed, training.epoch, n_samples_) {
  // Runs are told apart by a key of 31 bits, which has the batch and the feature in it.
  const int64_t most = std::max<int64_t>(1, kMostKeys / std::max<int64_t>(1, data.rows.n_cols));
  window_ = batch_ * std::clamp<int64_t>(kWindow / batch_, 1, most);
}

int64_t FmPlan::take(int64_t first) {
  const int64_t n_taken = std::min(window_, n_samples_ - first), n = n_taken * rows_per_sample();
  const int64_t n_batches = (n_taken + batch_ - 1) / batch_, n_features = data_.rows.n_cols;
  make_room(rows_, n, stream_);
  launch(fm_rows_kernel, dim3(blocks_for(n_taken, kThreads)), dim3(kThreads), 0, stream_, rows_.data(), order_, data_,
         training_.seed, training_.epoch, first, n_taken, pairs_);
  DeviceBuffer<int64_t> starts(n + 1, stream_), batch_runs(n_batches + 1, stream_);
  launch(fm_lengths_kernel, dim3(blocks_for(n + 1, kThreads)), dim3(kThreads), 0, stream_, starts.data(), rows_.data(),
         data_.rows.row_ptr, n);
  prefix_sum(starts.data(), n + 1, stream_);
  const int64_t n_entries = read_element(starts.data() + n, stream_);
  if (n_entries > kMostKeys) throw ShapeError("entries of the rows of a window of batches", n_entries, kMostKeys);
  make_room(keys_, n_entries, stream_);
  make_room(runs_, n_entries, stream_);
  make_room(run_ptr_, n_entries + 1, stream_);
  make_room(entries_, n_entries, stream_);
  make_room(entry_places_, n_entries, stream_);
  if (data_.rows.values != nullptr) make_room(entry_values_, n_entries, stream_);
  launch(fm_keys_kernel, dim3(blocks_for(n, kWarps)), dim3(kThreads), 0, stream_, keys_.data(), entry_places_.data(),
         entry_values_.data(), starts.data(), rows_.data(), data_.rows, n, batch_ * rows_per_sample());
  const int64_t n_runs =
      id_plan<Cuda>(runs_.data(), run_ptr_.data(), entries_.data(), keys_.data(), n_entries, n_batches * n_features, 0);
  launch(fm_batch_runs_kernel, dim3(blocks_for(n_batches + 1, kThreads)), dim3(kThreads), 0, stream_, batch_runs.data(),
         runs_.data(), n_runs, n_batches, n_features);
  batch_runs_.resize(static_cast<size_t>(n_batches + 1));
  copy_to_host(batch_runs_.data(), batch_runs.data(), n_batches + 1, stream_);
  return n_taken;
}

}  // namespace recsys_fast
