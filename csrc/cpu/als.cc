#include "ops/als.h"

#include <vector>

#include "core/thread_pool.h"
#include "cpu/als_cg.h"
#include "cpu/als_cholesky.h"
#include "cpu/als_crowd.h"
#include "cpu/als_subspace.h"

namespace recsys_fast {
namespace {

constexpr int64_t kRowsPerTask = 16;
constexpr int64_t kResidentBytes = int64_t{640} << 10;  // gathered rows that stay in a core's L2 cache

// How one row is solved; chosen from its length and the width alone, so results do not depend on threads.
enum class Form { kPrimal, kDual, kCg, kSubspace };

struct Sweep {
  Rows<float> x;
  Rows<const float> y;
  Csr matrix;
  const AlsProblem& problem;
  AlsSolver solver;
  int n_steps;
  int64_t block, d_padded, n_resident;
  const float* unobserved;  // (d_padded) w0 * spectrum
  float floor;              // keeps D positive where nothing regularises a direction

  Form form(int64_t n, float smallest_weight) const {
    const bool dual = padded(n) < d_padded && smallest_weight > 0.0f;
    if (solver == AlsSolver::kCholesky) return dual ? Form::kDual : Form::kPrimal;
    if (solver == AlsSolver::kSubspace) {
      if (dual && n <= block) return Form::kDual;  // exact for less than one pass costs
      return block < d_padded ? Form::kSubspace : Form::kPrimal;
    }
    // Long rows have a crowd. One on its own would be fetched in each step; below this width its normal equations cost
    // less.
    return n > n_resident && d_padded <= 160 ? Form::kPrimal : Form::kCg;
  }

  int64_t bytes(int64_t n) const {
    const int64_t np = padded(n);
    int64_t most = als_cg_bytes(std::min(n, n_resident), d_padded);
    if (np < d_padded) most = std::max(most, als_dual_bytes(n, d_padded));
    most = std::max(most, als_primal_bytes(d_padded));
    if (solver == AlsSolver::kSubspace) most = std::max(most, AlsSubspace::bytes(n, d_padded, block));
    return most + static_cast<int64_t>(3 * Arena::padded<float>(np) + 2 * Arena::padded<float>(d_padded));
  }

  bool penalised() const { return problem.regularization > 0.0f || problem.unobserved_weight > 0.0f; }

  // Rows with more entries are solved together.
  int64_t longest_alone() const {
    if (solver == AlsSolver::kCg && penalised()) return n_resident;
    if (solver == AlsSolver::kSubspace && block < d_padded) {
      return std::max({n_resident, d_padded, als_subspace_longest_alone(matrix.n_cols, block)});
    }
    return matrix.nnz();
  }

  // A small share of the mean diagonal of the row's sum over entries: what a singular system is lent.
  float share_of_diagonal(const AlsRow& row) const {
    double trace = 0.0;
    for (int64_t j = row.begin; j < row.end; ++j) {
      const float* source = y.row(matrix.col_idx[j]);
      trace += double{row.weight[j - row.begin]} * dot(source, source, y.d);
    }
    return static_cast<float>(1e-5 * trace / static_cast<double>(y.d));
  }

  // Solves row u in place; returns its objective.
  double solve(int64_t u) const {
    const int64_t n = matrix.row_size(u), d = y.d;
    float* out = x.row(u);
    if (n == 0) {
      std::fill_n(out, d, 0.0f);
      return 0.0;
    }
    Arena& arena = thread_arena();
    arena.reset(static_cast<size_t>(bytes(n)));
    float *scale = arena.take<float>(d_padded), *z = arena.take<float>(d_padded);
    float *weight = arena.take<float>(n), *target = arena.take<float>(n), *root = arena.take<float>(n);
    AlsRow row{
        problem, y,  matrix.col_idx, matrix.row_ptr[u], matrix.row_ptr[u + 1], matrix.nnz(), d_padded, scale, weight,
        target,  0.0};
    const Form how = form(n, row.read_entries());
    if (how != Form::kCg) {
      for (int64_t j = 0; j < n; ++j) root[j] = std::sqrt(weight[j]);
    }
    const size_t mark = arena.mark();
    // Without any penalty rounding errors of conjugate gradients pile up in the directions that no entry names.
    float smallest = floor;
    if (how == Form::kCg && !penalised()) smallest = std::max(floor, share_of_diagonal(row));
    double objective = solve_scaled(how, row, scale, z, root, out, smallest, arena);
    if (std::isnan(objective)) {  // singular in float32
      const float share = share_of_diagonal(row);
      if (!std::isfinite(share)) return objective;
      arena.rewind(mark);
      objective = solve_scaled(how, row, scale, z, root, out, std::max(floor, share), arena);
    }
    for (int64_t k = 0; k < d; ++k) out[k] = z[k] * scale[k];
    return objective;
  }

  // Fills scale for D >= smallest, starts z at the row's old value where the form wants one, and solves.
  double solve_scaled(Form how, const AlsRow& row, float* scale, float* z, const float* root, const float* start,
                      float smallest, Arena& arena) const {
    const int64_t d = y.d;
    als_scale(scale, problem, unobserved, row.size(), y, smallest);
    if (how == Form::kCg || how == Form::kSubspace) {
      for (int64_t k = 0; k < d; ++k) z[k] = start[k] / scale[k];
      std::fill(z + d, z + d_padded, 0.0f);
    }
    return solve_form(how, row, z, root, arena);
  }

  double solve_form(Form how, const AlsRow& row, float* z, const float* root, Arena& arena) const {
    if (how == Form::kCg) return als_cg(row, z, n_steps, std::min(row.size(), n_resident), arena);
    if (how == Form::kSubspace) return AlsSubspace(row, block, arena).solve(z, n_steps);
    const double explained = how == Form::kDual ? als_dual(row, z, root, arena) : als_primal(row, z, root, arena);
    return row.constant - explained;
  }
};

}  // namespace

template <>
double als_sweep<Cpu>(Rows<float> x, Rows<const float> y, Csr matrix, const AlsProblem& problem, AlsSolver solver,
                      int n_steps, int block_size, int n_threads) {
  const int64_t dp = padded(y.d);
  std::vector<float> unobserved(dp, 0.0f);
  for (int64_t k = 0; k < y.d; ++k) unobserved[k] = problem.unobserved_weight * problem.spectrum[k];
  const float largest = *std::max_element(unobserved.begin(), unobserved.end());
  const Sweep sweep{.x = x,
                    .y = y,
                    .matrix = matrix,
                    .problem = problem,
                    .solver = solver,
                    .n_steps = n_steps,
                    .block = std::min(dp, padded(std::max(1, block_size))),
                    .d_padded = dp,
                    .n_resident = std::max<int64_t>(16, kResidentBytes / (dp * 4)),
                    .unobserved = unobserved.data(),
                    .floor = std::max(largest * 1e-6f, 1e-12f)};
  // Groups of long rows first, the longest of them at the front: what is left over at the end is short.
  const AlsCrowd crowd(matrix, sweep.longest_alone(), dp, n_threads);
  const AlsCrowdTask task{x, y, matrix, problem, unobserved.data(), sweep.floor, dp, n_steps, sweep.block};
  const auto solve_crowd = solver == AlsSolver::kCg ? als_cg_crowd : als_subspace_crowd;
  const int64_t n_groups = crowd.n_groups(), n_tasks = (x.n + kRowsPerTask - 1) / kRowsPerTask;
  std::vector<double> objective(crowd.rows.size() + n_tasks, 0.0);
  double* task_objective = objective.data() + crowd.rows.size();
  parallel_for(n_groups + n_tasks, 1, n_threads, [&](int64_t at, int64_t, int) {
    if (at < n_groups) {
      const int64_t begin = crowd.bounds[at], end = crowd.bounds[at + 1];
      solve_crowd(task, crowd.rows.data() + begin, end - begin, objective.data() + begin);
      for (int64_t i = begin; i < end; ++i) {
        if (std::isnan(objective[i])) objective[i] = sweep.solve(crowd.rows[i]);
      }
      return;
    }
    const int64_t begin = (at - n_groups) * kRowsPerTask;
    for (int64_t u = begin; u < std::min(x.n, begin + kRowsPerTask); ++u) {
      if (!crowd.member[u]) task_objective[at - n_groups] += sweep.solve(u);
    }
  });
  double total = 0.0;
  for (const double part : objective) total += part;
  return total;
}

}  // namespace recsys_fast
