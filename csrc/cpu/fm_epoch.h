// The epoch that plain and field-aware machines share: batches of rows forward, then batches of features backward.
#pragma once

#include <utility>
#include <vector>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/fm_batch.h"
#include "cpu/fm_machine.h"
#include "cpu/fm_step.h"

namespace recsys_fast {

template <class Forward>
class FmEpoch {
 public:
  FmEpoch(const FmModel& model, const FmData& data, const FmTraining& training, const FmShape& shape,
          const Forward& forward, int n_threads)
      : model_(model),
        data_(data),
        training_(training),
        shape_(shape),
        forward_(forward),
        n_threads_(n_threads),
        batches_(data, training, n_threads),
        step_(training.optimizer, training.learning_rate) {
    step_.fill_table();
    const auto n = static_cast<size_t>(batches_.max_rows());
    const auto n_fields = static_cast<size_t>(shape.n_fields), slot = static_cast<size_t>(shape.slot);
    arena_.reset(Arena::padded<float>(n * n_fields * slot) + Arena::padded<float>(n) +
                 Arena::padded<float>((n_fields + 1) * slot));
    slots_ = arena_.take<float>(n * n_fields * slot);
    std::fill_n(slots_, n * n_fields * slot, 0.0f);  // the padding stays so
    slopes_ = arena_.take<float>(n);
    own_ = arena_.take<float>((n_fields + 1) * slot);
    penalty_ = own_ + n_fields * slot;
    std::fill(own_, penalty_ + slot, 0.0f);
    for (int64_t f = 0; f < shape.n_fields; ++f) std::fill_n(own_ + f * shape.slot + f * shape.d, shape.d, 1.0f);
    std::fill_n(penalty_, shape.n_factors, training.factor_regularization);
    penalty_[shape.n_factors] = training.weight_regularization;
    sums_.resize(n / kRows + 1);
  }

  double run() {
    const int64_t batch = std::max<int64_t>(1, std::min(training_.batch_size, batches_.n_samples()));
    double loss = 0.0;
    for (int64_t first = 0; first < batches_.n_samples(); first += batch) {
      batches_.take(first);
      loss += forward();
      backward();
    }
    return loss;
  }

 private:
  static constexpr int64_t kRows = 64;                 // rows of a task, even: a pair stays together
  static constexpr int64_t kSmall = int64_t{1} << 13;  // floats of slots for which waking a thread does not pay

  struct Sums {
    double loss, slope;
  };

  int threads() const { return batches_.n_rows() * shape_.n_fields * shape_.slot < kSmall ? 1 : n_threads_; }

  // Scores, losses and slopes of the batch; meanwhile its entries are sorted. Updates the bias.
  double forward() {
    const int64_t n = batches_.n_rows(), n_tasks = (n + kRows - 1) / kRows;
    const auto bias = static_cast<float>(*model_.bias);
    parallel_for(n_tasks + 1, 1, threads(), [&](int64_t task, int64_t, int) {
      if (task == 0) return batches_.sort();
      const int64_t begin = (task - 1) * kRows, end = std::min(n, begin + kRows);
      for (int64_t b = begin; b < end; ++b) {
        if (b + kAhead < n) ask_for(batches_.row(b + kAhead));
        slopes_[b] = bias + forward_(batches_.row(b), slots_ + b * shape_.n_fields * shape_.slot);
      }
      sums_[static_cast<size_t>(task - 1)] = training_.loss == FmLoss::kBpr ? pairs(begin, end) : samples(begin, end);
    });
    Sums total = {0.0, 0.0};
    for (int64_t i = 0; i < n_tasks; ++i) {
      total.loss += sums_[static_cast<size_t>(i)].loss;
      total.slope += sums_[static_cast<size_t>(i)].slope;
    }
    if (training_.loss != FmLoss::kBpr) step_.apply_bias(model_.bias, total.slope / static_cast<double>(n));
    return total.loss;
  }

  // Row `row` of the matrix is wanted in a moment: its place, and the parameters of the one that comes before it.
  RF_INLINE void ask_for(int64_t row) const {
    const Csr& rows = data_.rows;
    const int64_t begin = rows.row_ptr[row];
    prefetch(rows.col_idx + begin, 1);
    if (rows.values != nullptr) prefetch(rows.values + begin, 1);
  }

  float weight(int64_t row) const { return data_.weights == nullptr ? 1.0f : data_.weights[row]; }

  // Turns scores into slopes.
  Sums samples(int64_t begin, int64_t end) const {
    Sums sums = {0.0, 0.0};
    for (int64_t b = begin; b < end; ++b) {
      const int64_t row = batches_.row(b);
      const FmSlope one = fm_slope(training_.loss, slopes_[b], data_.targets[row], weight(row));
      slopes_[b] = one.slope;
      sums.loss += one.loss;
      sums.slope += double{one.slope};
    }
    return sums;
  }

  Sums pairs(int64_t begin, int64_t end) const {
    Sums sums = {0.0, 0.0};
    for (int64_t b = begin; b < end; b += 2) {
      const FmSlope one = fm_slope(FmLoss::kLogistic, slopes_[b] - slopes_[b + 1], 1.0f, weight(batches_.row(b)));
      slopes_[b] = one.slope;
      slopes_[b + 1] = -one.slope;
      sums.loss += one.loss;
    }
    return sums;
  }

  // One step of every feature of the batch.
  void backward() {
    const auto& pieces = batches_.pieces();
    const int32_t* features = batches_.features();
    parallel_for(static_cast<int64_t>(pieces.size()) - 1, 1, threads(), [&](int64_t piece, int64_t, int) {
      const auto end = static_cast<size_t>(pieces[piece + 1]);
      for (auto t = static_cast<size_t>(pieces[piece]); t < end; ++t) {
        if (t + 4 < end) {
          prefetch(model_.table.row(features[t + 4]), 1);
          prefetch(model_.state.row(features[t + 4]), 1);
        }
        update(features[t], batches_.starts()[t], batches_.starts()[t + 1]);
      }
    });
  }

  void update(int64_t feature, int64_t begin, int64_t end) const {
    const int32_t* at_rows = batches_.entry_rows();
    const float* values = batches_.entry_values();
    const int64_t field = model_.fields == nullptr ? 0 : model_.fields[feature];
    const int64_t stride = shape_.n_fields * shape_.slot;
    const float* slots = slots_ + field * shape_.slot;
    const float* own = own_ + field * shape_.slot;
    float *row = model_.table.row(feature), *state = model_.state.row(feature);
    const float rate = step_.row_rate(model_.steps, feature);
    const Vec share = broadcast(1.0f / static_cast<float>(end - begin));
    float squares = 0.0f;  // sum of slope x^2
    for (int64_t p = begin; p < end; ++p) {
      const float x = values == nullptr ? 1.0f : values[p];
      squares += slopes_[at_rows[p]] * x * x;
    }
    for_panels(shape_.width, [&]<int Vectors>(int64_t at) {
      Vec sum[Vectors] = {};
      for (int64_t p = begin; p < end; ++p) {
        const int64_t b = at_rows[p];
        const Vec c = broadcast(slopes_[b] * (values == nullptr ? 1.0f : values[p]));
        const float* slot = slots + b * stride + at;
#pragma GCC unroll 4
        for (int i = 0; i < Vectors; ++i) sum[i] += c * load(slot + i * kLanes);
      }
      const int64_t left = shape_.width - at;
#pragma GCC unroll 4
      for (int i = 0; i < Vectors; ++i) {
        const int64_t k = at + i * kLanes;
        const Vec value = load_panel<Vectors>(row + at, i, left);
        const Vec gradient = (sum[i] - value * load(own + k) * broadcast(squares)) * share + load(penalty_ + k) * value;
        step_.apply(row + k, value, gradient, state + k, shape_.width, std::min<int64_t>(kLanes, left - i * kLanes),
                    rate);
      }
    });
  }

  static constexpr int64_t kAhead = 4;
  const FmModel& model_;
  const FmData& data_;
  const FmTraining& training_;
  const FmShape shape_;
  const Forward& forward_;
  int n_threads_;
  FmBatches batches_;
  FmStep step_;
  Arena arena_;
  float *slots_, *slopes_, *own_, *penalty_;
  std::vector<Sums> sums_;
};

}  // namespace recsys_fast
