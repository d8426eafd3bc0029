"""What is installed, and a fresh interpreter to look at it from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import recsys_fast
from recsys_fast import backend


def native_files() -> list[Path]:
    """Return the compiled files of the package under test, wherever its modules lie."""
    places = list(recsys_fast.__path__)
    module, _ = backend._native()
    if module is not None and module.__file__:
        places.append(str(Path(module.__file__).parent))
    return sorted({file for place in places for file in Path(place).glob("*.so")})


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter; an empty value unsets a variable."""
    full = {**os.environ, **env}
    full = {name: value for name, value in full.items() if value or name not in env}
    return subprocess.run([sys.executable, "-c", code], env=full, capture_output=True, text=True, timeout=240)
