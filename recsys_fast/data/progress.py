"""A bar for reading files that take longer than a second, on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

_DELAY = 1.0  # seconds before a bar appears
_EVERY = 0.1  # seconds between updates


@contextlib.contextmanager
def reading(name: str, total: int | None, unit: str, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """Show how far a file is read, once that takes more than a second; nothing stays on the screen.

    Args:
        name: of the file.
        total: its length in ``unit``, None where nobody knows.
        unit: such as "B".
        progress: whether to show it; None where standard error is a terminal.

    Yields:
        A function to call with the place that has been reached.
    """
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda place: None
        return
    from tqdm import tqdm

    look = {"desc": f"reading {name}", "unit": unit, "unit_scale": True, "leave": False}
    with tqdm(total=total, file=sys.stderr, delay=_DELAY, mininterval=_EVERY, **look) as bar:
        yield lambda place: _advance(bar, place, total)


def _advance(bar: object, place: int, total: int | None) -> None:
    reached = place if total is None else min(place, total)
    bar.update(reached - bar.n)  # type: ignore[attr-defined]
