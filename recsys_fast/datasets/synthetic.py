"""Synthetic data with planted preferences, of any size, with the best score that any model can reach."""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.datasets.dataset import Dataset
from recsys_fast.datasets.oracle import Lists, ranking_scores
from recsys_fast.datasets.planted import Planted, blocks, plant
from recsys_fast.errors import message

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions

_HEADER = "synthetic.json"
_FORMAT = 1
_INT32_MAX = 2**31 - 1


def synthetic(
    n_users: int = 2_000,
    n_items: int = 1_000,
    n_interactions: int = 100_000,
    *,
    rank: int = 8,
    concentration: float = 0.1,
    user_exponent: float = 0.7,
    item_exponent: float = 0.8,
    test_fraction: float = 0.2,
    ks: Sequence[int] = (20,),
    oracle_users: int = 2_000,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
    random_state: int = 0,
) -> Dataset:
    """Make implicit feedback with planted low-rank preferences, and say how well it can be predicted.

    There are ``rank`` tastes. Taste t is a distribution over items, ``item_factors[:, t]``, proportional to
    popularity x affinity: popularity is a power law ``(place + 10) ** -item_exponent`` over items in random order,
    affinity of an item is a Dirichlet(``concentration``) draw over tastes. User u is a mixture of tastes,
    ``user_factors[u]``, another Dirichlet(``concentration``) draw. The preference of u for i is the probability
    ``P(i | u) = user_factors[u] @ item_factors[i]``: of rank ``rank`` exactly, so a factor model can represent it.
    User u draws a number of distinct items, one after another without replacement by P(i | u); the numbers follow a
    power law ``(place + 10) ** -user_exponent``, are 5 at least where there are 10 per user on average, at most half
    of all items, and add up to ``n_interactions`` exactly; as an item comes to a user once only, observed popularity
    is a little flatter at its head than the law. Of each user's items a random ``test_fraction`` is held out.

    No model can expect to do better on the test part than to rank by P(i | u) itself (the items that the user has in
    the training part left out): draws of a user are exchangeable, and an item of higher P is more likely among them.
    That score is returned as ``extras["oracle"]``.

    Args:
        n_users: number of users.
        n_items: number of items.
        n_interactions: train and test together; at most ``n_users * (n_items // 2)``; 10**9 is fine with ``out``.
        rank: number of tastes.
        concentration: smaller gives sharper tastes, and a larger distance between the oracle and popularity.
        user_exponent: steepness of user activity; 0 for equal users.
        item_exponent: steepness of item popularity; 0 for equal items.
        test_fraction: share of each user's items held out, 0 <= share < 1; rounded per user, never all.
        ks: cuts of the oracle's metrics.
        oracle_users: number of users (a random sample of those with test items) that the oracle is computed on.
        out: folder to write to, for sets that memory does not hold; the parts are memory-mapped then, and
            ``load_synthetic(out)`` opens them again. Memory in use is about 8 bytes per user and taste, 30 per item
            and taste, 40 per user, and 200 MB.
        progress: show a progress bar.
        random_state: the seed; with one version of NumPy the data depend on it and on the other arguments alone,
            neither on ``out`` nor on threads.

    Returns:
        ``train`` and ``test`` without values, of the same shape; ``extras``:

        - ``oracle``: ``{"recall@20": ..., "ndcg@20": ...}``, mean over ``oracle_users``; ``oracle_stderr`` likewise;
        - ``popularity``: the same metrics on the same users when items are ranked by their training counts;
        - ``oracle_users (m,) int64``: the users these are means over; evaluate on them to compare with the oracle;
        - ``user_factors (n_users, rank) float32``, ``item_factors (n_items, rank) float32``: the truth.

    Raises:
        ValueError: a number out of its range, or ``out`` is not empty.
        TypeError: a size that is not an integer.
    """
    sizes = {"n_users": n_users, "n_items": n_items, "n_interactions": n_interactions, "rank": rank}
    sizes = {name: whole(name, value, 1) for name, value in sizes.items()}
    sizes |= {"oracle_users": whole("oracle_users", oracle_users, 1), "seed": whole("random_state", random_state, 0)}
    check_shares(sizes, concentration, user_exponent, item_exponent, test_fraction)
    cuts = tuple(whole("ks", k, 1) for k in ks)
    if not cuts:
        raise ValueError(message("ks", "no cut", "one or more, such as (20,)"))
    folder = None if out is None else _empty_folder(Path(out))
    truth = plant(
        sizes["n_users"], sizes["n_items"], sizes["n_interactions"], rank=sizes["rank"], concentration=concentration,
        user_exponent=user_exponent, item_exponent=item_exponent, test_fraction=test_fraction, seed=sizes["seed"],
    )  # fmt: skip
    arrays = _generate(truth, folder, progress)
    summary = _oracle(truth, arrays, cuts, sizes["oracle_users"])
    summary["shape"] = [sizes["n_users"], sizes["n_items"]]
    if folder is not None:
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        header = json.dumps({"format": _FORMAT, **summary}, indent=1)
        (folder / _HEADER).write_text(header)  # last: a folder without it is unfinished
        return load_synthetic(folder)
    return _dataset("memory", arrays, summary)


def whole(name: str, value: Any, least: int) -> int:
    """Return an integer of at least so much; raises TypeError and ValueError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(message(name, type(value).__name__, "an integer")) from None
    if number < least:
        raise ValueError(message(name, number, f"{least} or more"))
    return number


def check_shares(sizes: dict[str, int], concentration: float, user: float, item: float, test_fraction: float) -> None:
    """Raise ValueError for sizes and shares that no made data can have."""
    for name in ("n_users", "n_items"):
        if sizes[name] > _INT32_MAX:
            raise ValueError(message(name, sizes[name], "at most 2**31 - 1"))
    if sizes["n_interactions"] > (most := sizes["n_users"] * max(1, sizes["n_items"] // 2)):
        mend = "ask for fewer interactions, or for more users or items"
        raise ValueError(message("n_interactions", sizes["n_interactions"], f"at most {most}, half of all cells", mend))
    ranges = {
        "concentration": (concentration, 0 < concentration < math.inf, "a number above 0"),
        "user_exponent": (user, 0 <= user < math.inf, "0 or more"),
        "item_exponent": (item, 0 <= item < math.inf, "0 or more"),
        "test_fraction": (test_fraction, 0 <= test_fraction < 1, "0 <= share < 1"),
    }
    for name, (value, good, expected) in ranges.items():
        if not good:
            raise ValueError(message(name, value, expected))


def _empty_folder(folder: Path) -> Path:
    """Return the folder, made where it was not there.

    Raises:
        ValueError: it holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(message("out", f"{folder}, which is not an empty folder", "an empty or a new folder"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _allocate(folder: Path | None, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """Return an array in memory, or mapped to ``<folder>/<name>.npy``."""
    if folder is None or 0 in shape:  # an empty file cannot be mapped
        array: NDArray[Any] = np.empty(shape, dtype)
        if folder is not None:
            np.save(folder / f"{name}.npy", array)
        return array
    return np.lib.format.open_memmap(str(folder / f"{name}.npy"), mode="w+", dtype=dtype, shape=shape)


def _generate(truth: Planted, folder: Path | None, progress: bool) -> dict[str, NDArray[Any]]:
    """Draw everything into arrays of known size."""
    n_users, n_items, rank = len(truth.counts), *truth.item_factors.shape
    arrays = {"user_factors": _allocate(folder, "user_factors", (n_users, rank), np.float32)}
    arrays["item_factors"] = _allocate(folder, "item_factors", (n_items, rank), np.float32)
    arrays["item_factors"][:] = truth.item_factors
    for part, counts in (("train", truth.counts - truth.test_counts), ("test", truth.test_counts)):
        row_ptr = _allocate(folder, f"{part}_row_ptr", (n_users + 1,), np.int64)
        row_ptr[0] = 0
        np.cumsum(counts, out=row_ptr[1:])
        arrays[f"{part}_row_ptr"] = row_ptr
        arrays[f"{part}_col_idx"] = _allocate(folder, f"{part}_col_idx", (int(row_ptr[-1]),), np.int32)
    from tqdm import tqdm

    with tqdm(total=int(truth.counts.sum()), unit=" interactions", unit_scale=True, disable=not progress) as bar:
        for block in blocks(truth):
            arrays["user_factors"][block.start : block.stop] = block.tastes
            for part, mask in (("train", ~block.held_out), ("test", block.held_out)):
                first, last = arrays[f"{part}_row_ptr"][[block.start, block.stop]]
                arrays[f"{part}_col_idx"][first:last] = block.item[mask]
            bar.update(len(block.item))
    return arrays


def _oracle(truth: Planted, arrays: dict[str, NDArray[Any]], ks: tuple[int, ...], n: int) -> dict[str, Any]:
    """Return the scores of the truth and of popularity on a sample of users."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([truth.seed, 2])))
    tested = np.flatnonzero(truth.test_counts)
    users = np.sort(rng.choice(tested, min(n, len(tested)), replace=False))
    train, test = (Lists(arrays[f"{part}_row_ptr"], arrays[f"{part}_col_idx"]) for part in ("train", "test"))
    n_items = len(truth.item_factors)
    counts = np.zeros(n_items)
    for start in range(0, len(train.col_idx), 1 << 24):  # in pieces: bincount makes an int64 copy
        counts += np.bincount(train.col_idx[start : start + (1 << 24)], minlength=n_items)
    summary: dict[str, Any] = {"oracle_users": users.tolist()}
    rankings = {"oracle": (arrays["user_factors"][users], arrays["item_factors"])}
    rankings["popularity"] = (np.ones((len(users), 1)), counts[:, None])
    for name, (queries, items) in rankings.items():
        scores = ranking_scores(queries, items, users, train, test, ks)
        many = len(users)
        summary[name] = {key: float(each.mean()) if many else math.nan for key, each in scores.items()}
        if name == "oracle":
            summary["oracle_stderr"] = {key: _stderr(each) for key, each in scores.items()}
    return summary


def _stderr(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _dataset(source: str, arrays: dict[str, NDArray[Any]], summary: dict[str, Any]) -> Dataset:
    shape = (int(summary["shape"][0]), int(summary["shape"][1]))
    parts = {part: _wrap(arrays[f"{part}_row_ptr"], arrays[f"{part}_col_idx"], shape) for part in ("train", "test")}
    extras = {
        "oracle": summary["oracle"],
        "oracle_stderr": summary["oracle_stderr"],
        "popularity": summary["popularity"],
        "oracle_users": np.array(summary["oracle_users"], np.int64),
        "user_factors": arrays["user_factors"],
        "item_factors": arrays["item_factors"],
    }
    return Dataset("synthetic", source, parts["train"], parts["test"], extras=extras)


def _wrap(row_ptr: NDArray[np.int64], col_idx: NDArray[np.int32], shape: tuple[int, int]) -> Interactions:
    """Return ``Interactions`` that share the arrays: a mapped file stays on disk."""
    from recsys_fast.data.interactions import Interactions

    return Interactions._trusted(np.asarray(row_ptr), np.asarray(col_idx), None, None, shape)


def load_synthetic(folder: str | os.PathLike[str]) -> Dataset:
    """Open what ``synthetic(..., out=folder)`` wrote; matrices and factors stay on disk, memory-mapped.

    The files are plain npy arrays, for other tools too: ``train_row_ptr (n_users + 1,) int64``, ``train_col_idx (nnz,)
    int32``, the same for ``test``, ``user_factors``, ``item_factors``; ``synthetic.json`` holds shape and scores.

    Raises:
        FileNotFoundError: the folder holds no (finished) set.
        ValueError: a file is damaged.
    """
    path = Path(folder)
    if not (path / _HEADER).is_file():
        mend = "a folder without that file is unfinished: make it again"
        raise FileNotFoundError(message(f"{path} holds no {_HEADER}", mend=mend))
    try:
        summary = json.loads((path / _HEADER).read_text())
        if summary["format"] != _FORMAT:
            raise ValueError(f"format {summary['format']}")
        n_users, n_items = (int(extent) for extent in summary["shape"])
        expected: dict[str, tuple[type, int]] = {"user_factors": (np.float32, 2), "item_factors": (np.float32, 2)}
        for part in ("train", "test"):
            expected |= {f"{part}_row_ptr": (np.int64, 1), f"{part}_col_idx": (np.int32, 1)}
        arrays = {name: _map(path / f"{name}.npy", *form) for name, form in expected.items()}
        if len(arrays["user_factors"]) != n_users or len(arrays["item_factors"]) != n_items:
            raise ValueError(f"factors do not fit the shape {n_users} x {n_items}")
        from recsys_fast.ops.csr import Csr, validate_csr

        for part in ("train", "test"):
            csr = Csr(arrays[f"{part}_row_ptr"], arrays[f"{part}_col_idx"], None, n_users, n_items)
            if not validate_csr(csr, part):
                raise ValueError(f"rows of {part} are not sorted, or hold an item twice")
        return _dataset(str(path), arrays, summary)
    except (ValueError, TypeError, KeyError, OSError, EOFError, RecursionError) as error:
        raise ValueError(message(f"{path} is damaged ({error})", mend="make it again")) from error


def _map(path: Path, dtype: type, ndim: int) -> NDArray[Any]:
    """Return a read-only array that stays on disk."""
    array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    if array.dtype != dtype or array.ndim != ndim:
        raise ValueError(f"{path.name} is {array.ndim}-D {array.dtype}, not {ndim}-D {np.dtype(dtype)}")
    return array
