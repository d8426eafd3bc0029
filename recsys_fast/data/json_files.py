"""JSON files of what encoders learned: written atomically, their size checked before they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from recsys_fast.errors import ModelFormatError, message
from recsys_fast.serialization import replacing

MAX_FILE = 1 << 30

T = TypeVar("T")


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``; readers see the old file or the whole new one.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(Path(os.path.realpath(path))) as file:
        file.write(json.dumps(content, allow_nan=False, indent=1).encode())


def read_json(path: str | os.PathLike[str], what: str, restore: Callable[[Any], T]) -> T:
    """Return what ``restore`` makes of the content of a file; nothing in it is executed.

    Args:
        path: the file.
        what: it should be, for the error text, such as "features".
        restore: raises ValueError, TypeError or AttributeError where the content is not of that kind.

    Raises:
        ModelFormatError: no such JSON, more than ``MAX_FILE`` bytes, or ``restore`` refused it.
        OSError: the file cannot be read.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MAX_FILE:
            raise ValueError(message("size", file.stat().st_size, f"at most {MAX_FILE} bytes"))
        return restore(json.loads(file.read_bytes()))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{os.fspath(path)} is no file of {what} ({error})"
        raise ModelFormatError(message(problem, mend="save it again")) from None
