#include "cpu/topk_basis.h"

#include <algorithm>
#include <cmath>

#include "core/gemm.h"
#include "ops/gram.h"

namespace recsys_fast {
namespace {

constexpr int64_t kQueriesPerAxis = 32;  // from so many on, turning queries and items costs little
constexpr int64_t kItemsPerAxis = 64;    // from so many on, finding the axes costs little
constexpr double kHeadEnergy = 0.6;
constexpr double kLeastEnergy = 1e-30;  // below, and above its inverse, the Gram matrix may not be a finite one
constexpr double kLargestError = 1e-3;

// Euclidean norm of q^T q - 1: how far the d x d matrix q is from orthogonal.
double departure(const float* q, int64_t d) {
  double sum = 0.0;
  std::vector<double> row(static_cast<size_t>(d));
  for (int64_t i = 0; i < d; ++i) {
    std::fill(row.begin(), row.end(), 0.0);
    row[static_cast<size_t>(i)] = -1.0;
    for (int64_t k = 0; k < d; ++k) {
      for (int64_t j = 0; j < d; ++j) row[static_cast<size_t>(j)] += static_cast<double>(q[k * d + i]) * q[k * d + j];
    }
    for (const double x : row) sum += x * x;
  }
  return std::sqrt(sum);
}

}  // namespace

Basis::Basis(Rows<const float> items, int64_t n_candidates, int64_t n_queries, int n_threads)
    : d_(items.d), head_(items.d) {
  if (n_queries < kQueriesPerAxis * d_ || n_candidates < kItemsPerAxis * d_ || 4 * n_candidates < items.n) return;
  const auto size = static_cast<size_t>(d_ * d_);
  std::vector<float> product(size), axes(size), energy(static_cast<size_t>(d_));
  gram<Cpu>(product.data(), items, n_threads);
  double total = 0.0, head_energy = 0.0;
  for (int64_t k = 0; k < d_; ++k) total += product[static_cast<size_t>(k * d_ + k)];
  if (!(total > kLeastEnergy && total < 1.0 / kLeastEnergy)) return;
  gram_eigen<Cpu>(axes.data(), energy.data(), product.data(), d_, n_threads);
  int64_t head = 0;
  while (head < d_ && head_energy < kHeadEnergy * total) head_energy += energy[static_cast<size_t>(head++)];
  head = (std::max(head, d_ / 4) + 7) / 8 * 8;
  const double off = departure(axes.data(), d_);
  if (!(off < kLargestError) || 2 * head > d_) return;
  head_ = head;
  // Each coordinate is a sum of d products, off by d u |row| at most, u = 2^-24; two rows have d of them each.
  const auto width = static_cast<double>(d_);
  error_ = off + 0x1p-23 * width * std::sqrt(width);
  axes_.assign(static_cast<size_t>(d_ * padded(d_)), 0.0f);
  for (int64_t k = 0; k < d_; ++k) std::copy_n(axes.data() + k * d_, d_, axes_.data() + k * padded(d_));
}

void Basis::rotate(float* out, const float* row) const {
  gemm(out, 0, row, 0, axes_.data(), padded(d_), 1, padded(d_), d_, false);
}

int32_t Basis::signs(const float* row, int n) const {
  const int64_t width = std::min(padded(kSigns), padded(d_));
  float leading[kSigns + kLanes];
  gemm(leading, 0, row, 0, axes_.data(), padded(d_), 1, width, d_, false);
  int32_t bits = 0;
  for (int j = 0; j < std::min<int64_t>(n, d_); ++j) bits |= (leading[j] > 0.0f) << j;
  return bits;
}

}  // namespace recsys_fast
