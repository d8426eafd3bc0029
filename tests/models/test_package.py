from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import recsys_fast as rf

_HEAVY = ("numba", "scipy", "pandas", "polars", "pyarrow", "tqdm", "matplotlib", "sklearn", "narwhals")
_LOADED = f"""
import sys, json
import recsys_fast as rf
first = [name for name in {_HEAVY!r} if name in sys.modules]
rf.ALS(4), rf.Popularity(), rf.EarlyStopping(), rf.evaluation, rf.ops, rf.Interactions, rf.splits, rf.datasets
print(json.dumps([first, [name for name in {_HEAVY!r} if name in sys.modules]]))
"""


def test_importing_loads_nothing_heavy() -> None:
    command, env = [sys.executable, "-c", _LOADED], {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert json.loads(done.stdout) == [[], []]


def test_every_public_name_is_there() -> None:
    for name in rf.__all__:
        assert getattr(rf, name) is not None
        assert name in dir(rf)
    assert rf.ALS is rf.models.ALS
    assert rf.splits is rf.data.splits
    with pytest.raises(AttributeError, match="BPMF"):
        _ = rf.BPMF
