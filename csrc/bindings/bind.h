// One binder per family of operations.
#pragma once

#include <pybind11/pybind11.h>

namespace recsys_fast::bindings {

void bind_als(pybind11::module_& m);
void bind_caser(pybind11::module_& m);
void bind_conv(pybind11::module_& m);
void bind_conv2d(pybind11::module_& m);
void bind_csr(pybind11::module_& m);
void bind_csr_dense(pybind11::module_& m);
void bind_embedding(pybind11::module_& m);
void bind_attention(pybind11::module_& m);
void bind_feed_forward(pybind11::module_& m);
void bind_dense(pybind11::module_& m);
void bind_field_sums(pybind11::module_& m);
void bind_fm(pybind11::module_& m);
void bind_gaussian(pybind11::module_& m);
void bind_gram(pybind11::module_& m);
void bind_linear(pybind11::module_& m);
void bind_losses(pybind11::module_& m);
void bind_ncf(pybind11::module_& m);
void bind_negatives(pybind11::module_& m);
void bind_optimizer(pybind11::module_& m);
void bind_product_topk(pybind11::module_& m);
void bind_rank_metrics(pybind11::module_& m);
void bind_recurrent(pybind11::module_& m);
void bind_sgd(pybind11::module_& m);
void bind_skipgram(pybind11::module_& m);
void bind_table(pybind11::module_& m);
void bind_topk(pybind11::module_& m);
void bind_vectors(pybind11::module_& m);

}  // namespace recsys_fast::bindings
