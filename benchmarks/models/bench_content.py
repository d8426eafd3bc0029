"""Networks of content beside PyTorch, in alternating turns: an epoch's seconds, and the loss it leaves.

"cnn": conv(32, 3 x 3), pooling by 2, dense(128), sigmoid over images of 64 x 64 x 3, Adam, batches of 32. The floor is
the time that the multiply-adds take at the rate of the package's matrix product; Adam's pass over 3.9 million
parameters comes on top. ``conv2d_forward`` and ``conv2d_backward`` take a fourth of an epoch, the dense layer half.
"rnn": embedding(10,000 x 64), LSTM(64), softmax over 20 classes of texts of about 100 words, Adam, batches of
64; PyTorch on padded batches, which computes the padding, and on packed ones. The floor are the products of the LSTM.
Needs torch.

python -m benchmarks.models.bench_content --work rnn --texts 2048
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import harness

BATCH, SIZE, FILTERS, WIDTH = 32, 64, 32, 128
TEXTS, VOCABULARY, D, CLASSES = 64, 10_000, 64, 20


class Ours:
    """A network of this package, epoch by epoch."""

    def __init__(self, model: Any, x: Any, y: np.ndarray) -> None:
        self.model = model.fit(x, y)
        self.trainer = model._trainer(model._net(), model._read(x, y, None, True))
        self.loss = model.history_["loss"][-1]

    def epoch(self) -> None:
        self.loss = self.trainer.epoch()
        self.model.n_epochs_ += 1


class Torch(ABC):
    """A network in PyTorch, its fused Adam."""

    def __init__(self, n_threads: int, n: int, batch: int) -> None:
        import torch

        torch.set_num_threads(n_threads)
        torch.manual_seed(0)
        self.torch, self.n, self.batch, self.loss = torch, n, batch, 0.0
        self.network = self.make()
        self.optimizer = torch.optim.Adam(self.network.parameters(), fused=True)
        self.epoch()

    @abstractmethod
    def make(self) -> Any:
        """Return the network."""

    @abstractmethod
    def step_loss(self, rows: Any) -> Any:
        """Return the mean loss of a batch."""

    def epoch(self) -> None:
        total = 0.0
        for rows in self.torch.randperm(self.n).split(self.batch):
            self.optimizer.zero_grad()
            loss = self.step_loss(rows)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(rows)
        self.loss = total / self.n


class TorchCNN(Torch):
    """Channels last, as they lie."""

    def __init__(self, x: np.ndarray, y: np.ndarray, n_threads: int) -> None:
        import torch

        self.images = torch.from_numpy(x).permute(0, 3, 1, 2)
        self.targets = torch.from_numpy(y.astype(np.float32))
        super().__init__(n_threads, len(x), BATCH)

    def make(self) -> Any:
        inner, nn = (SIZE - 2) // 2, self.torch.nn
        return nn.Sequential(
            nn.Conv2d(3, FILTERS, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(inner * inner * FILTERS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1),
        ).to(memory_format=self.torch.channels_last)  # fmt: skip

    def step_loss(self, rows: Any) -> Any:
        scores = self.network(self.images[rows].float() / 255)[:, 0]
        return self.torch.nn.functional.binary_cross_entropy_with_logits(scores, self.targets[rows])


class TorchRNN(Torch):
    """Batches padded to their longest text, or packed by ``pack_padded_sequence``; texts are not sorted."""

    def __init__(self, x: Any, y: np.ndarray, n_threads: int, packed: bool) -> None:
        import torch

        self.texts = [torch.from_numpy(row.astype(np.int64)) for row in x]
        self.lengths, self.targets = torch.from_numpy(x.lengths.astype(np.int64)), torch.from_numpy(y)
        self.packed = packed
        super().__init__(n_threads, len(y), TEXTS)

    def make(self) -> Any:
        nn = self.torch.nn
        table = nn.Embedding(VOCABULARY, D)
        nn.init.normal_(table.weight, std=D**-0.5)
        return nn.ModuleList([table, nn.LSTM(D, D, batch_first=True), nn.Linear(D, CLASSES)])

    def step_loss(self, rows: Any) -> Any:
        utils, (table, lstm, head) = self.torch.nn.utils.rnn, self.network
        x = table(utils.pad_sequence([self.texts[row] for row in rows.tolist()], batch_first=True))
        lengths = self.lengths[rows]
        if self.packed:
            h = lstm(utils.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[1][0][0]
        else:
            h = lstm(x)[0][self.torch.arange(len(rows)), lengths - 1]
        return self.torch.nn.functional.cross_entropy(head(h), self.targets[rows])


def cnn(options: argparse.Namespace, report: harness.Report) -> None:
    rng, n = np.random.default_rng(0), options.images
    y = rng.integers(0, 2, n)
    x = (rng.integers(0, 200, (n, SIZE, SIZE, 3)) + 30 * y[:, None, None, None]).astype(np.uint8)
    layers = [("conv", FILTERS, 3), ("pool", 2), ("dense", WIDTH)]
    how: dict[str, Any] = {"n_epochs": 1, "n_threads": options.threads, "random_state": 0}
    ours = rf.ContentCNN(layers, "sigmoid", batch_size=BATCH, **how)
    contestants = {"recsys_fast": Ours(ours, x, y), "torch": TorchCNN(x, y, options.threads)}
    out = SIZE - 2  # forward and gradients, of the images themselves none
    operations = 2 * 2 * out * out * 27 * FILTERS + 3 * 2 * (out // 2) ** 2 * FILTERS * WIDTH
    compare(contestants, options, report, "CNN 64 x 64 x 3, an epoch", f"{n} images", n, "images/s", n * operations)


def texts(n: int) -> tuple[rf.Sequences, np.ndarray]:
    """Return texts of 20 to 250 words, 100 on average, every fifth word of one of 20 topics, and the topics."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, n)
    lists = []
    for topic, length in zip(y, np.clip(rng.lognormal(4.47, 0.5, n), 20, 250).astype(int), strict=True):
        words = (VOCABULARY * rng.random(length) ** 3).astype(np.int64)  # a few words are frequent, most are rare
        of_topic = rng.random(length) < 0.2
        words[of_topic] = 1000 + CLASSES * rng.integers(0, 5, int(of_topic.sum())) + topic
        lists.append(words)
    return rf.Sequences(lists, n_items=VOCABULARY), y


def rnn(options: argparse.Namespace, report: harness.Report) -> None:
    x, y = texts(options.texts)
    how: dict[str, Any] = {"n_epochs": 1, "n_threads": options.threads, "random_state": 0}
    ours = rf.ContentRNN("lstm", D, D, batch_size=TEXTS, **how)
    contestants: dict[str, Any] = {"recsys_fast": Ours(ours, x, y)}
    for name, packed in (("torch, padded", False), ("torch, packed", True)):
        contestants[name] = TorchRNN(x, y, options.threads, packed)
    operations = 3 * 2 * (D + D) * 4 * D * x.n_events  # forward, and gradients of weights and inputs
    details = f"{options.texts} texts, {x.n_events} words"
    compare(contestants, options, report, "embedding + LSTM(64), an epoch", details, x.n_events, "words/s", operations)


def compare(
    contestants: dict[str, Any], options: argparse.Namespace, report: harness.Report, what: str, details: str, n: int,
    unit: str, operations: float,
) -> None:  # fmt: skip
    """Give each its turns, and report seconds, speed, share of the floor, and the loss of the last epoch."""
    turns: dict[str, Callable[[], object]] = {name: one.epoch for name, one in contestants.items()}
    figures = harness.alternate(turns, options.turns)
    floor = operations / harness.sgemm_peak(options.threads) / 1e9
    for name, figure in figures.items():
        figure.floor_seconds = floor
        figure.quality = {unit: n / figure.median, "loss": contestants[name].loss}
    report.add(what, figures, details, of_data=False)


def main() -> None:
    parser: argparse.ArgumentParser = harness.arguments(__doc__)
    parser.add_argument("--work", nargs="+", choices=["cnn", "rnn"], default=["cnn", "rnn"])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--texts", type=int, default=2048)
    options = parser.parse_args()
    report = harness.Report(options)
    for work in options.work:
        {"cnn": cnn, "rnn": rnn}[work](options, report)
    report.finish()


if __name__ == "__main__":
    main()
