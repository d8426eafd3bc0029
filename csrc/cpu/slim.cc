#include <memory>

#include "core/thread_pool.h"
#include "cpu/slim_gram.h"
#include "cpu/slim_residual.h"
#include "ops/linear.h"

namespace recsys_fast {
namespace {

bool any_negative(const Csr& x) {
  return x.values != nullptr && std::any_of(x.values, x.values + x.nnz(), [](float v) { return v < 0.0f; });
}

// The weights of largest magnitude that fit, by ascending id.
void write(const ItemWeights& out, int64_t row, std::vector<Candidate>& found) {
  std::erase_if(found, [](const Candidate& one) { return one.weight == 0.0f; });
  if (static_cast<int64_t>(found.size()) > out.ids.d) {
    std::nth_element(found.begin(), found.begin() + out.ids.d, found.end(), [](const Candidate& a, const Candidate& b) {
      const float left = std::fabs(a.weight), right = std::fabs(b.weight);
      return left > right || (left == right && a.item < b.item);
    });
    found.resize(static_cast<size_t>(out.ids.d));
  }
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) { return a.item < b.item; });
  for (size_t k = 0; k < found.size(); ++k) {
    out.ids.row(row)[k] = found[k].item;
    out.values.row(row)[k] = found[k].weight;
  }
  out.counts[row] = static_cast<int32_t>(found.size());
}

}  // namespace

template <>
int64_t slim_solve<Cpu>(const ItemWeights& out, const Csr& t, const Csr& x, const float* gram, double l1, double l2,
                        bool nonnegative, double tolerance, int64_t n_passes, int n_threads) {
  const std::vector<float> norms = squared_norms(t);
  const SlimTask task{.t = t,
                      .x = x,
                      .gram = gram,
                      .net = {static_cast<float>(l1), static_cast<float>(l2), nonnegative},
                      .tolerance = static_cast<float>(tolerance),
                      .screened = nonnegative && !any_negative(x),
                      .n_passes = n_passes,
                      .norms = norms.data()};
  std::vector<std::unique_ptr<SlimSolver>> solvers(static_cast<size_t>(std::max(n_threads, 1)));
  std::vector<uint8_t> unfinished(static_cast<size_t>(out.ids.n), 0);
  parallel_for(out.ids.n, 1, n_threads, [&](int64_t begin, int64_t end, int worker) {
    auto& solver = solvers[static_cast<size_t>(worker)];
    if (!solver && gram != nullptr) solver = std::make_unique<SlimByGram>(task);
    if (!solver) solver = std::make_unique<SlimByResidual>(task);
    for (int64_t row = begin; row < end; ++row) {
      unfinished[static_cast<size_t>(row)] = !solver->solve(out.items[row]);
      write(out, row, solver->candidates());
    }
  });
  return std::count(unfinished.begin(), unfinished.end(), 1);
}

}  // namespace recsys_fast
