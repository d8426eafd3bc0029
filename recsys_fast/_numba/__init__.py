"""The operations as plain loops, JIT-compiled: the readable reference, and the fallback without the extension.

Names and flat signatures are those of the C++ module; the shapes are in ``recsys_fast.ops``.
"""

from recsys_fast._numba.als import als_loss, als_sweep
from recsys_fast._numba.attention import attention_block_backward, attention_block_forward, attention_block_step
from recsys_fast._numba.caser import caser_backward, caser_forward
from recsys_fast._numba.conv import causal_conv_block_backward, causal_conv_block_forward
from recsys_fast._numba.conv2d import conv2d_backward, conv2d_forward
from recsys_fast._numba.csr import csr_from_coo, csr_take_rows, csr_transpose, validate_csr
from recsys_fast._numba.csr_dense import csr_dense_backward, csr_dense_forward, csr_scale
from recsys_fast._numba.dense import dense_backward, dense_forward
from recsys_fast._numba.embedding import dropout_apply, embedding_backward, embedding_forward
from recsys_fast._numba.feed_forward import feed_forward_block_backward, feed_forward_block_forward
from recsys_fast._numba.field_sums import field_sums_backward, field_sums_forward
from recsys_fast._numba.fm import ffm_epoch, ffm_predict, fm_epoch, fm_predict
from recsys_fast._numba.fm_als import fm_als_sweep
from recsys_fast._numba.gaussian import gaussian_backward, gaussian_forward
from recsys_fast._numba.gram import gram, gram_eigen, rows_rotate
from recsys_fast._numba.layer_norm import layer_norm_backward, layer_norm_forward
from recsys_fast._numba.linear import csr_gram, spd_invert
from recsys_fast._numba.losses import regression_loss, row_loss, shared_loss
from recsys_fast._numba.ncf import ncf_loss, ncf_scores
from recsys_fast._numba.negatives import negatives_draw, sample_negatives
from recsys_fast._numba.optimizer import optimizer_step, optimizer_step_rows, square_sum
from recsys_fast._numba.pair_scores import pair_scores
from recsys_fast._numba.pool import pool_backward, pool_forward
from recsys_fast._numba.product_topk import product_topk
from recsys_fast._numba.product_topk_dense import product_topk_dense
from recsys_fast._numba.rank_metrics import list_metrics, rank_auc, rank_metrics
from recsys_fast._numba.recurrent import (
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    rnn_backward,
    rnn_forward,
)
from recsys_fast._numba.ridge import ridge_solve
from recsys_fast._numba.rng import philox_draw, philox_rows
from recsys_fast._numba.sgd import bpr_epoch, logistic_epoch, rating_epoch, warp_epoch
from recsys_fast._numba.skipgram import skipgram_epoch
from recsys_fast._numba.slim import slim_solve
from recsys_fast._numba.softmax_loss import has_bfloat16, multinomial_loss, softmax_loss
from recsys_fast._numba.table import id_plan, table_add, table_gradient
from recsys_fast._numba.topk import topk
from recsys_fast._numba.vectors import (
    mixture_backward,
    mixture_forward,
    sequence_max_backward,
    sequence_max_forward,
    unit_rows_backward,
    unit_rows_forward,
)

__all__ = [
    "als_loss",
    "als_sweep",
    "attention_block_backward",
    "attention_block_forward",
    "attention_block_step",
    "bpr_epoch",
    "caser_backward",
    "caser_forward",
    "causal_conv_block_backward",
    "causal_conv_block_forward",
    "conv2d_backward",
    "conv2d_forward",
    "csr_dense_backward",
    "csr_dense_forward",
    "csr_from_coo",
    "csr_gram",
    "csr_scale",
    "csr_take_rows",
    "csr_transpose",
    "dense_backward",
    "dense_forward",
    "dropout_apply",
    "embedding_backward",
    "embedding_forward",
    "feed_forward_block_backward",
    "feed_forward_block_forward",
    "ffm_epoch",
    "ffm_predict",
    "field_sums_backward",
    "field_sums_forward",
    "fm_als_sweep",
    "fm_epoch",
    "fm_predict",
    "gaussian_backward",
    "gaussian_forward",
    "gram",
    "gram_eigen",
    "gru_backward",
    "gru_forward",
    "has_bfloat16",
    "id_plan",
    "layer_norm_backward",
    "layer_norm_forward",
    "list_metrics",
    "logistic_epoch",
    "lstm_backward",
    "lstm_forward",
    "mixture_backward",
    "mixture_forward",
    "multinomial_loss",
    "ncf_loss",
    "ncf_scores",
    "negatives_draw",
    "optimizer_step",
    "optimizer_step_rows",
    "pair_scores",
    "philox_draw",
    "philox_rows",
    "pool_backward",
    "pool_forward",
    "product_topk",
    "product_topk_dense",
    "rank_auc",
    "rank_metrics",
    "rating_epoch",
    "regression_loss",
    "ridge_solve",
    "rnn_backward",
    "rnn_forward",
    "row_loss",
    "rows_rotate",
    "sample_negatives",
    "sequence_max_backward",
    "sequence_max_forward",
    "shared_loss",
    "skipgram_epoch",
    "slim_solve",
    "softmax_loss",
    "spd_invert",
    "square_sum",
    "table_add",
    "table_gradient",
    "topk",
    "unit_rows_backward",
    "unit_rows_forward",
    "validate_csr",
    "warp_epoch",
]
