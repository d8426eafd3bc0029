"""The GPU under a benchmark: what it reaches at best, when it has finished, and which peers there are."""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness
from recsys_fast import backend
from recsys_fast.errors import DeviceError


def arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options of a benchmark's parser, to which ``--dry`` is added."""
    parser.add_argument("--dry", action="store_true", help="tiny sizes, on what plays the GPU: does the script run?")
    options = parser.parse_args()
    options.turns = 1 if options.dry else options.turns
    return options


class Gpu:
    """The current device.

    Args:
        dry: it may be one that is only played, whose rates mean nothing.

    Attributes:
        bandwidth: bytes per second of a large copy, what is read and what is written both counted.
        peak: float32 operations per second of a large product by cuBLAS, without TF32.
    """

    def __init__(self, dry: bool) -> None:
        try:
            self.module, self.arrays = backend.get("cuda"), backend.arrays("cuda")
        except DeviceError as error:
            raise SystemExit(f"no figures of a GPU: {error}") from None
        self.dry = dry
        self.bandwidth, self.peak = self._bandwidth(1 << 16 if dry else 1 << 29), 1e12 if dry else self._peak(8192)
        print(f"copy {self.bandwidth / 1e9:.0f} GB/s, float32 product {self.peak / 1e12:.1f} TFLOP/s", flush=True)

    def _bandwidth(self, n: int) -> float:
        a, b = self.arrays.zeros(n, "float32"), self.arrays.zeros(n, "float32")

        def copy() -> None:
            b[...] = a

        return 2 * 4 * n / min(self._seconds(copy) for _ in range(5))

    def _peak(self, n: int) -> float:
        cupy = self.arrays.module
        a = cupy.random.default_rng(0).standard_normal((n, n), dtype="float32")
        return 2.0 * n**3 / min(self._seconds(lambda: a @ a) for _ in range(5))

    def _seconds(self, work: Callable[[], object]) -> float:
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Return when the device has done what it was given."""
        self.module.synchronize()

    def finished(self, work: Callable[[], object]) -> Callable[[], None]:
        """Return ``work`` followed by a wait for the device, which is what is timed."""

        def run() -> None:
            work()
            self.wait()

        return run

    def floor(self, n_bytes: float, n_operations: float = 0.0) -> float:
        """Return the seconds below which nobody gets: bytes over bandwidth, or operations over peak."""
        return max(n_bytes / self.bandwidth, n_operations / self.peak)


def torch_device(dry: bool) -> str | None:
    """Return where PyTorch computes, "cuda"; None, and a line that says why, where it cannot. Dry runs take the CPU."""
    try:
        import torch
    except ImportError as error:
        print(f"without PyTorch: {error}")
        return None
    if dry:
        return "cpu"
    if not torch.cuda.is_available():
        print("without PyTorch: it sees no GPU")
        return None
    torch.backends.cuda.matmul.allow_tf32 = False  # as everybody here
    return "cuda"


def implicit_gpu(name: str, dry: bool) -> Any:
    """Return implicit's class for the GPU ("als" or "bpr"); None, and a line that says why, where it is not there."""
    if dry:
        print("without implicit: it has no GPU to play with")
        return None
    try:
        import implicit.gpu

        if not implicit.gpu.HAS_CUDA:
            raise ImportError("it was built without CUDA")
        if name == "als":
            from implicit.gpu.als import AlternatingLeastSquares as found
        else:
            from implicit.gpu.bpr import BayesianPersonalizedRanking as found
    except ImportError as error:
        print(f"without implicit: {error}")
        return None
    return found


def implicit_epochs(model: Any, matrix: Any, name: str) -> harness.Figure | None:
    """Return what implicit says of the seconds of its own epochs, the first of them left out."""
    seconds: list[float] = []

    def ended(epoch: int, elapsed: float, *_: object) -> None:
        seconds.append(elapsed)

    if "callback" in inspect.signature(model.fit).parameters:
        model.fit(matrix, show_progress=False, callback=ended)
    else:
        model.fit_callback = ended
        model.fit(matrix, show_progress=False)
    return harness.Figure(name, seconds[1:]) if len(seconds) > 1 else None
