"""Which tests run on CUDA: emulated with ``pytest -m cuda_emulated``, on hardware with ``pytest -m gpu``.

A test that takes ``device`` runs there if its file is listed. A case that is too much for the emulated grid is left to
the hardware: each thread of a kernel costs some 30 ns, a barrier or shuffle 50 to 90 ns, a watched access to shared
memory 5 to 10 ns, so that a multiply-add of a tiled product costs about 5 ns.
"""

from __future__ import annotations

import math
import os
from typing import Any

_THREADS = "several passes of every case; CUDA ignores n_threads"

# Test files, with the tests in them that are left out and why.
TESTS: dict[str, dict[str, str]] = {
    "tests/ops/test_als.py": {
        "test_subspace_converges_to_the_exact_solution": "4000 systems of a few columns per row: minutes of barriers",
    },
    "tests/ops/test_als_widths.py": {},
    "tests/ops/test_blocks.py": {},
    "tests/ops/test_conv.py": {"test_results_do_not_depend_on_threads": _THREADS},
    "tests/ops/test_conv2d.py": {
        "test_results_do_not_depend_on_threads": _THREADS,
    },
    "tests/ops/test_csr.py": {},
    "tests/ops/test_csr_dense.py": {"test_bits_do_not_depend_on_threads": _THREADS},
    "tests/ops/test_embedding.py": {},
    "tests/ops/test_field_sums.py": {"test_bits_do_not_depend_on_threads": _THREADS},
    "tests/ops/test_fm.py": {"test_bits_do_not_depend_on_threads": _THREADS},
    "tests/ops/test_fm_als.py": {"test_bits_do_not_depend_on_threads": _THREADS},
    "tests/ops/test_gram.py": {},
    "tests/ops/test_layers.py": {},
    "tests/ops/test_linear.py": {},
    "tests/ops/test_losses.py": {"test_bits_do_not_depend_on_threads": _THREADS},
    "tests/ops/test_multinomial.py": {"test_bits_do_not_depend_on_threads": _THREADS},
    "tests/ops/test_ncf.py": {"test_the_same_bits_for_any_number_of_threads": _THREADS},
    "tests/ops/test_negatives.py": {},
    "tests/ops/test_negatives_draw.py": {},
    "tests/ops/test_optimizer.py": {},
    "tests/ops/test_pair_scores.py": {},
    "tests/ops/test_product_topk.py": {
        "test_an_interruption_is_honoured": "200 large products; a launch on the emulated grid is not interrupted",
    },
    "tests/ops/test_product_topk_dense.py": {},
    "tests/ops/test_rank_metrics.py": {"test_threads_do_not_change_the_result": _THREADS},
    "tests/ops/test_recurrent.py": {
        "test_results_do_not_depend_on_threads": _THREADS,
    },
    "tests/ops/test_skipgram.py": {
        "test_near_tokens_end_up_alike": "4500 tiles of 64 x 64: half a minute of products",
    },
    "tests/ops/test_table.py": {},
    "tests/ops/test_topk.py": {},
    "tests/ops/test_sgd.py": {},
    "tests/ops/test_sgd_input.py": {},
    "tests/ops/test_vectors.py": {"test_bits_do_not_depend_on_threads": _THREADS},
}

# Elementary steps (multiply-adds, comparisons) that a case may take on the emulated grid: some 2 s.
MOST_STEPS = 4e8


def most_steps(device: str) -> float:
    """Return how many steps a case may take; on hardware RECSYS_FAST_GPU_MOST_STEPS, for sanitizers."""
    if device == "cuda_emulated":
        return MOST_STEPS
    return float(os.environ.get("RECSYS_FAST_GPU_MOST_STEPS", "inf")) if device == "cuda" else math.inf


def steps(case: Any) -> float:
    """Return how many elementary steps a case takes: its ``steps`` where it says, else 0."""
    found = getattr(case, "steps", 0)
    return float(found() if callable(found) else found)
