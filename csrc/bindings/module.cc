// The extension module of one instruction set level. Functions carry the flat signatures of recsys_fast._numba.
#include <pybind11/pybind11.h>

#include "bindings/bind.h"
#include "bindings/signals.h"
#include "core/simd.h"
#include "core/thread_pool.h"

PYBIND11_MODULE(RECSYS_FAST_MODULE, m) {
  namespace bindings = recsys_fast::bindings;
  recsys_fast::set_poll_interrupt(bindings::poll_python_signals);
  m.attr("lanes") = recsys_fast::kLanes;
  bindings::bind_csr(m);
  bindings::bind_csr_dense(m);
  bindings::bind_caser(m);
  bindings::bind_conv(m);
  bindings::bind_conv2d(m);
  bindings::bind_dense(m);
  bindings::bind_linear(m);
  bindings::bind_ncf(m);
  bindings::bind_negatives(m);
  bindings::bind_gaussian(m);
  bindings::bind_gram(m);
  bindings::bind_als(m);
  bindings::bind_attention(m);
  bindings::bind_feed_forward(m);
  bindings::bind_field_sums(m);
  bindings::bind_fm(m);
  bindings::bind_topk(m);
  bindings::bind_sgd(m);
  bindings::bind_skipgram(m);
  bindings::bind_product_topk(m);
  bindings::bind_rank_metrics(m);
  bindings::bind_embedding(m);
  bindings::bind_table(m);
  bindings::bind_optimizer(m);
  bindings::bind_recurrent(m);
  bindings::bind_losses(m);
  bindings::bind_vectors(m);
}
