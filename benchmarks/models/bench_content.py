"""Convolutional networks of content beside PyTorch, in alternating turns: an epoch's seconds, and the loss it leaves.

conv(32, 3 x 3), pooling by 2, dense(128), sigmoid over images of 64 x 64 x 3, Adam, batches of 32. The floor is the
time that the multiply-adds take at the rate of the package's matrix product; Adam's pass over 3.9 million parameters
comes on top of it. ``conv2d_forward`` and ``conv2d_backward`` take a fourth of an epoch, the dense layer half.
Needs torch.

python -m benchmarks.models.bench_content --images 1024
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import recsys_fast as rf
from benchmarks import harness

BATCH, SIZE, FILTERS, WIDTH = 32, 64, 32, 128


class Ours:
    """The network of this package, epoch by epoch."""

    def __init__(self, x: np.ndarray, y: np.ndarray, n_threads: int) -> None:
        layers = [("conv", FILTERS, 3), ("pool", 2), ("dense", WIDTH)]
        self.model = rf.ContentCNN(layers, "sigmoid", n_epochs=1, batch_size=BATCH, n_threads=n_threads, random_state=0)
        self.model.fit(x, y)
        data = self.model._read(x, y, None, True)
        self.trainer = self.model._trainer(self.model._net(), data)
        self.loss = self.model.history_["loss"][-1]

    def epoch(self) -> None:
        self.loss = self.trainer.epoch()
        self.model.n_epochs_ += 1


class Torch:
    """The same network in PyTorch, channels last, its fused Adam."""

    def __init__(self, x: np.ndarray, y: np.ndarray, n_threads: int) -> None:
        import torch

        torch.set_num_threads(n_threads)
        torch.manual_seed(0)
        inner, nn = (SIZE - 2) // 2, torch.nn
        self.network = nn.Sequential(
            nn.Conv2d(3, FILTERS, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(inner * inner * FILTERS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1),
        ).to(memory_format=torch.channels_last)  # fmt: skip
        self.optimizer = torch.optim.Adam(self.network.parameters(), fused=True)
        self.images = torch.from_numpy(x).permute(0, 3, 1, 2)  # channels last as they lie
        self.targets, self.torch, self.loss = torch.from_numpy(y.astype(np.float32)), torch, 0.0
        self.epoch()

    def epoch(self) -> None:
        torch, total = self.torch, 0.0
        for rows in torch.randperm(len(self.images)).split(BATCH):
            self.optimizer.zero_grad()
            scores = self.network(self.images[rows].float() / 255)[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, self.targets[rows])
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(rows)
        self.loss = total / len(self.images)


def operations() -> float:
    """Return the floating-point operations of an image: forward and gradients, of the images themselves none."""
    out = SIZE - 2
    return 2 * 2 * out * out * 27 * FILTERS + 3 * 2 * (out // 2) ** 2 * FILTERS * WIDTH


def main() -> None:
    parser: argparse.ArgumentParser = harness.arguments(__doc__)
    parser.add_argument("--images", type=int, default=512)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, options.images)
    x = (rng.integers(0, 200, (options.images, SIZE, SIZE, 3)) + 30 * y[:, None, None, None]).astype(np.uint8)
    contestants = {"recsys_fast": Ours(x, y, options.threads), "torch": Torch(x, y, options.threads)}
    turns: dict[str, Callable[[], object]] = {name: one.epoch for name, one in contestants.items()}
    figures = harness.alternate(turns, options.turns)
    floor = operations() * options.images / harness.sgemm_peak(options.threads) / 1e9
    for name, figure in figures.items():
        figure.floor_seconds = floor
        figure.quality = {"images/s": options.images / figure.median, "loss": contestants[name].loss}
    report = harness.Report(options)
    report.add("CNN 64 x 64 x 3, an epoch", figures, f"{options.images} images", of_data=False)
    report.finish()


if __name__ == "__main__":
    main()
