"""``recsys-fast quickstart``: everything the library does, once, on real data where some is found."""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

from recsys_fast.cli import output, sources
from recsys_fast.cli.progress import note, visible, working
from recsys_fast.errors import message

_PREFERRED = ("gowalla", "ml-100k", "ml-1m", "ml-latest-small")
_LIKED = 4.0  # stars from which a rating counts as a preference
_METRICS, _K = ("recall", "ndcg"), 20
_NAMES = tuple(f"{metric}@{_K}" for metric in _METRICS)


def quickstart(args: argparse.Namespace) -> None:
    """Train, evaluate, save, load and recommend; print a table and, with matplotlib, draw a plot.

    Raises:
        ValueError: ``--data`` names no data set.
        OSError: the folder cannot be written.
    """
    from recsys_fast import backend
    from recsys_fast.models import ALS, Popularity
    from recsys_fast.training import ProgressBar

    begin = time.perf_counter()
    with working("preparing data", args.quiet):
        name, train, test, best = _data(args)
    print(f"data: {name}, {train.n_users:,} users x {train.n_items:,} items, {len(train):,} + {len(test):,} entries")
    device, n_threads = backend.resolve_device(args.device), backend.resolve_threads(args.threads)
    print(f"backend: {device}, {n_threads} thread{'s' if n_threads > 1 else ''}")
    if device == "numba":
        note("the first use of each operation compiles it, which takes a while", args.quiet)

    machine = {"device": args.device, "n_threads": args.threads}
    models = {
        "popularity": Popularity(**machine),
        "als": ALS(**_settings(train), n_epochs=10, random_state=0, **machine),
    }
    print(f"model: {models['als']}")
    bars = [ProgressBar()] if visible(args.quiet) else []
    rows = []
    for key, model in models.items():
        start = time.perf_counter()
        model.fit(train, eval_set=(train, test), callbacks=bars)
        seconds = time.perf_counter() - start
        rows.append((key, *(model.history_[metric][-1] for metric in _NAMES), f"{seconds:.2f}"))
    if best is not None:
        rows.append(("best achievable", *(best[metric] for metric in _NAMES), None))

    folder = Path(args.out) if args.out else Path(tempfile.mkdtemp(prefix="recsys_fast_quickstart_"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "als.safetensors"
    models["als"].save(path)
    loaded = ALS.load(path, device=args.device)
    users = [user for user in range(train.n_users) if train.row_ptr[user + 1] > train.row_ptr[user]][:3]
    ids, _ = loaded.recommend(users, n=5)
    raw_users = users if loaded.user_ids_ is None else loaded.user_ids_.decode(users)
    raw_items = ids if loaded.item_ids_ is None else loaded.item_ids_.decode(ids)
    lists = [(user, " ".join(map(str, items))) for user, items in zip(raw_users, raw_items, strict=True)]

    print()
    print(output.table(("model", *_NAMES, "seconds, with evaluation"), rows))
    print()
    print(output.table(("user", "recommended items"), lists))
    print()
    print(f"model file: {path}")
    plot = _plot(folder, name, models)
    print(f"plot: {plot}" if plot else 'plot: none without matplotlib (pip install "recsys-fast[plot]")')
    note(f"finished in {time.perf_counter() - begin:.1f} s", args.quiet)


def _settings(train: Any) -> dict[str, Any]:
    """Return parameters of ALS that do well on such data: the denser, the more an absent entry says."""
    dense = len(train) > 0.005 * train.n_users * train.n_items
    if dense:
        return {"n_factors": 32, "regularization": 0.01, "unobserved_weight": 0.1}
    return {"n_factors": 64, "regularization": 0.003, "unobserved_weight": 0.01}


def _data(args: argparse.Namespace) -> tuple[str, Any, Any, dict[str, float] | None]:
    """Return what to call the data, their training and test parts, and the best metrics possible where known."""
    from recsys_fast import datasets
    from recsys_fast.data import splits

    name = args.data or next((one for one in _PREFERRED if datasets.describe(one).found), "synthetic")
    if name == "synthetic":
        made = datasets.synthetic(ks=(_K,), progress=visible(args.quiet), random_state=0)
        why = "" if args.data else " (no real data set was found; RECSYS_FAST_DATA may name a folder of them)"
        return f"synthetic{why}", made.train, made.test, made.extras["oracle"]
    data = datasets.load(name, progress=visible(args.quiet))
    if data.train is not None and data.test is not None:
        if data.train.n_users != data.test.n_users:
            raise ValueError(message("--data", repr(name), "a set whose rows are users", "choose gowalla or ml-100k"))
        return name, data.train, data.test, None
    whole: Any = sources.whole(data)
    if whole.values is not None and whole.values.max() == 5.0:  # stars; counts and clicks stay as they are
        whole = whole.threshold(_LIKED).normalize("binary").compact()
        name += f", ratings of {_LIKED:.0f} or more"
    return f"{name}, random split", *splits.random(whole, random_state=0), None


def _plot(folder: Path, name: str, models: dict[str, Any]) -> Path | None:
    """Draw loss and metrics per epoch; None without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure  # no pyplot: needs no display and leaves no global state

    history, baseline = models["als"].history_, models["popularity"].history_
    epochs = range(1, len(history["loss"]) + 1)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, history["loss"], marker="o")
    left.set(title="training loss", xlabel="epoch", ylabel="loss")
    for metric in _NAMES:
        (line,) = right.plot(epochs, history[metric], marker="o", label=metric)
        right.axhline(baseline[metric][-1], color=line.get_color(), linestyle=":", label=f"{metric}, popularity")
    right.set(title="held-out metrics", xlabel="epoch")
    right.legend()
    figure.suptitle(f"ALS on {name}")
    path = folder / "quickstart.png"
    figure.savefig(path, dpi=120)
    return path
