// The schedule of an SGD epoch on the device: the blocks, cells and visits of csrc/cpu/sgd_plan.h and sgd_visits.h,
// with the cells laid out by round, so that consecutive rounds are one stretch of visits.
#pragma once

#include <vector>

#include "cuda/kernel.h"
#include "ops/sgd.h"

namespace recsys_fast {

// What kernels see of it. Entry p counts in the order of training, visit v likewise.
struct SgdOrder {
  int n_blocks;                // 1: all users and items; then the pointers of the blocks are null
  const uint8_t* user_block;   // (n_users)
  const uint8_t* item_block;   // (n_items)
  const int32_t* members;      // (n_items) the blocks' items, ascending within each
  const int64_t* item_begin;   // (n_blocks + 1) where a block's members begin
  const double* sums;          // (n_items) running sums of the members' weights within each block
  const double* cdf;           // (n_items) or null: uniform
  const int64_t* cell_begin;   // (n_blocks^2 + 1) entries; cell of round r and user block b: r * n_blocks + b
  const int32_t* users;        // (nnz)
  const int32_t* items;        // (nnz)
  const int64_t* entries;      // (nnz) where they are in the matrix; null: at p
  const int64_t* first_visit;  // (nnz + 1); null: one visit each
  const int64_t* entry_of;     // (n_visits) p of a visit; null: p = v
};

class SgdPlan {
 public:
  static constexpr int kMostBlocks = 16;
  static int n_blocks(int64_t n_users, int64_t n_items, int64_t rows_per_block) {
    const int64_t n = (n_users < n_items ? n_users : n_items) / rows_per_block;
    return static_cast<int>(n < 1 ? 1 : n > kMostBlocks ? kMostBlocks : n);
  }

  // cdf: running sums of the items' weights, on the device, or null. Waits for the device.
  SgdPlan(const SgdProblem& problem, int n_blocks, const double* cdf, Stream stream);

  const SgdOrder& order() const { return order_; }
  int64_t n_visits() const { return cell_visits_.back(); }
  // Where the visits of a cell begin; n_blocks^2 + 1 of them.
  int64_t visits_begin(int cell) const { return cell_visits_[static_cast<size_t>(cell)]; }

 private:
  void order_entries(const SgdProblem& problem, Stream stream);
  void count_visits(const SgdProblem& problem, Stream stream);

  int64_t nnz_;
  DeviceBuffer<uint8_t> user_block_, item_block_;
  DeviceBuffer<int32_t> members_;
  DeviceBuffer<int64_t> item_begin_, cell_begin_;
  DeviceBuffer<double> sums_;
  DeviceBuffer<int32_t> users_, items_;
  DeviceBuffer<int64_t> entries_, first_visit_, entry_of_;
  std::vector<int64_t> cell_visits_;
  SgdOrder order_{};
};

// Number of entries of a matrix on the device: one word is read back.
int64_t count_entries(const Csr& matrix, Stream stream);

}  // namespace recsys_fast
