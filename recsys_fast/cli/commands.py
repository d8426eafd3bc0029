"""The commands ``fit``, ``evaluate``, ``recommend``, ``datasets`` and ``config``; each takes the parsed arguments."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys_fast.cli import output, row_sources, sequence_sources, sources
from recsys_fast.cli.parameters import fits_rows, fits_sequences
from recsys_fast.cli.progress import note, visible, working
from recsys_fast.errors import NotSupportedError, message

_RANKING = ("recall@20", "ndcg@20")  # metrics, unless others are asked for


def fit(args: argparse.Namespace) -> None:
    """Train a model on the training part of the data and save it."""
    from recsys_fast.cli.parameters import model_class, parse_parameters
    from recsys_fast.training import ProgressBar

    chosen = model_class(args.model)
    params = parse_parameters(chosen, args.set, args.config)
    folder = Path(args.out).absolute().parent
    if not folder.is_dir():  # said before the training, not after it
        raise FileNotFoundError(message(f"folder of --out {args.out}", folder, "an existing folder", "make it first"))
    defaults: dict[str, Any] = {"device": args.device, "n_threads": args.threads}
    if "random_state" in chosen._defaults():
        defaults["random_state"] = 0  # the same command gives the same model
    model = chosen(**{**defaults, **params})
    data = _read(model, args)
    given, options = data.train.arguments(model) if fits_rows(model) else ((data.train,), {})
    note(f"{data.name}: training on {data.train}", args.quiet)
    begin = time.perf_counter()
    model.fit(*given, callbacks=[ProgressBar()] if visible(args.quiet) else [], **options)
    seconds = time.perf_counter() - begin
    loss = model.history_.get("loss")
    reached = f", loss {loss[-1]:.6g}" if loss else ""
    note(f"{model}: {model.n_epochs_} epochs in {seconds:.2f} s{reached}", args.quiet)
    with working(f"writing {args.out}", args.quiet):
        model.save(args.out)
    note(f"wrote {args.out}", args.quiet)


def _read(model: Any, args: argparse.Namespace, *known: Any) -> Any:
    """Return what ``--data`` names as a model takes it; ``known`` is what a fitted one expects of the data."""
    if fits_rows(model):
        return row_sources.read(args, *known)
    sources.refuse(args, sources.ROWS, "models of rows, such as fm")
    return (sequence_sources if fits_sequences(model) else sources).read(args, *known)


def _load(args: argparse.Namespace) -> Any:
    from recsys_fast.models.files import load

    with working(f"reading {args.model_file}", args.quiet):
        model: Any = load(args.model_file, None, args.device)
    return model.set_params(n_threads=args.threads)


def _negatives(args: argparse.Namespace, given: Any) -> Any:
    """Return what ``--negatives`` stands for: None, a number, or the lists that came with the data."""
    if args.negatives is None:
        return None
    if args.negatives == "given":
        if given is None:
            raise ValueError(message("--negatives given", "data without such lists", "a number", "see ml-1m-ncf"))
        return given
    if not args.negatives.isdecimal() or int(args.negatives) < 1:
        raise ValueError(message("--negatives", repr(args.negatives), "a number of 1 or more, or given"))
    return int(args.negatives)


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate a saved model on the test part of the data; a file without ``--split`` is a test set as a whole."""
    from recsys_fast.evaluation import evaluate as compute
    from recsys_fast.evaluation.names import RATING_METRICS

    model = _load(args)
    given = args.metrics
    wanted = None if given is None else [name.strip().lower() for name in given.split(",") if name.strip()]
    if fits_rows(model):
        _evaluate_rows(args, model, wanted)
        return
    _check_use(args, model)
    data = _read(model, args, model.user_ids_, model.item_ids_, args.unknown)
    known = getattr(data, "history", None)
    if known is None:
        known = model.training_sequences_ if fits_sequences(model) else model.training_matrix_
    test = data.train if data.test is None else data.test
    metrics = _RANKING if wanted is None else wanted
    if getattr(test, "values", None) is None:
        for name in RATING_METRICS:
            if name in metrics:
                mend = "name the column that holds them with --value"
                raise ValueError(message(f"{name} of {data.name}", "entries without ratings", "ratings", mend))
    options: dict[str, Any] = {"negatives": _negatives(args, data.negatives), "filter_seen": not args.keep_seen}
    with working("evaluating", args.quiet):
        report = compute(model, known, test, metrics, seed=args.seed, n_threads=args.threads, **options)
    if args.json:
        print(report.to_json())
    else:
        print(report)


def _evaluate_rows(args: argparse.Namespace, model: Any, wanted: list[str] | None) -> None:
    """Evaluate a model of rows: its predictions, against the targets of the test part."""
    from recsys_fast import __version__
    from recsys_fast.evaluation.row_metrics import ROW_METRICS, check_row_metrics
    from recsys_fast.models import evaluate_rows

    sources.refuse(args, ("negatives", "keep_seen"), "models of users and items", "nothing is ranked here")
    if wanted is not None:
        if not wanted:
            raise ValueError(message("--metrics", repr(args.metrics), "one of " + ", ".join(ROW_METRICS)))
        check_row_metrics(wanted)
    data = _read(model, args, model.n_features_in_)
    rows = data.train if data.test is None else data.test
    with working("evaluating", args.quiet):
        found = evaluate_rows(model, rows.matrix, rows.targets, wanted, groups=rows.groups)
    if args.json:
        output.write_json({"metrics": found, "n_rows": rows.matrix.n_rows, "version": __version__})
    else:
        print(output.table(("metric", "value"), list(found.items())))
        print(f"\n{rows.matrix.n_rows} rows of {data.name}; recsys_fast {__version__}")


def _check_use(args: argparse.Namespace, model: Any) -> None:
    """Raise NotSupportedError where a model ranks no items for users."""
    if hasattr(model, "recommend"):
        return
    what = f"{args.model_file} holds {type(model).__name__}, which ranks no items for users"
    mend = "evaluate it, or call predict in Python" if fits_rows(model) else "use it from Python"
    raise NotSupportedError(message(what, mend=mend))


def _raw_users(text: str, id_map: Any, n_users: int) -> Any:
    """Return the row numbers and the names of the users in a list; names are raw ids where the model has them."""
    import numpy as np

    if text.strip().lower() == "all":
        dense = np.arange(n_users, dtype=np.int32)
        return dense, dense.tolist() if id_map is None else id_map.decode(dense).tolist()
    listed = Path(text[1:]).read_text(encoding="utf-8").splitlines() if text.startswith("@") else text.split(",")
    names = [name.strip() for name in listed if name.strip()]
    if not names:
        raise ValueError(message("--users", repr(text), "ids such as 0,1,2"))
    if id_map is not None and id_map.kind != "int":
        return id_map.encode(names), names
    try:
        numbers = [int(name) for name in names]
    except ValueError:
        odd = next(name for name in names if not name.lstrip("+-").isdecimal())
        raise ValueError(message("--users", repr(odd), "integer ids, as this model was trained on")) from None
    return np.array(numbers) if id_map is None else id_map.encode(numbers), numbers


def _histories(texts: list[str], item_ids: Any, n_items: int) -> Any:
    """Return the histories of ``--history``, ``Sequences`` of raw item ids where the model has them."""
    from recsys_fast.data import Sequences

    lists = []
    for text in texts:
        names: list[Any] = [name.strip() for name in text.split(",") if name.strip()]
        if item_ids is None or item_ids.kind == "int":
            odd = next((name for name in names if not name.lstrip("+-").isdecimal()), None)
            if odd is not None:
                raise ValueError(message("--history", repr(odd), "integer ids, as this model was trained on"))
            names = [int(name) for name in names]
        lists.append(names if item_ids is None else item_ids.encode(names).tolist())
    return Sequences(lists, n_items=n_items)


def recommend(args: argparse.Namespace) -> None:
    """Print the best items for users, or for histories, by raw ids where the model knows them."""
    model = _load(args)
    _check_use(args, model)
    item_ids, dense, given = model.item_ids_, None, None
    if args.history:
        given = _histories(args.history, item_ids, model.training_matrix_.n_cols)
        names = list(args.history)
    else:
        dense, names = _raw_users(args.users, model.user_ids_, model.training_matrix_.n_rows)
    with working("ranking", args.quiet):
        ids, scores = model.recommend(dense, given, args.n, filter_seen=not args.keep_seen)

    def lists() -> Iterator[tuple[Any, list[Any], list[float]]]:
        for name, some, values in zip(names, ids, scores, strict=True):
            some = some[some >= 0]
            items = some.tolist() if item_ids is None else item_ids.decode(some).tolist()
            yield name, items, values[: len(items)].tolist()

    if args.format == "json":
        output.write_json([{"user": name, "items": items, "scores": values} for name, items, values in lists()])
        return
    header = ("user", "rank", "item", "score")
    rows = (
        (name, rank, item, score)
        for name, items, values in lists()
        for rank, (item, score) in enumerate(zip(items, values, strict=True), 1)
    )
    if args.format == "csv":
        output.write_csv(header, rows)
    else:
        print(output.table(header, rows))


def datasets(args: argparse.Namespace) -> None:
    """List the data sets, or describe one."""
    from recsys_fast import datasets as known

    described = [known.describe(name) for name in ([args.name] if args.name else known.names())]
    if args.json:
        output.write_json([one._asdict() for one in described])
    elif args.name:
        print(output.table(("", ""), [(key, value) for key, value in described[0]._asdict().items()]).lstrip())
    else:
        rows = [(one.name, one.size, one.found or ("(download)" if one.downloadable else "")) for one in described]
        print(output.table(("name", "users x items, interactions", "found in"), rows))


def config(args: argparse.Namespace) -> None:
    """Print backends, instruction set, threads and versions."""
    from recsys_fast import backend

    if args.json:
        output.write_json(backend.config())
    else:
        backend.show_config()
