// How a sparse product is summed: its busiest columns, where b has no values, as rows of bits, the others as lists.
#pragma once

#include <vector>

#include "core/views.h"

namespace recsys_fast {

// Adding a row of bits to vectors of counts costs the same whatever is set, a list costs by its entries, and in real
// interactions a few columns hold most entries. Columns are therefore put in places, busiest first, and the first
// n_head of them become bits. With n_head == 0 places are columns, and b is used as it is.
struct ProductPlan {
  static constexpr int64_t kHeadStep = 512;  // n_head is a multiple, so that rows of bits are whole cache lines

  ProductPlan(const Csr& a, const Csr& b, int n_threads);
  ProductPlan(const ProductPlan&) = delete;
  ProductPlan& operator=(const ProductPlan&) = delete;

  int32_t column(int32_t place) const { return n_head == 0 ? place : columns[place]; }
  int64_t place(int64_t column) const { return n_head == 0 ? column : places[column]; }
  const uint8_t* bits(int64_t row) const { return head + row * (n_head / 8); }

  int64_t n_head = 0;
  int64_t work = 0;  // multiply-adds of the product
  Csr tail;          // (k, n_cols): the entries of b that are not bits, by place

 private:
  void choose_head(const Csr& a, const Csr& b, const std::vector<int64_t>& uses);
  void split(const Csr& b, int n_threads);

  std::vector<int32_t> columns, places;  // (n_cols)
  std::vector<uint8_t> head_memory;
  uint8_t* head = nullptr;  // in head_memory, at the start of a cache line
  std::vector<int64_t> tail_row_ptr;
  std::vector<int32_t> tail_col_idx;
};

}  // namespace recsys_fast
