// Everything that is not a template of our own comes before the change of target.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/arena.h"
#include "core/gemm.h"
#include "core/simd_bf16.h"
#include "core/thread_pool.h"
#include "cpu/row_vectors.h"
#include "cpu/score_lanes.h"
#include "cpu/softmax_loss.h"

RF_BF16_BEGIN
#include "cpu/loss_bf16.h"
#include "cpu/shared_rows.h"
#include "cpu/softmax_rows.h"

namespace recsys_fast {

double softmax_loss_bf16(const ScoreProblem& problem, int n_threads) {
  return SoftmaxRows<Bf16Product>(problem, n_threads).run();
}

double shared_loss_bf16(const ScoreProblem& problem, const int32_t* ids, const float* log_q,
                        const ScoreLossOptions& options, int n_threads) {
  return SharedRows<Bf16Product>(problem, ids, log_q, options, n_threads).run();
}

}  // namespace recsys_fast
RF_BF16_END
