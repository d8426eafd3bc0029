// A batch of rows, and its entries grouped by feature in the order of the rows: what makes a sum over a feature's rows
// the same bits whoever computes it.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "core/simd.h"
#include "core/thread_pool.h"
#include "core/views.h"
#include "ops/fm.h"
#include "ops/fm_order.h"

namespace recsys_fast {

class FmBatches {
 public:
  FmBatches(const FmData& data, const FmTraining& training, int n_threads)
      : data_(data),
        training_(training),
        n_threads_(n_threads),
        pairs_(training.loss == FmLoss::kBpr),
        n_samples_(pairs_ ? data.n_positives : data.rows.n_rows),
        batch_(std::max<int64_t>(1, std::min(training.batch_size, n_samples_))),
        order_(training.seed, training.epoch, n_samples_),
        window_(std::max(batch_, kWindow / batch_ * batch_)),
        places_(static_cast<size_t>(std::min(window_, n_samples_))),
        rows_(static_cast<size_t>(max_rows())),
        counts_(static_cast<int32_t*>(std::calloc(static_cast<size_t>(data.rows.n_cols), sizeof(int32_t)))) {
    if (counts_ == nullptr && data.rows.n_cols > 0) throw std::bad_alloc();
  }

  int64_t n_samples() const { return n_samples_; }
  int64_t max_rows() const { return pairs_ ? 2 * batch_ : batch_; }
  int64_t n_rows() const { return n_rows_; }
  int32_t row(int64_t b) const { return rows_[static_cast<size_t>(b)]; }

  // Takes the samples from `first` on. With bpr, rows 2 i and 2 i + 1 are a positive row and its negative.
  void take(int64_t first) {
    if (first % window_ == 0) fill_window(first);
    const int64_t n = std::min(batch_, n_samples_ - first);
    const int64_t* place = places_.data() + first % window_;
    n_rows_ = pairs_ ? 2 * n : n;
    for (int64_t i = 0; i < n; ++i) {
      if (!pairs_) {
        rows_[i] = static_cast<int32_t>(place[i]);
        continue;
      }
      const int64_t p = place[i], group = data_.groups[p];
      const int64_t begin = data_.negative_ptr[group];
      const auto n_negatives = static_cast<int32_t>(data_.negative_ptr[group + 1] - begin);
      const uint32_t word = draw(training_.seed, training_.epoch, static_cast<uint64_t>(p), 0);
      rows_[2 * i] = data_.positives[p];
      rows_[2 * i + 1] = data_.negatives[begin + to_range(word, n_negatives)];
    }
  }

  // Groups the batch's entries by feature.
  void sort() {
    const Csr& csr = data_.rows;
    int32_t* const counts = counts_.get();
    n_features_ = 0;
    int64_t n_entries = 0;
    for (int64_t b = 0; b < n_rows_; ++b) {
      if (b + 2 * kAhead < n_rows_) prefetch(csr.row_ptr + rows_[b + 2 * kAhead], 1);
      if (b + kAhead < n_rows_) {
        const int64_t soon = csr.row_ptr[rows_[b + kAhead]];
        prefetch(csr.col_idx + soon, kAheadBytes);
        if (csr.values != nullptr) prefetch(csr.values + soon, kAheadBytes);
      }
      const int64_t begin = csr.row_ptr[rows_[b]], n = csr.row_size(rows_[b]);
      if (static_cast<int64_t>(entry_columns_.size()) < n_entries + n) {
        entry_columns_.resize(static_cast<size_t>(2 * (n_entries + n)));
        features_.resize(entry_columns_.size() + 1);
      }
      for (int64_t i = 0; i < n; ++i) {
        const int32_t column = csr.col_idx[begin + i];
        entry_columns_[n_entries + i] = column;
        features_[n_features_] = column;  // stays where it is the first
        n_features_ += counts[column]++ == 0;
      }
      n_entries += n;
    }
    entry_rows_.resize(static_cast<size_t>(n_entries));
    entry_values_.resize(csr.values == nullptr ? 0 : static_cast<size_t>(n_entries));
    starts_.resize(static_cast<size_t>(n_features_) + 1);
    pieces_.clear();
    int32_t at = 0, work = kPieceWork;
    for (int64_t t = 0; t < n_features_; ++t) {
      if (work >= kPieceWork) {
        pieces_.push_back(static_cast<int32_t>(t));
        work = 0;
      }
      starts_[t] = at;
      const int32_t n = std::exchange(counts[features_[t]], at);
      at += n;
      work += n + kFeatureWork;
    }
    starts_[n_features_] = at;
    pieces_.push_back(static_cast<int32_t>(n_features_));
    const int32_t* column = entry_columns_.data();
    for (int64_t b = 0; b < n_rows_; ++b) {
      const int64_t begin = csr.row_ptr[rows_[b]], n = csr.row_size(rows_[b]);
      for (int64_t i = 0; i < n; ++i) {
        const int32_t place = counts[*column++]++;
        entry_rows_[place] = static_cast<int32_t>(b);
        if (csr.values != nullptr) entry_values_[place] = csr.values[begin + i];
      }
    }
    for (int64_t t = 0; t < n_features_; ++t) counts[features_[t]] = 0;
  }

  // Features of the batch, in the order in which they first occur; feature t's entries are starts[t] to starts[t + 1].
  const int32_t* features() const { return features_.data(); }
  const std::vector<int32_t>& starts() const { return starts_; }
  const int32_t* entry_rows() const { return entry_rows_.data(); }
  const float* entry_values() const { return entry_values_.empty() ? nullptr : entry_values_.data(); }
  // Cuts the features into runs of about equal work.
  const std::vector<int32_t>& pieces() const { return pieces_; }

 private:
  static constexpr int64_t kWindow = 1 << 16, kAhead = 8, kAheadBytes = 64;
  static constexpr int32_t kPieceWork = 1024, kFeatureWork = 8;

  void fill_window(int64_t first) {
    const int64_t n = std::min(window_, n_samples_ - first);
    parallel_for(n, 4096, n_threads_, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) places_[i] = order_(first + i);
    });
  }

  struct Free {
    void operator()(int32_t* p) const { std::free(p); }
  };

  const FmData& data_;
  const FmTraining& training_;
  int n_threads_;
  bool pairs_;
  int64_t n_samples_, batch_;
  FmOrder order_;
  int64_t window_, n_rows_ = 0, n_features_ = 0;
  std::vector<int64_t> places_;
  std::vector<int32_t> rows_, features_, starts_, pieces_, entry_columns_, entry_rows_;
  std::vector<float> entry_values_;
  std::unique_ptr<int32_t, Free> counts_;  // (n_features), zeros between two sorts
};

}  // namespace recsys_fast
