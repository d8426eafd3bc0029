#include "cpu/softmax_loss.h"

#include "core/simd_bf16.h"
#include "cpu/shared_rows.h"
#include "cpu/softmax_rows.h"

namespace recsys_fast {

bool losses_have_bf16() { return has_bf16(); }

template <>
double softmax_loss<Cpu>(const ScoreProblem& problem, int n_threads) {
  if (problem.bf16) return softmax_loss_bf16(problem, n_threads);
  return SoftmaxRows<FloatProduct>(problem, n_threads).run();
}

template <>
double multinomial_loss<Cpu>(const ScoreProblem& problem, int n_threads) {
  return softmax_loss<Cpu>(problem, n_threads);
}

template <>
double shared_loss<Cpu>(const ScoreProblem& problem, const int32_t* ids, const float* log_q,
                        const ScoreLossOptions& options, int n_threads) {
  if (problem.bf16) return shared_loss_bf16(problem, ids, log_q, options, n_threads);
  return SharedRows<FloatProduct>(problem, ids, log_q, options, n_threads).run();
}

}  // namespace recsys_fast
