"""Fetching an archive from the data set's own home."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from recsys_fast.datasets.locate import cache_dir
from recsys_fast.datasets.registry import Download
from recsys_fast.errors import message


def _downloader(url: str, progress: bool) -> Any:
    """Return the function that pooch calls as ``f(url, output_file, pooch)``."""
    import pooch

    return pooch.downloaders.choose_downloader(url, progressbar=progress)


def fetch(download: Download, *, progress: bool | None = None) -> Path:
    """Fetch an archive into the cache folder and return its path; a file that is there already is checked and kept.

    Args:
        download: what to fetch.
        progress: show a progress bar; None shows one where standard error is a terminal.

    Raises:
        ModuleNotFoundError: pooch is not installed.
        ConnectionError: the home cannot be reached.
        ValueError: what came is not what the checksum says.
    """
    try:
        import pooch
    except ModuleNotFoundError as error:
        mend = f'run pip install "recsys_fast[data]", or put {download.url} into {cache_dir()} yourself'
        raise ModuleNotFoundError(message("downloading needs the package pooch", mend=mend), name="pooch") from error
    show = sys.stderr.isatty() if progress is None else progress
    try:
        path = pooch.retrieve(
            download.url,
            known_hash=download.checksum,
            fname=download.file,
            path=cache_dir(),
            downloader=_downloader(download.url, show),
        )
    except ValueError as error:
        what = f"{download.url} is not the file it should be ({error})"
        raise ValueError(message(what, mend="try again; if it stays so, the owner has replaced the file")) from error
    except OSError as error:  # requests' errors are OSErrors
        mend = f"check the network, or put the file into {cache_dir()} yourself"
        raise ConnectionError(message(f"cannot fetch {download.url} ({error})", mend=mend)) from error
    return Path(path)
