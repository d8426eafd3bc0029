// What an epoch of a factorization machine knows before it begins: which rows each batch has, and which features, each
// with its entries in the order of the rows. A window of batches at a time, so that nothing has to be sorted, and the
// host need not wait, between two batches.
#pragma once

#include <vector>

#include "cuda/kernel.h"
#include "ops/fm.h"
#include "ops/fm_order.h"

namespace recsys_fast {

class FmPlan {
 public:
  FmPlan(const FmData& data, const FmTraining& training, Stream stream);

  int64_t n_samples() const { return n_samples_; }
  int64_t batch_samples() const { return batch_; }
  int64_t rows_per_sample() const { return pairs_ ? 2 : 1; }

  // Makes the plan of the window of samples from `first` on; returns how many it has.
  int64_t take(int64_t first);
  // Samples of a window at most.
  int64_t window() const { return window_; }

  // Of the window: rows of the matrix by place (a pair is its positive row and its negative one); the features of
  // batch j are runs()[r] - j n_features for r from first_run(j) to first_run(j + 1), the entries of run r those from
  // run_ptr()[r] on; entry e is of place entry_places()[entries()[e]], its value likewise (null: 1).
  const int32_t* rows() const { return rows_.data(); }
  const int32_t* runs() const { return runs_.data(); }
  const int64_t* run_ptr() const { return run_ptr_.data(); }
  const int32_t* entries() const { return entries_.data(); }
  const int32_t* entry_places() const { return entry_places_.data(); }
  const float* entry_values() const { return data_.rows.values != nullptr ? entry_values_.data() : nullptr; }
  int64_t first_run(int64_t batch) const { return batch_runs_[static_cast<size_t>(batch)]; }

 private:
  const FmData& data_;
  const FmTraining& training_;
  Stream stream_;
  bool pairs_;
  int64_t n_samples_, batch_, window_;
  FmOrder order_;
  DeviceBuffer<int32_t> rows_, runs_, entries_, entry_places_, keys_;
  DeviceBuffer<int64_t> run_ptr_;
  DeviceBuffer<float> entry_values_;
  std::vector<int64_t> batch_runs_;
};

}  // namespace recsys_fast
