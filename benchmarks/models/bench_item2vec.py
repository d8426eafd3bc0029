"""Item2Vec (skipgram_epoch) beside gensim's Word2Vec: seconds per million trained pairs, and how the vectors rank.

Both train skip-gram with the same width, window, negatives, subsampling and falling rate on the same baskets, gensim
from a file of lines, its fastest way. A turn is one epoch; what it trains is counted by ours, and expected of gensim's,
which draws windows and tokens in the same way. Both rank by the mean cosine with the user's history.

python -m benchmarks.models.bench_item2vec --threads 2
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import harness
from recsys_fast.models.skipgram_training import SkipgramEpochs


class Ours:
    """The model's own epochs, one by one."""

    def __init__(self, train: Any, options: Any) -> None:
        parameters = {"n_factors": options.width, "window": options.window, "n_negatives": options.negatives}
        self.model = rf.Item2Vec(
            **parameters, sample=options.sample, learning_rate=options.rate, n_epochs=options.turns + 1,
            n_threads=options.threads, random_state=0,
        )  # fmt: skip
        self.model._check_given(train, events=None, init=None)
        self.model._events = self.model._start_vectors = None
        self.model._matrix = train
        self.epochs = self.model._begin().sgd
        self.done, self.pairs = 0, 0

    def turn(self) -> None:
        """Train one epoch."""
        _, self.pairs, _ = self.epochs.run(self.done)
        self.done += 1

    @property
    def flops(self) -> float:
        """Multiplications and additions of an epoch: scores and both gradients, of pairs and of shared negatives."""
        assert isinstance(self.epochs, SkipgramEpochs)
        tokens = len(self.epochs.ids) if not len(self.epochs.keep) else self.epochs.keep[self.epochs.ids].sum()
        return 6.0 * self.model.n_factors * (self.pairs + float(tokens) * self.epochs.n_shared)


class Gensim:
    """Word2Vec over lines of a file; every epoch goes through the same order."""

    def __init__(self, train: Any, folder: str, options: Any) -> None:
        from gensim.models import Word2Vec

        rng = np.random.default_rng(0)
        self.path = str(Path(folder) / "baskets.txt")
        with open(self.path, "w", encoding="ascii") as file:
            for begin, end in zip(train.row_ptr[:-1], train.row_ptr[1:], strict=True):
                file.write(" ".join(map(str, rng.permutation(train.col_idx[begin:end]))) + "\n")
        self.model = Word2Vec(
            vector_size=options.width, window=options.window, sg=1, hs=0, negative=options.negatives, min_count=1,
            sample=options.sample, workers=options.threads, seed=0,
        )  # fmt: skip
        self.model.build_vocab(corpus_file=self.path)
        self.rates = np.linspace(options.rate, 1e-4, options.turns + 2)
        self.done = 0

    def turn(self) -> None:
        """Train one epoch."""
        self.model.train(
            corpus_file=self.path, total_examples=self.model.corpus_count, epochs=1,
            total_words=self.model.corpus_total_words,
            start_alpha=self.rates[self.done], end_alpha=self.rates[self.done + 1],
        )  # fmt: skip
        self.done += 1

    def vectors(self, n_items: int) -> Any:
        """Return the vectors by item, zeros for items without events."""
        out = np.zeros((n_items, self.model.vector_size), np.float32)
        out[[int(name) for name in self.model.wv.index_to_key]] = self.model.wv.vectors
        return out


def _quality(vectors: Any, train: Any, test: Any) -> dict[str, float]:
    """Return metrics of users as means of their items' vectors at length 1."""
    rates = {"learning_rate": 1e-12, "min_learning_rate": 0.0}
    still = rf.Item2Vec(vectors.shape[1], **rates, n_epochs=1, scoring="cosine", random_state=0)
    found = rf.evaluation.evaluate(still.fit(train, init=vectors), train, test, ("recall", "ndcg"), (20,))
    return {name: float(found[name]) for name in ("recall@20", "ndcg@20")}


def main() -> None:
    """Take turns, then rank with what both have learned."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--negatives", type=int, default=5)
    parser.add_argument("--sample", type=float, default=1e-3)
    parser.add_argument("--rate", type=float, default=0.05)
    options = parser.parse_args()
    data = rf.datasets.load(options.data)
    train = rf.ops.as_csr(data.train)._replace(values=None)
    with tempfile.TemporaryDirectory() as folder:
        ours, gensim = Ours(train, options), Gensim(train, folder, options)
        figures = harness.alternate({"recsys_fast": ours.turn, "gensim": gensim.turn}, options.turns)
        figures["recsys_fast"].floor_seconds = ours.flops / 1e9 / harness.sgemm_peak(options.threads)
        for name, vectors in (("recsys_fast", ours.epochs.tables[0]), ("gensim", gensim.vectors(train.n_cols))):
            figure = figures[name]
            figure.quality = _quality(vectors, train, data.test) if data.test is not None else {}
            figure.seconds = [seconds / ours.pairs * 1e6 for seconds in figure.seconds]
        figures["recsys_fast"].floor_seconds *= 1e6 / ours.pairs
    report = harness.Report(options)
    details = (
        f"width {options.width}, window {options.window}, {options.negatives} negatives, {options.turns + 1} epochs"
    )
    report.add("seconds per million pairs", figures, details)
    report.finish()


if __name__ == "__main__":
    main()
