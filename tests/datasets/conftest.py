"""A data folder of its own for every test that writes files."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that RECSYS_FAST_DATA names; the cache is an empty folder beside it."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("RECSYS_FAST_DATA", str(data))
    monkeypatch.setenv("RECSYS_FAST_CACHE", str(tmp_path / "cache"))
    return data
