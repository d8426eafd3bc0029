"""The operations as plain loops, JIT-compiled: the readable reference, and the fallback without the extension.

Names and flat signatures are those of the C++ module; the shapes are in ``recsys_fast.ops``.
"""

from recsys_fast._numba.als import als_loss, als_sweep
from recsys_fast._numba.csr import csr_from_coo, csr_transpose, validate_csr
from recsys_fast._numba.gram import gram, gram_eigen, rows_rotate
from recsys_fast._numba.negatives import sample_negatives
from recsys_fast._numba.pair_scores import pair_scores
from recsys_fast._numba.rank_metrics import list_metrics, rank_auc, rank_metrics
from recsys_fast._numba.rng import philox_draw, philox_rows
from recsys_fast._numba.topk import topk

__all__ = [
    "als_loss",
    "als_sweep",
    "csr_from_coo",
    "csr_transpose",
    "gram",
    "gram_eigen",
    "list_metrics",
    "pair_scores",
    "philox_draw",
    "philox_rows",
    "rank_auc",
    "rank_metrics",
    "rows_rotate",
    "sample_negatives",
    "topk",
    "validate_csr",
]
