"""Operations on plain arrays: public, stable, usable without any model.

Every operation checks its arguments, picks a backend (``device="auto"|"cpu"|"numba"``), releases the GIL, and never
changes an input unless its docstring says so.
"""

from recsys_fast.ops.als import als_loss, als_sweep
from recsys_fast.ops.attention import (
    AttentionSaved,
    AttentionWeights,
    attention_block_backward,
    attention_block_forward,
    attention_block_step,
)
from recsys_fast.ops.caser import caser_backward, caser_forward
from recsys_fast.ops.conv import causal_conv_block_backward, causal_conv_block_forward
from recsys_fast.ops.conv2d import conv2d_backward, conv2d_forward
from recsys_fast.ops.csr import Csr, as_csr, csr_from_coo, csr_take_rows, csr_transpose, validate_csr
from recsys_fast.ops.csr_dense import CsrDenseGradients, csr_dense_backward, csr_dense_forward, csr_scale
from recsys_fast.ops.dense import dense_backward, dense_forward
from recsys_fast.ops.embedding import dropout_apply, embedding_backward, embedding_forward
from recsys_fast.ops.feed_forward import (
    FeedForwardSaved,
    FeedForwardWeights,
    feed_forward_block_backward,
    feed_forward_block_forward,
)
from recsys_fast.ops.field_sums import FieldSums, field_sums_backward, field_sums_forward
from recsys_fast.ops.fm import ffm_epoch, ffm_predict, fm_als_sweep, fm_epoch, fm_predict
from recsys_fast.ops.gaussian import gaussian_backward, gaussian_forward
from recsys_fast.ops.gram import gram, gram_eigen, rows_rotate
from recsys_fast.ops.layer_norm import LayerNormGradients, layer_norm_backward, layer_norm_forward
from recsys_fast.ops.linear import csr_gram, ridge_solve, slim_solve, spd_invert
from recsys_fast.ops.losses import regression_loss, row_loss, shared_loss, softmax_loss
from recsys_fast.ops.multinomial import multinomial_loss
from recsys_fast.ops.ncf import NcfGradients, ncf_loss, ncf_scores
from recsys_fast.ops.negatives import negatives_draw, philox_draw, philox_rows, sample_negatives
from recsys_fast.ops.optimizer import optimizer_step, optimizer_step_rows, square_sum
from recsys_fast.ops.pair_scores import pair_scores
from recsys_fast.ops.pool import pool_backward, pool_forward
from recsys_fast.ops.product_topk import product_topk
from recsys_fast.ops.rank_metrics import list_metrics, rank_auc, rank_metrics
from recsys_fast.ops.recurrent import (
    RecurrentGradients,
    RecurrentStates,
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    rnn_backward,
    rnn_forward,
)
from recsys_fast.ops.sgd import bpr_epoch, logistic_epoch, rating_epoch, warp_epoch
from recsys_fast.ops.sgd_problem import EpochResult, OptimizerState, make_state
from recsys_fast.ops.skipgram import SkipgramResult, skipgram_epoch
from recsys_fast.ops.table import IdPlan, id_plan, table_add, table_gradient
from recsys_fast.ops.topk import topk
from recsys_fast.ops.vectors import (
    mixture_backward,
    mixture_forward,
    sequence_max_backward,
    sequence_max_forward,
    unit_rows_backward,
    unit_rows_forward,
)

__all__ = [
    "AttentionSaved",
    "AttentionWeights",
    "Csr",
    "CsrDenseGradients",
    "EpochResult",
    "FeedForwardSaved",
    "FeedForwardWeights",
    "FieldSums",
    "IdPlan",
    "LayerNormGradients",
    "NcfGradients",
    "OptimizerState",
    "RecurrentGradients",
    "RecurrentStates",
    "SkipgramResult",
    "als_loss",
    "als_sweep",
    "as_csr",
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
    "id_plan",
    "layer_norm_backward",
    "layer_norm_forward",
    "list_metrics",
    "logistic_epoch",
    "lstm_backward",
    "lstm_forward",
    "make_state",
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
