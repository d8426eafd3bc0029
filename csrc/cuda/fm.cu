// Batches of an epoch follow each other; a batch is a launch for its rows (scores, losses, what gradients need), a
// short one for the bias, and one for its features, each of which adds up its entries and steps. Who adds what in which
// order is in the plan (fm_plan.h), so the bits are the same from run to run.
#include "ops/fm.h"

#include <algorithm>

#include "cuda/entry_sums.h"
#include "cuda/fm_plan.h"
#include "cuda/fm_rows.h"
#include "cuda/sum.h"
#include "ops/fm_arithmetic.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kSlots = int64_t{1} << 24;  // floats of slots that predictions take at a time

// A row's score becomes its slope, and its loss is kept. bpr looks at pairs later.
struct RowSlopes {
  float* slopes;
  double* losses;
  const double* bias;
  const float *targets, *weights;
  FmLoss loss;
  __device__ __forceinline__ void operator()(int64_t b, int64_t row, float score) const {
    score += static_cast<float>(*bias);
    if (loss == FmLoss::kBpr) {
      slopes[b] = score;
      return;
    }
    const FmSlope one = fm_slope(loss, score, targets[row], weights != nullptr ? weights[row] : 1.0f);
    slopes[b] = one.slope;
    losses[b] = one.loss;
  }
};

struct RowScores {
  float* out;
  float bias;
  __device__ __forceinline__ void operator()(int64_t b, int64_t, float score) const { out[b] = bias + score; }
};

// Scores of n pairs become slopes; losses (n).
__global__ void __launch_bounds__(kThreads)
    fm_pairs_kernel(float* slopes, double* losses, const int32_t* rows, const float* weights, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const float weight = weights != nullptr ? weights[rows[2 * i]] : 1.0f;
  const FmSlope one = fm_slope(FmLoss::kLogistic, slopes[2 * i] - slopes[2 * i + 1], 1.0f, weight);
  slopes[2 * i] = one.slope;
  slopes[2 * i + 1] = -one.slope;
  losses[i] = one.loss;
}

// One block: the bias steps along the mean of the slopes (n).
__global__ void __launch_bounds__(kThreads)
    fm_bias_kernel(double* bias, const float* slopes, int64_t n, FmOptimizer optimizer, float rate) {
  RF_SHARED(double, scratch, kWarpSize);
  double total = 0.0;
  for (int64_t b = threadIdx.x; b < n; b += kThreads) total += static_cast<double>(slopes[b]);
  total = Block::sum(total, scratch);
  if (threadIdx.x == 0) fm_bias_step(optimizer, rate, bias, total / static_cast<double>(n));
}

// rates (n) = Adam's rate of the next update of each run's feature, which is counted.
__global__ void __launch_bounds__(kThreads)
    fm_rates_kernel(float* rates, int32_t* steps, const int32_t* runs, int64_t shift, int64_t n, float rate) {
  const int64_t r = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (r >= n) return;
  const int64_t feature = runs[r] - shift;
  const int32_t t = min(steps[feature] + 1, kFmForever);
  steps[feature] = t;
  rates[r] = t < kFmForever ? static_cast<float>(fm_adam_rate(double{rate}, t)) : rate;
}

// The features of a batch: sums over their entries of slope x (slot - what is the feature's own in it).
struct RunLists {
  FmTable table;
  const int32_t *runs, *entries, *places;
  const float *values, *slots, *slopes;
  int64_t shift, first_place;  // of the batch

  struct Entry {
    const float *slot, *own;
    float x, factor;
    int64_t begin, end;  // columns that the feature itself is in
    __device__ __forceinline__ float operator()(int64_t c) const {
      return factor * (c >= begin && c < end ? slot[c] - x * own[c] : slot[c]);
    }
  };
  struct List {
    const RunLists& all;
    const float* own;
    int64_t field;
    __device__ __forceinline__ Entry entry(int64_t p) const {
      const int32_t e = all.entries[p];
      const int64_t b = all.places[e] - all.first_place, d = all.table.d();
      const float x = all.values != nullptr ? all.values[e] : 1.0f;
      return {all.slots + (b * all.table.n_fields + field) * all.table.rows.d,
              own,
              x,
              all.slopes[b] * x,
              field * d,
              (field + 1) * d};
    }
  };
  __device__ __forceinline__ List of(int64_t r) const {
    const int64_t feature = runs[r] - shift;
    return {*this, table.rows.row(feature), table.field(feature)};
  }
};

// A step of a feature's number along the mean over its entries plus its penalty.
struct FeatureStep {
  Rows<float> table;
  float* state;
  const int32_t* runs;
  const int64_t* run_ptr;
  const float* rates;  // Adam's
  int64_t shift;
  FmTraining how;

  __device__ __forceinline__ float start(int64_t, int64_t) const { return 0.0f; }
  __device__ __forceinline__ void finish(int64_t r, int64_t c, float sum) const {
    const int64_t feature = runs[r] - shift, width = table.d;
    float *row = table.row(feature) + c, value = *row;
    const float penalty = c < width - 1 ? how.factor_regularization : how.weight_regularization;
    const float gradient = sum / static_cast<float>(run_ptr[r + 1] - run_ptr[r]) + penalty * value;
    if (how.optimizer == FmOptimizer::kSgd) {
      value -= how.learning_rate * gradient;
    } else if (how.optimizer == FmOptimizer::kAdagrad) {
      float* squares = state + feature * width + c;
      const float total = *squares + gradient * gradient;
      *squares = total;
      value -= how.learning_rate * gradient / (sqrtf(total) + kFmEpsilon);
    } else {
      float *first = state + feature * 2 * width + c, *second = first + width;
      const float m = *first + (1.0f - kFmBeta1) * (gradient - *first);
      const float v = *second + (1.0f - kFmBeta2) * (gradient * gradient - *second);
      *first = m;
      *second = v;
      value -= rates[r] * m / (sqrtf(v) + kFmEpsilon);
    }
    *row = value;
  }
};

FmTable table_of(Rows<const float> rows, const int32_t* fields, int64_t n_fields) { return {rows, fields, n_fields}; }

class Epoch {
 public:
  Epoch(const FmModel& model, const FmData& data, const FmTraining& how)
      : model_(model),
        data_(data),
        how_(how),
        stream_(current_stream()),
        table_(table_of({model.table.data, model.table.n, model.table.d}, model.fields, model.n_fields)),
        plan_(data, how, stream_) {}

  double run() {
    const int64_t n = plan_.n_samples(), batch_rows = plan_.batch_samples() * plan_.rows_per_sample();
    if (n == 0) return 0.0;
    slots_ = DeviceBuffer<float>(batch_rows * table_.slots(), stream_);
    slopes_ = DeviceBuffer<float>(batch_rows, stream_);
    losses_ = DeviceBuffer<double>(n, stream_);
    for (int64_t first = 0; first < n; first += plan_.window()) {
      const int64_t taken = plan_.take(first);
      for (int64_t at = 0, j = 0; at < taken; at += plan_.batch_samples(), ++j) {
        const int64_t n_batch = std::min(plan_.batch_samples(), taken - at);
        forward(at, n_batch, losses_.data() + first + at);
        backward(j, at * plan_.rows_per_sample());
      }
    }
    return device_sum(losses_.data(), n, stream_);
  }

 private:
  // Samples [at, at + n) of the window.
  void forward(int64_t at, int64_t n, double* losses) {
    const int64_t place = at * plan_.rows_per_sample(), n_rows = n * plan_.rows_per_sample();
    const int32_t* rows = plan_.rows() + place;
    const RowSlopes slopes{slopes_.data(), losses, model_.bias, data_.targets, data_.weights, how_.loss};
    fm_forward(slopes, slots_.data(), table_, data_.rows, rows, 0, n_rows, stream_);
    if (how_.loss == FmLoss::kBpr) {
      launch(fm_pairs_kernel, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0, stream_, slopes_.data(), losses, rows,
             data_.weights, n);
    } else {
      launch(fm_bias_kernel, dim3(1), dim3(kThreads), 0, stream_, model_.bias, slopes_.data(), n, how_.optimizer,
             how_.learning_rate);
    }
  }

  // Batch j of the window, whose rows begin at `place`.
  void backward(int64_t j, int64_t place) {
    const int64_t first = plan_.first_run(j), n = plan_.first_run(j + 1) - first, shift = j * model_.table.n;
    if (n == 0) return;
    const int32_t* runs = plan_.runs() + first;
    if (how_.optimizer == FmOptimizer::kAdam) {
      if (rates_.size() < n) rates_ = DeviceBuffer<float>(n, stream_);
      launch(fm_rates_kernel, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0, stream_, rates_.data(), model_.steps,
             runs, shift, n, how_.learning_rate);
    }
    const RunLists lists{
        table_, runs, plan_.entries(), plan_.entry_places(), plan_.entry_values(), slots_.data(), slopes_.data(),
        shift,  place};
    const int64_t* run_ptr = plan_.run_ptr() + first;
    const FeatureStep step{model_.table, model_.state.data, runs, run_ptr, rates_.data(), shift, how_};
    sum_entries(lists, step, run_ptr, n, model_.table.d, stream_);
  }

  const FmModel& model_;
  const FmData& data_;
  const FmTraining& how_;
  Stream stream_;
  FmTable table_;
  FmPlan plan_;
  DeviceBuffer<float> slots_, slopes_, rates_;
  DeviceBuffer<double> losses_;
};

}  // namespace

template <>
double fm_epoch<Cuda>(const FmModel& model, const FmData& data, const FmTraining& training, int) {
  return Epoch(model, data, training).run();
}

template <>
double ffm_epoch<Cuda>(const FmModel& model, const FmData& data, const FmTraining& training, int) {
  return Epoch(model, data, training).run();
}

template <>
void fm_predict<Cuda>(float* out, Rows<const float> table, double bias, Csr rows, int) {
  fm_forward(RowScores{out, static_cast<float>(bias)}, nullptr, table_of(table, nullptr, 1), rows, nullptr, 0,
             rows.n_rows, current_stream());
}

template <>
void ffm_predict<Cuda>(float* out, Rows<const float> table, double bias, const int32_t* fields, int64_t n_fields,
                       Csr rows, int) {
  const Stream stream = current_stream();
  const FmTable machine = table_of(table, fields, n_fields);
  const int64_t step = std::max<int64_t>(1, kSlots / machine.slots());
  DeviceBuffer<float> slots(std::min(step, rows.n_rows) * machine.slots(), stream);
  for (int64_t first = 0; first < rows.n_rows; first += step) {
    fm_forward(RowScores{out + first, static_cast<float>(bias)}, slots.data(), machine, rows, nullptr, first,
               std::min(step, rows.n_rows - first), stream);
  }
}

}  // namespace recsys_fast
