"""What the user sees while something takes long: a tqdm line after a second, and only on a terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

_DELAY = 1.0  # seconds before a line appears
_EVERY = 0.2  # seconds between updates


def visible(quiet: bool) -> bool:
    """Return whether progress may be shown."""
    return not quiet and sys.stderr.isatty()


def note(text: str, quiet: bool) -> None:
    """Write a line to standard error, unless quiet."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def working(what: str, quiet: bool) -> Iterator[None]:
    """Show ``what`` and a running clock as long as the block runs, once that is longer than a second."""
    if not visible(quiet):
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(what, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(what: str, done: threading.Event) -> None:
    if done.wait(_DELAY):
        return
    from tqdm import tqdm

    with tqdm(desc=what, bar_format="{desc}  {elapsed}", leave=False, file=sys.stderr) as bar:
        while not done.wait(_EVERY):
            bar.refresh()
