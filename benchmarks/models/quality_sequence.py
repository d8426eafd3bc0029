"""HR@10 and NDCG@10 of the sequence models, leave-one-out, all items ranked, the user's earlier items left out.

The epoch is chosen on the validation items (NDCG@10, patience 10); the test items are looked at once per seed, with the
validation item as part of the history. Beside each mean stands the published figure of the S3-Rec repository.

python -m benchmarks.models.quality_sequence --data beauty --models sasrec gru4rec --seeds 3 --save quality_beauty
"""

from __future__ import annotations

import time
from typing import Any

import recsys_fast as rf
from benchmarks import harness

# HR@10, NDCG@10 in the S3-Rec repository.
PUBLISHED = {
    "beauty": {
        "gru4rec": (0.0283, 0.0137),
        "caser": (0.0347, 0.0176),
        "sasrec": (0.0605, 0.0318),
        "bert4rec": (0.0347, 0.0170),
    },
    "toys": {
        "gru4rec": (0.0176, 0.0084),
        "caser": (0.0270, 0.0141),
        "sasrec": (0.0675, 0.0374),
        "bert4rec": (0.0203, 0.0099),
    },
    "yelp": {
        "gru4rec": (0.0263, 0.0134),
        "caser": (0.0253, 0.0129),
        "sasrec": (0.0274, 0.0136),
        "bert4rec": (0.0090, 0.0045),
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


def fit(name: str, data: Any, seed: int, options: Any) -> tuple[Any, float, float]:
    """Return the model at its best epoch on the validation items, what it reached there, and the seconds."""
    kind, parameters = SETTINGS[name]
    train, valid, _ = data
    stopping = rf.EarlyStopping("ndcg@10", patience=options.patience)
    model = getattr(rf, kind)(random_state=seed, n_threads=options.threads, **parameters)
    model.set_params(**dict(options.set))
    if options.epochs:
        model.set_params(n_epochs=options.epochs)
    start = time.perf_counter()
    model.fit(train, eval_set=valid, callbacks=[stopping], verbose=options.verbose)
    return model, max(model.history_["ndcg@10"]), time.perf_counter() - start


def main() -> None:
    parser = harness.arguments(__doc__, data="beauty")
    parser.add_argument("--models", nargs="+", choices=sorted(SETTINGS), default=["sasrec"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="at most; as in the settings where not given")
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    data = rf.splits.leave_one_out(rf.datasets.load(options.data).sequences)
    train, valid, test = data
    report = harness.Report(options)
    for name in options.models:
        found, spent = [], []
        for seed in range(options.seeds):
            model, best, seconds = fit(name, data, seed, options)
            measured = rf.evaluation.evaluate(model, rf.splits.join(train, valid), test, ("hit_rate", "ndcg"), (10,))
            found.append({"hr@10": measured["hit_rate@10"], "ndcg@10": measured["ndcg@10"]})
            spent.append(seconds)
            chosen = f"  valid ndcg@10 {best:.4f}  best epoch {model.n_epochs_}"
            print(harness.seed_line(name, seed, found[-1], seconds) + chosen, flush=True)
        published = PUBLISHED.get(options.data, {}).get(name)
        figure = harness.over_seeds(
            found, spent, dict(zip(("hr@10", "ndcg@10"), published, strict=True)) if published else None
        )
        report.add(name, {"recsys_fast": figure}, f"{options.seeds} seeds, seconds of a whole fit")
    report.finish()


if __name__ == "__main__":
    main()
