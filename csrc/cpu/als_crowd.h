// Many long rows at once. A row that names more of y than the caches hold would fetch all of it again in each step;
// together, tile after tile of y, long rows share what each of them fetches.
#pragma once

#include <vector>

#include "core/views.h"
#include "ops/als.h"

namespace recsys_fast {

// The long rows that are solved together. Which rows these are depends on the matrix and the width alone; how they are
// grouped, on the number of threads too, but no row's result on its group.
struct AlsCrowd {
  std::vector<int32_t> rows;    // by descending size
  std::vector<int64_t> bounds;  // (n_groups + 1) of the groups in rows
  std::vector<bool> member;     // (n rows of the matrix)

  // Of the rows with more than `longest_alone` entries in ascending columns, as many as share enough of their columns.
  AlsCrowd(const Csr& matrix, int64_t longest_alone, int64_t d_padded, int n_threads);

  int64_t n_groups() const { return std::ssize(bounds) - 1; }
};

// What a sweep knows about all of its rows.
struct AlsCrowdTask {
  Rows<float> x;
  Rows<const float> y;
  const Csr& matrix;
  const AlsProblem& problem;
  const float* unobserved;  // (d_padded) w0 * spectrum
  float floor;              // least diagonal
  int64_t d_padded;
  int n_steps;
  int64_t block;  // columns of a block, subspace only
};

// Solves n rows in place. objectives (n): of each at its solution; NaN, and x as it was, where it could not be solved.
void als_cg_crowd(const AlsCrowdTask& task, const int32_t* rows, int64_t n, double* objectives);
void als_subspace_crowd(const AlsCrowdTask& task, const int32_t* rows, int64_t n, double* objectives);

// Entries of a row that has too few per tile of y to take part in als_subspace_crowd.
int64_t als_subspace_longest_alone(int64_t n_cols, int64_t block);

}  // namespace recsys_fast
