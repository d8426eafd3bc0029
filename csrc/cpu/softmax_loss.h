// Losses over many scores with products of bfloat16, in files of their own: only where has_bf16().
#pragma once

#include "ops/losses.h"

namespace recsys_fast {

double softmax_loss_bf16(const ScoreProblem& problem, int n_threads);
double shared_loss_bf16(const ScoreProblem& problem, const int32_t* ids, const float* log_q,
                        const ScoreLossOptions& options, int n_threads);

}  // namespace recsys_fast
