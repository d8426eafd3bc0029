"""Networks of neural collaborative filtering: the loss of wanted and unwanted pairs, and the scores of all pairs.

A pair of a user's row [p, p'] and an item's row [q, q'] scores s = h . [p * q, z_L] + c with z_0 = [p', q'] and
z_l = D(activation(z_{l-1} w_l + b_l)) (He et al. 2017): p and q are the first ``d_product`` columns. Without layers
and p' that is GMF, without p * q the MLP, with both NeuMF.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices, as_integer, as_number, on_host
from recsys_fast.ops.block_arguments import (
    F32,
    I64,
    activation_number,
    as_dropout,
    as_result,
    as_rows,
    as_vector,
    new_rows,
)

MAX_LAYERS = 8


class NcfGradients(NamedTuple):
    """A loss and its gradients.

    Attributes:
        loss: sum over the pairs.
        dusers: ``(n, d) float32``, of the row of each user of the batch.
        ditems: ``(n * w, d) float32``, of the row of each item of the batch; 0 where that is -1.
        dparams: ``(n_params,) float32``.
    """

    loss: float
    dusers: F32
    ditems: F32
    dparams: F32


def count_params(widths: Sequence[int], d_product: int) -> int:
    """Return the number of parameters of a network."""
    layers = sum((d_in + 1) * d_out for d_in, d_out in pairwise(widths))
    return layers + d_product + (widths[-1] if len(widths) > 1 else 0) + 1


def _as_network(
    users: ArrayLike, items: ArrayLike, params: ArrayLike, widths: Any, d_product: Any
) -> tuple[F32, F32, F32, I64, int]:
    """Return the arrays of a network whose sizes fit each other."""
    user_rows = as_rows(users, "users")
    d = user_rows.shape[1]
    item_rows = as_rows(items, "items", (None, d))
    product = as_integer(d_product, "d_product")
    if not 0 <= product <= d:
        raise ValueError(message("d_product", product, f"0 to {d}, the columns of users"))
    sizes = [as_integer(width, "a width") for width in np.atleast_1d(np.asarray(widths, object))]
    expected = f"{2 * (d - product)} (twice the columns behind d_product), then 0 to {MAX_LAYERS} layers"
    layers = len(sizes) - 1
    empty = layers == 0 and product != d
    if not 0 <= layers <= MAX_LAYERS or sizes[0] != 2 * (d - product) or empty or min(sizes[1:], default=1) < 1:
        raise ValueError(message("widths", sizes, expected))
    given = as_vector(params, "params", count_params(sizes, product))
    return user_rows, item_rows, given, np.array(sizes, np.int64), product


def ncf_loss(
    users: ArrayLike,
    items: ArrayLike,
    user_ids: ArrayLike,
    item_ids: ArrayLike,
    params: ArrayLike,
    widths: Sequence[int],
    d_product: int,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    scale: float = 1.0,
    device: str = "auto",
    n_threads: int | None = None,
) -> NcfGradients:
    """Return the binary cross-entropy of pairs, and the gradients of ``scale`` times it.

    Args:
        users: ``(n_users, d)`` rows [p, p'].
        items: ``(n_items, d)`` rows [q, q'].
        user_ids: ``(n,)`` users of the batch.
        item_ids: ``(n, w)``: the first column is wanted by the user of the row, the others are not; -1 for none.
        params: ``(n_params,)``: for each layer w ``(d_in, d_out)`` and b ``(d_out,)``, then h and c.
        widths: of z_0, z_1, ...; the first is 2 (d - d_product), 0 for no layers.
        d_product: columns of p and q.
        activation: "relu", "tanh", "sigmoid" or "identity".
        dropout: rate behind every layer.
        seed, step, site: which masks; layer l has that of ``site + l - 1``.
        scale: of the gradients.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: an array of the wrong kind of numbers.
        ValueError: shapes that do not fit each other, numbers that are not finite, an unknown activation.
        IndexError: a user or an item out of range.
    """
    device = backend.place(device, users=users, items=items, params=params)
    user_rows, item_rows, given, sizes, product = _as_network(users, items, params, widths, d_product)
    drawn = on_host(item_ids)
    if drawn.ndim != 2 or drawn.shape[1] < 1:
        raise ValueError(message("shape of item_ids", drawn.shape, "(n, 1 or more)"))
    whom = as_indices(user_ids, "user_ids", 0, len(user_rows))
    if whom.shape != (len(drawn),):
        raise ValueError(message("shape of user_ids", whom.shape, f"({len(drawn)},), one per row of item_ids"))
    what = as_indices(drawn.reshape(-1), "item_ids", -1, len(item_rows)).reshape(drawn.shape)
    d, mode = user_rows.shape[1], (activation_number(activation), *as_dropout(dropout, seed, step, site))
    dusers, ditems = new_rows(user_rows, len(whom), d), new_rows(user_rows, what.size, d)
    dparams = new_rows(given, *given.shape)
    loss = backend.get(device).ncf_loss(
        dusers, ditems, dparams, user_rows, item_rows, whom, what, given, sizes, product, *mode,
        as_number(scale, "scale", None), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return NcfGradients(loss, dusers, ditems, dparams)


def ncf_scores(
    users: ArrayLike,
    items: ArrayLike,
    params: ArrayLike,
    widths: Sequence[int],
    d_product: int,
    *,
    activation: str = "relu",
    out: NDArray[np.float32] | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Return the scores of all pairs of rows, ``(len(users), len(items)) float32``, without dropout.

    Nothing else of that size is made: pass as many users at a time as the result has room for.

    Args:
        users, items, params, widths, d_product, activation: as of ``ncf_loss``.
        out: to write into, C-contiguous; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: an array of the wrong kind of numbers.
        ValueError: shapes that do not fit each other, numbers that are not finite, an unknown activation; ``out`` of
            another shape, not contiguous or sharing memory with an input.
    """
    device = backend.place(device, users=users, items=items, params=params, out=out)
    user_rows, item_rows, given, sizes, product = _as_network(users, items, params, widths, d_product)
    scores = as_result(out, (len(user_rows), len(item_rows)), user_rows, (user_rows, item_rows, given))
    backend.get(device).ncf_scores(
        scores, user_rows, item_rows, given, sizes, product, activation_number(activation),
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return scores
