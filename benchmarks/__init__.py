"""Speed and quality beside other libraries; run from the root as ``python -m benchmarks.models.bench_als``."""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

# "python -m" puts the source tree first, which holds no compiled extension: what is installed is to be measured.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _ROOT] + [str(_ROOT)]

# Child processes measure the same package.
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
