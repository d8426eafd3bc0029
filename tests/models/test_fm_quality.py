"""FM and FFM on real data: near the figures of docs/models/fm.md, with fewer epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.models import evaluate_rows
from recsys_fast.ops import Csr


def ids_to_rows(ids: Any, n_features: int) -> Csr:
    """Return one-hot rows, given the columns of each."""
    n, width = ids.shape
    return Csr(np.arange(n + 1) * width, np.ascontiguousarray(ids, np.int32).ravel(), None, n, n_features)


def test_frappe(data_dir: Path) -> None:
    if not (data_dir / "frappe_fm.npz").exists():
        pytest.skip("no frappe_fm.npz")
    extras = rf.datasets.load("frappe").extras
    n = extras["n_features"]
    fields = np.searchsorted(extras["field_base"], np.arange(n), side="right") - 1
    train, test = ((ids_to_rows(extras[f"X_{part}"], n), extras[f"y_{part}"]) for part in ("train", "test"))
    plain = rf.FM(10, regularization=0.001, n_epochs=16, random_state=0).fit(*train)
    found = evaluate_rows(plain, *test)
    assert found["log_loss"] < 0.195
    assert found["auc"] > 0.971
    aware = rf.FFM(8, learning_rate=0.2, regularization=0.004, n_epochs=5, random_state=0).fit(*train, fields=fields)
    found = evaluate_rows(aware, *test)
    assert found["log_loss"] < 0.155
    assert found["auc"] > 0.978


def test_ml_100k_with_side_features(data_dir: Path) -> None:
    if not all((data_dir / name).exists() for name in ("ml100k_ratings.npz", "ml100k_user.csv", "ml100k_item.csv")):
        pytest.skip("no ml-100k with its side tables")
    data = rf.datasets.load("ml-100k")
    matrix = data.interactions.csr.tocoo()
    columns, start = [matrix.row, matrix.shape[0] + matrix.col], sum(matrix.shape)
    tables = (
        ("user_table", "occupation", matrix.row),
        ("user_table", "age", matrix.row),
        ("item_table", "genres", matrix.col),
    )
    for table, name, rows in tables:
        names, place = np.unique(data.extras[table][name].astype(str), return_inverse=True)
        columns.append(start + place[rows])
        start += len(names)
    x = sp.csr_array(
        (np.ones(5 * len(matrix.row), np.float32), np.stack(columns, 1).ravel(), np.arange(len(matrix.row) + 1) * 5),
        shape=(len(matrix.row), start),
    )
    test = np.random.default_rng(0).permutation(x.shape[0]) % 5 == 0
    errors = {}
    for solver, how in {
        "adagrad": {"learning_rate": 0.05, "regularization": 0.08, "linear_regularization": 0.01, "n_epochs": 12},
        "als": {"regularization": 0.13, "linear_regularization": 0.03, "n_epochs": 8},
    }.items():
        model = rf.FM(16, loss="squared", solver=solver, batch_size=64, random_state=0, **how)  # type: ignore[arg-type]
        model.fit(x[~test], matrix.data[~test])
        errors[solver] = evaluate_rows(model, x[test], matrix.data[test], ["rmse"])["rmse"]
    assert errors["adagrad"] < 0.915
    assert errors["als"] < 0.915
