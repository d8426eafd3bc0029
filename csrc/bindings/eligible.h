// The arguments that every ranking operation shares.
#pragma once

#include <stdexcept>
#include <string>

#include "bindings/buffers.h"
#include "ops/topk.h"

namespace recsys_fast::bindings {

// A sparse matrix of which only the structure matters. Sizes are checked here, contents by validate_csr.
class PatternArrays {
 public:
  PatternArrays(const py::object& row_ptr, const py::object& col_idx, int64_t n_cols)
      : row_ptr_(row_ptr, "row_ptr"), col_idx_(col_idx, "col_idx"), n_cols_(n_cols) {
    if (row_ptr_.size() < 1) throw ShapeError("length of row_ptr", row_ptr_.size(), 1);
    check_size("length of col_idx", nnz(), row_ptr_.at(row_ptr_.size() - 1));
  }
  Csr view() const { return {row_ptr_.data(), col_idx_.data(), nullptr, row_ptr_.size() - 1, n_cols_}; }
  int64_t nnz() const { return col_idx_.size(); }

 private:
  Array<const int64_t> row_ptr_;
  Array<const int32_t> col_idx_;
  int64_t n_cols_;
};

// candidates: sorted distinct ids, or empty for all items. seen_row_ptr: one row per query, or empty for none.
class EligibleArrays {
 public:
  EligibleArrays(const py::object& candidates, const py::object& seen_row_ptr, const py::object& seen_col_idx,
                 int64_t n_queries, int64_t n_items)
      : candidates_(candidates, "candidates"),
        seen_row_ptr_(seen_row_ptr, "seen_row_ptr"),
        seen_col_idx_(seen_col_idx, "seen_col_idx") {
    if (seen_row_ptr_.size() != 0) {
      check_size("length of seen_row_ptr", seen_row_ptr_.size(), n_queries + 1);
      check_size("length of seen_col_idx", seen_col_idx_.size(), seen_row_ptr_.at(n_queries));
    }
    int64_t least = 0;
    const auto ids = candidates_.on_host();
    for (int64_t j = 0; j < candidates_.size(); ++j) {
      const int64_t id = ids[j];
      if (id < least || id >= n_items) {
        throw std::invalid_argument("candidates[" + std::to_string(j) + "]: got " + std::to_string(id) +
                                    ", expected ascending item ids below " + std::to_string(n_items));
      }
      least = id + 1;
    }
  }
  Eligible view() const {
    return {candidates_.data_or_null(), candidates_.size(), seen_row_ptr_.data_or_null(), seen_col_idx_.data()};
  }

 private:
  Array<const int32_t> candidates_;
  Array<const int64_t> seen_row_ptr_;
  Array<const int32_t> seen_col_idx_;
};

}  // namespace recsys_fast::bindings
