#include <algorithm>
#include <cmath>
#include <vector>

#include "core/arena.h"
#include "core/cholesky.h"
#include "core/thread_pool.h"
#include "cpu/fm_machine.h"

namespace recsys_fast {
namespace {

constexpr int64_t kTile = 64;      // entries that are gathered before a rank-k update
constexpr int64_t kChunk = 8192;   // entries of a task; a longer column is solved by all threads together
constexpr int64_t kLinear = 4096;  // rows of a task of the passes over all rows

// The score is linear in a feature's weight and vector together: its change moves row r's score by z_r . delta with
// z_r = x (s_r - x v, 1), s_r the row's sums. Each column is the ridge regression of the residual on z.
class Sweep {
 public:
  Sweep(Rows<float> table, double* bias, float* residual, Rows<float> sums, Csr rows, Csr columns, const float* targets,
        const float* weights, float weight_penalty, float factor_penalty, int n_threads)
      : table_(table),
        bias_(bias),
        residual_(residual),
        sums_(sums),
        rows_(rows),
        columns_(columns),
        targets_(targets),
        weights_(weights),
        weight_penalty_(weight_penalty),
        factor_penalty_(factor_penalty),
        n_threads_(n_threads),
        d_(table.d - 1),
        width_(padded(d_ + 2)),
        system_(padded(d_ + 1)) {}

  double run() {
    start();
    shift_bias();
    std::vector<int32_t> stamps(static_cast<size_t>(rows_.n_rows), 0);
    int32_t group = 0;
    for (int64_t first = 0; first < columns_.n_rows;) {
      const int64_t end = disjoint_run(first, stamps.data(), ++group);
      solve_run(first, end);
      first = end;
    }
    return objective();
  }

 private:
  // Residuals and sums of all rows, from scratch: what rounding left of the last sweep's is gone.
  void start() {
    const Rows<const float> values{table_.data, table_.n, table_.d};
    const FmShape shape = FmShape::of(table_.d, 1);
    const PlainForward forward{values, shape, rows_};
    const auto bias = static_cast<float>(*bias_);
    parallel_for(rows_.n_rows, 256, n_threads_, [&](int64_t begin, int64_t end, int) {
      Arena& arena = thread_arena();
      arena.reset(Arena::padded<float>(static_cast<size_t>(shape.slot)));
      float* slot = arena.take<float>(static_cast<size_t>(shape.slot));
      for (int64_t r = begin; r < end; ++r) {
        residual_[r] = targets_[r] - bias - forward(r, slot);
        std::copy_n(slot, d_, sums_.row(r));
      }
    });
  }

  float weight(int64_t row) const { return weights_ == nullptr ? 1.0f : weights_[row]; }

  // Sum over rows of term(row), the same for any number of threads.
  template <class Term>
  double sum_rows(Term&& term) const {
    std::vector<double> parts(static_cast<size_t>(rows_.n_rows / kLinear + 1), 0.0);
    parallel_for(rows_.n_rows, kLinear, n_threads_, [&](int64_t begin, int64_t end, int) {
      double sum = 0.0;
      for (int64_t r = begin; r < end; ++r) sum += term(r);
      parts[static_cast<size_t>(begin / kLinear)] = sum;
    });
    double total = 0.0;
    for (const double part : parts) total += part;
    return total;
  }

  void shift_bias() {
    const double total = sum_rows([&](int64_t r) { return double{weight(r)}; });
    if (!(total > 0.0)) return;
    const double change = sum_rows([&](int64_t r) { return double{weight(r)} * double{residual_[r]}; }) / total;
    *bias_ += change;
    parallel_for(rows_.n_rows, kLinear, n_threads_, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) residual_[r] -= static_cast<float>(change);
    });
  }

  // The end of the run of columns from `first` on that share no row: what can be solved at the same time.
  int64_t disjoint_run(int64_t first, int32_t* stamps, int32_t group) const {
    for (int64_t j = first; j < columns_.n_rows; ++j) {
      const int64_t begin = columns_.row_ptr[j], end = columns_.row_ptr[j + 1];
      for (int64_t e = begin; e < end; ++e) {
        if (stamps[columns_.col_idx[e]] == group) return j;
      }
      for (int64_t e = begin; e < end; ++e) stamps[columns_.col_idx[e]] = group;
    }
    return columns_.n_rows;
  }

  void solve_run(int64_t first, int64_t end) {
    cuts_.assign(1, first);
    int64_t work = 0;
    for (int64_t j = first; j < end; ++j) {
      work += columns_.row_size(j) + 16;
      if (work >= kChunk || j + 1 == end) {
        cuts_.push_back(j + 1);
        work = 0;
      }
    }
    parallel_for(static_cast<int64_t>(cuts_.size()) - 1, 1, n_threads_, [&](int64_t piece, int64_t, int) {
      for (int64_t j = cuts_[piece]; j < cuts_[piece + 1]; ++j) {
        if (columns_.row_size(j) > 0 && columns_.row_size(j) <= kChunk) solve_short(j);
      }
    });
    for (int64_t j = first; j < end; ++j) {
      if (columns_.row_size(j) > kChunk) solve_long(j);
    }
  }

  size_t gram_floats() const { return static_cast<size_t>(width_ * width_); }
  size_t tile_floats() const { return static_cast<size_t>(kTile * width_); }
  size_t system_floats() const { return static_cast<size_t>(system_ * (system_ + kLanes)); }
  size_t scratch_bytes() const {
    return Arena::padded<float>(gram_floats()) + Arena::padded<float>(tile_floats()) +
           Arena::padded<float>(system_floats()) + 2 * Arena::padded<float>(static_cast<size_t>(system_));
  }

  void solve_short(int64_t j) const {
    Arena& arena = thread_arena();
    arena.reset(scratch_bytes());
    float* gram = arena.take<float>(gram_floats());
    const int64_t begin = columns_.row_ptr[j], end = columns_.row_ptr[j + 1];
    accumulate(j, begin, end, gram, arena.take<float>(tile_floats()));
    float* change = arena.take<float>(static_cast<size_t>(system_));
    if (!solve(j, gram, change, arena)) return;
    move(j, begin, end, change);
    take_over(j, change);
  }

  void solve_long(int64_t j) {
    const int64_t begin = columns_.row_ptr[j], n = columns_.row_size(j), n_chunks = (n + kChunk - 1) / kChunk;
    grams_.resize(static_cast<size_t>(n_chunks) * gram_floats());
    parallel_for(n, kChunk, n_threads_, [&](int64_t from, int64_t to, int) {
      Arena& arena = thread_arena();
      arena.reset(scratch_bytes());
      float* gram = grams_.data() + static_cast<size_t>(from / kChunk) * gram_floats();
      accumulate(j, begin + from, begin + to, gram, arena.take<float>(tile_floats()));
    });
    for (int64_t c = 1; c < n_chunks; ++c) {
      axpy(grams_.data(), 1.0f, grams_.data() + static_cast<size_t>(c) * gram_floats(), width_ * width_);
    }
    Arena arena;
    arena.reset(scratch_bytes());
    float* change = arena.take<float>(static_cast<size_t>(system_));
    if (!solve(j, grams_.data(), change, arena)) return;
    parallel_for(n, kChunk, n_threads_,
                 [&](int64_t from, int64_t to, int) { move(j, begin + from, begin + to, change); });
    take_over(j, change);
  }

  // gram (width, width), upper triangle = sum of weight (z, residual) (z, residual)^T over entries begin to end.
  void accumulate(int64_t j, int64_t begin, int64_t end, float* gram, float* tile) const {
    const float* v = table_.row(j);
    std::fill_n(gram, gram_floats(), 0.0f);
    std::fill_n(tile, tile_floats(), 0.0f);
    for (int64_t first = begin; first < end; first += kTile) {
      const int64_t n = std::min(kTile, end - first);
      for (int64_t i = 0; i < n; ++i) {
        if (first + i + kAhead < end) ask_for(columns_.col_idx[first + i + kAhead]);
        const int64_t r = columns_.col_idx[first + i];
        const float x = columns_.values == nullptr ? 1.0f : columns_.values[first + i];
        const float root = weights_ == nullptr ? 1.0f : std::sqrt(weights_[r]);
        const float* s = sums_.row(r);
        float* z = tile + i * width_;
        const float scale = x * root;
        for (int64_t k = 0; k < d_; ++k) z[k] = scale * (s[k] - x * v[k]);
        z[d_] = scale;
        z[d_ + 1] = root * residual_[r];
      }
      syrk_upper(gram, width_, tile, width_, width_, n, 1.0f, true);
    }
  }

  void ask_for(int64_t row) const {
    prefetch(sums_.row(row), 4 * d_);
    prefetch(residual_ + row, 1);
  }

  // change (system) = argmin; false where the system has no finite solution.
  bool solve(int64_t j, const float* gram, float* change, Arena& arena) const {
    const int64_t n = d_ + 1, stride = system_ + kLanes;
    const auto count = static_cast<float>(columns_.row_size(j));
    float* a = arena.take<float>(system_floats());
    float* inverse = arena.take<float>(static_cast<size_t>(system_));
    std::fill_n(a, system_floats(), 0.0f);
    float trace = 0.0f;
    for (int64_t k = 0; k < n; ++k) trace += gram[k * width_ + k];
    const float least = 1e-6f * trace / static_cast<float>(n) + 1e-12f;
    for (int64_t i = 0; i < system_; ++i) {
      if (i >= n) {
        a[i * stride + i] = 1.0f;
        continue;
      }
      const float penalty = count * (i < d_ ? factor_penalty_ : weight_penalty_);
      std::copy(gram + i * width_ + i, gram + i * width_ + n, a + i * stride + i);
      a[i * stride + i] += std::max(penalty, least);
      a[i * stride + system_] = gram[i * width_ + n] - penalty * table_.row(j)[i];
    }
    const bool positive = cholesky_upper(a, stride, system_, stride, inverse);
    for (int64_t k = 0; k < system_; ++k) change[k] = a[k * stride + system_];
    solve_upper(a, stride, inverse, change, system_);
    return positive && std::isfinite(dot(change, change, n));
  }

  // Residuals and sums after the change of feature j, for its entries begin to end.
  void move(int64_t j, int64_t begin, int64_t end, const float* change) const {
    const float* v = table_.row(j);
    for (int64_t e = begin; e < end; ++e) {
      if (e + kAhead < end) ask_for(columns_.col_idx[e + kAhead]);
      const int64_t r = columns_.col_idx[e];
      const float x = columns_.values == nullptr ? 1.0f : columns_.values[e];
      float* s = sums_.row(r);
      const float moved = dot(s, change, d_) - x * dot(v, change, d_) + change[d_];
      residual_[r] -= x * moved;
      axpy(s, x, change, d_);
    }
  }

  void take_over(int64_t j, const float* change) const {
    float* row = table_.row(j);
    for (int64_t k = 0; k <= d_; ++k) row[k] += change[k];
  }

  double objective() const {
    double total = sum_rows([&](int64_t r) { return 0.5 * double{weight(r)} * double{residual_[r]} * residual_[r]; });
    for (int64_t j = 0; j < table_.n; ++j) {
      const float* row = table_.row(j);
      const double squares = double{factor_penalty_} * double{dot(row, row, d_)};
      total +=
          0.5 * static_cast<double>(columns_.row_size(j)) * (squares + double{weight_penalty_} * row[d_] * row[d_]);
    }
    return total;
  }

  static constexpr int64_t kAhead = 8;
  Rows<float> table_;
  double* bias_;
  float* residual_;
  Rows<float> sums_;
  Csr rows_, columns_;
  const float *targets_, *weights_;
  float weight_penalty_, factor_penalty_;
  int n_threads_;
  int64_t d_, width_, system_;
  std::vector<int64_t> cuts_;
  std::vector<float> grams_;
};

}  // namespace

template <>
double fm_als_sweep<Cpu>(Rows<float> table, double* bias, float* residual, Rows<float> sums, Csr rows, Csr columns,
                         const float* targets, const float* weights, float weight_regularization,
                         float factor_regularization, int n_threads) {
  return Sweep(table, bias, residual, sums, rows, columns, targets, weights, weight_regularization,
               factor_regularization, n_threads)
      .run();
}

}  // namespace recsys_fast
