"""Commands and options. Imports nothing heavy, so that ``--help`` is instant."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from recsys_fast import __version__

_EPILOG = """examples:
  recsys-fast quickstart
  recsys-fast fit als --data gowalla --set n_factors=64 --set solver=cg --out als.safetensors
  recsys-fast evaluate als.safetensors --data gowalla --metrics recall@20,ndcg@20 --json
  recsys-fast recommend als.safetensors --users 0,1,2 -n 10 --format csv
  recsys-fast recommend als.safetensors --history 12,7,99
  recsys-fast fit fm --data frappe --set n_factors=8 --out fm.safetensors
  recsys-fast evaluate fm.safetensors --data frappe --metrics auc,log_loss --json
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _common() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument("--quiet", action="store_true", help="no progress, no notes; results and errors only")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _machine() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument("--device", default="auto", help="auto (default), cpu or numba")
    parser.add_argument("--threads", type=int, metavar="N", help="threads; default: every CPU granted")
    return parser


def _data(required: bool) -> _Parser:
    """Return the options that say what to read and how to split it."""
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        required=required,
        metavar="NAME|FILE",
        help="a data set's name, or a .csv, .tsv, .parquet or .npz file; models of rows: libsvm or libffm text",
    )
    group.add_argument(
        "--split",
        metavar="HOW",
        help="none, given, random, leave-one-out, or a named split of the set (ml-100k: u1, ua); default: given where "
        "the set has one, random for other sets (sequence models: leave-one-out), none for files",
    )
    group.add_argument("--test-fraction", type=float, default=0.2, metavar="P", help="of --split random; default 0.2")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of --split random; default 0")
    group.add_argument("--min-value", type=float, metavar="X", help="keep entries with at least this value")
    columns = parser.add_argument_group("columns of a file, by name or 0-based position")
    columns.add_argument("--user", metavar="COLUMN", help="default: 0 (csv), user (parquet)")
    columns.add_argument("--item", metavar="COLUMN", help="default: 1 (csv), item (parquet)")
    columns.add_argument("--value", metavar="COLUMN", help="default: every line counts 1")
    columns.add_argument("--timestamp", metavar="COLUMN", help="default: no times")
    columns.add_argument("--separator", metavar="TEXT", help=r"default: , (csv), \t (tsv)")
    columns.add_argument("--no-header", action="store_true", help="the first line holds data")
    columns.add_argument(
        "--duplicates", default="sum", choices=("sum", "max", "last", "error"), help="of a pair; default sum"
    )
    rows = parser.add_argument_group("a file of rows, for models of rows (fm, ffm, deepfm, widedeep, featuremlp)")
    rows.add_argument("--layout", choices=("libsvm", "libffm"), help="of its text; default: as its first entry looks")
    rows.add_argument("--one-based", action="store_true", help="features of a libsvm file are numbered from 1")
    rows.add_argument("--n-features", type=int, metavar="N", help="number of features; default: as many as occur")
    return parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="recsys-fast",
        description="Train, evaluate and use recommenders.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"recsys-fast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, *parents: _Parser) -> _Parser:
        return commands.add_parser(name, help=text, description=text, parents=[*parents, _common()], allow_abbrev=False)

    quick = add("quickstart", "train, evaluate, save, load and recommend, on real data where some is found", _machine())
    quick.add_argument("--data", metavar="NAME", help="a data set's name, or synthetic; default: the first one found")
    quick.add_argument(
        "--out", metavar="FOLDER", help="where the model and the plot go; default: a new temporary folder"
    )

    fit = add("fit", "train a model and save it", _data(True), _machine())
    fit.add_argument("model", metavar="MODEL", help="such as als, sasrec or fm, in any case; a wrong name lists all")
    fit.add_argument("--out", required=True, metavar="FILE", help="model file to write (safetensors layout)")
    fit.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the model; may be repeated"
    )
    fit.add_argument("--config", metavar="FILE", help="TOML file of parameters; --set wins over it")

    evaluate = add(
        "evaluate", "compute ranking, rating or prediction metrics of a saved model", _data(True), _machine()
    )
    evaluate.add_argument("model_file", metavar="MODEL_FILE")
    evaluate.add_argument(
        "--metrics",
        metavar="LIST",
        help="such as ndcg@10,map@10,auc; default recall@20,ndcg@20; models of rows: log_loss, auc, rmse, mae, "
        "accuracy or group_auc, default as their loss",
    )
    evaluate.add_argument(
        "--negatives",
        metavar="N|given",
        help="rank the test items among N sampled items, or the set's own; default: all",
    )
    evaluate.add_argument("--keep-seen", action="store_true", help="rank items of the user's history too")
    evaluate.add_argument(
        "--unknown", default="error", choices=("error", "drop"), help="ids or features it does not know"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON")

    recommend = add("recommend", "print the best items for users of a saved model", _machine())
    recommend.add_argument("model_file", metavar="MODEL_FILE")
    whom = recommend.add_mutually_exclusive_group(required=True)
    whom.add_argument("--users", metavar="LIST", help="user ids, comma separated; @FILE reads one per line; all")
    whom.add_argument(
        "--history",
        action="append",
        metavar="LIST",
        help="instead of a user: item ids, comma separated, oldest first; may be repeated",
    )
    recommend.add_argument("-n", type=int, default=10, metavar="N", help="items per user; default 10")
    recommend.add_argument("--format", default="table", choices=("table", "csv", "json"))
    recommend.add_argument("--keep-seen", action="store_true", help="do not leave out items of the training history")

    datasets = add("datasets", "list the data sets that --data knows, and where they are on this machine")
    datasets.add_argument("name", nargs="?", metavar="NAME", help="say more about one of them")
    datasets.add_argument("--json", action="store_true", help="print JSON")

    config = add("config", "print backends, instruction set, threads and versions")
    config.add_argument("--json", action="store_true", help="print JSON")
    return parser
