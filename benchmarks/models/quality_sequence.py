"""HR@10 and NDCG@10 of the sequence models, leave-one-out, all items ranked, the user's earlier items left out.

The epoch is chosen on the validation items (NDCG@10, patience 10); the test items are looked at once per seed, with the
validation item as part of the history. Beside each mean stands the published figure of the S3-Rec repository.

On session sets (diginetica, yoochoose-1-64) models train for a fixed number of epochs, and every
event of the test sessions is predicted from those before it: Recall@20 and MRR@20, as in ``session_quality``.

python -m benchmarks.models.quality_sequence --data diginetica --models gru4rec --seeds 1 --save quality_diginetica
python -m benchmarks.models.quality_sequence --data beauty --models sasrec gru4rec --seeds 3 --save quality_beauty
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models import session_quality

# HR@10, NDCG@10 in the S3-Rec repository.
PUBLISHED = {
    "beauty": {
        "gru4rec": {"hr@10": 0.0283, "ndcg@10": 0.0137},
        "caser": {"hr@10": 0.0347, "ndcg@10": 0.0176},
        "sasrec": {"hr@10": 0.0605, "ndcg@10": 0.0318},
        "bert4rec": {"hr@10": 0.0347, "ndcg@10": 0.0170},
    },
    "toys": {
        "gru4rec": {"hr@10": 0.0176, "ndcg@10": 0.0084},
        "caser": {"hr@10": 0.0270, "ndcg@10": 0.0141},
        "sasrec": {"hr@10": 0.0675, "ndcg@10": 0.0374},
        "bert4rec": {"hr@10": 0.0203, "ndcg@10": 0.0099},
    },
    "yelp": {
        "gru4rec": {"hr@10": 0.0263, "ndcg@10": 0.0134},
        "caser": {"hr@10": 0.0253, "ndcg@10": 0.0129},
        "sasrec": {"hr@10": 0.0274, "ndcg@10": 0.0136},
        "bert4rec": {"hr@10": 0.0090, "ndcg@10": 0.0045},
    },
}

# Width 64, 2 blocks, 2 heads and length 50 as published; "sasrec" with the published loss and blocks (norms behind
# them, GELU, 4 d inside).
_ATTENTION: dict[str, Any] = {"d": 64, "n_blocks": 2, "n_heads": 2, "max_len": 50, "n_epochs": 200}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "sasrec": (
        "SASRec",
        {
            **_ATTENTION,
            "loss": "bce",
            "dropout": 0.5,
            "batch_size": 256,
            "norm": "post",
            "hidden": 256,
            "activation": "gelu",
        },
    ),
    "sasrec-ce": ("SASRec", {**_ATTENTION, "loss": "ce", "dropout": 0.5, "batch_size": 256}),
    "sasrec-gbce": ("SASRec", {**_ATTENTION, "loss": "gbce", "dropout": 0.5, "batch_size": 256}),
    "bert4rec": ("BERT4Rec", {**_ATTENTION, "dropout": 0.2, "batch_size": 256}),
    "gru4rec": (
        "GRU4Rec",
        {"d": 100, "loss": "ce", "n_negatives": 2048, "session_parallel": True, "batch_size": 64, "n_epochs": 20},
    ),
    "nextitnet": ("NextItNet", {"d": 64, "dilations": (1, 2, 4), "kernel_size": 3, "n_epochs": 100}),
    "caser": ("Caser", {"d": 64, "n_negatives": 8, "dropout": 0.3, "lazy_moments": True, "n_epochs": 100}),
}


class Outcome(NamedTuple):
    """A trained model's metrics by name, the seconds of its fit, and what to say of how it was chosen."""

    found: dict[str, float]
    seconds: float
    chosen: str


def leave_one_out(model: Any, data: Any, options: Any) -> Outcome:
    """Train until the validation items are ranked best, and measure the test items."""
    train, valid, test = rf.splits.leave_one_out(data.sequences)
    stopping = rf.EarlyStopping("ndcg@10", patience=options.patience)
    start = time.perf_counter()
    model.fit(train, eval_set=valid, callbacks=[stopping], verbose=options.verbose)
    seconds = time.perf_counter() - start
    measured = rf.evaluation.evaluate(model, rf.splits.join(train, valid), test, ("hit_rate", "ndcg"), (10,))
    best = f"valid ndcg@10 {max(model.history_['ndcg@10']):.4f}  best epoch {model.n_epochs_}"
    return Outcome({"hr@10": measured["hit_rate@10"], "ndcg@10": measured["ndcg@10"]}, seconds, best)


def next_events(model: Any, data: Any, options: Any) -> Outcome:
    """Train for the given number of epochs, and measure every event of the test sessions."""
    start = time.perf_counter()
    model.fit(data.sequences, verbose=options.verbose)
    seconds = time.perf_counter() - start
    found = session_quality.measure(model, data.sequences, data.test_sequences)
    return Outcome(found, seconds, f"{model.n_epochs_} epochs")


def main() -> None:
    parser = harness.arguments(__doc__, data="beauty")
    names = sorted({*SETTINGS, *(name for own in session_quality.SETTINGS.values() for name in own)})
    parser.add_argument("--models", nargs="+", choices=names, default=["sasrec"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="at most; as in the settings where not given")
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    data = rf.datasets.load(options.data)
    settings = SETTINGS | session_quality.SETTINGS.get(options.data, {})
    if missing := sorted(set(options.models) - set(settings)):
        parser.error(f"no parameters of {', '.join(missing)} on {options.data}")
    run = leave_one_out if data.test_sequences is None else next_events
    report = harness.Report(options)
    for name in options.models:
        kind, parameters = settings[name]
        outcomes = []
        for seed in range(options.seeds):
            model = getattr(rf, kind)(random_state=seed, n_threads=options.threads, **parameters)
            model.set_params(**dict(options.set))
            if options.epochs:
                model.set_params(n_epochs=options.epochs)
            outcome = run(model, data, options)
            outcomes.append(outcome)
            line = harness.seed_line(name, seed, outcome.found, outcome.seconds)
            print(f"{line}  {outcome.chosen}", flush=True)
        published = (PUBLISHED | session_quality.PUBLISHED).get(options.data, {}).get(name)
        figure = harness.over_seeds([one.found for one in outcomes], [one.seconds for one in outcomes], published)
        report.add(name, {"recsys_fast": figure}, f"{options.seeds} seeds, seconds of a whole fit")
    report.finish()


if __name__ == "__main__":
    main()
