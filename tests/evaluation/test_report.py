"""The report: a mapping, a table, plain values."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

import recsys_fast
from recsys_fast.evaluation import Report, evaluate
from tests.evaluation.problems import make


def report(**options: object) -> Report:
    problem = make(51, overlap=True)
    model = problem.queries, problem.items
    return evaluate(model, problem.train, problem.test, ("ndcg", "coverage", "auc"), (5, 10), **options)


def test_is_a_mapping() -> None:
    found = report()
    assert list(found) == ["ndcg@5", "ndcg@10", "coverage@5", "coverage@10", "auc"]
    assert len(found) == 5
    assert dict(found)["auc"] == found["auc"]
    assert isinstance(found["ndcg@5"], float)
    assert "ndcg@7" not in found
    with pytest.raises(KeyError, match=r"ndcg@7.*one of ndcg@5, ndcg@10"):
        found["ndcg@7"]
    with pytest.raises(KeyError, match="one of"):
        found.per_user("ndcg")
    with pytest.raises(ValueError, match="coverage@5 has no value per user"):
        found.per_user("coverage@5")


def test_values_per_user_belong_to_the_reader() -> None:
    found = report()
    found.per_user("auc")[:] = 7
    assert np.nanmax(found.per_user("auc")) <= 1


def test_plain_values_and_json() -> None:
    found = report()
    content = found.to_dict()
    assert content["metrics"] == dict(found)
    assert content["stderr"]["ndcg@5"] == found.stderr("ndcg@5")
    assert math.isnan(content["stderr"]["coverage@5"])
    assert content["version"] == recsys_fast.__version__
    assert (content["n_users"], content["n_users_without_test"]) == (39, 1)
    back = json.loads(found.to_json())
    assert back["metrics"] == content["metrics"]
    assert back["stderr"]["coverage@5"] is None
    assert back["protocol"] == content["protocol"]
    assert back["protocol"]["filter_seen"] is True
    assert back["protocol"]["ranking"] == "all items"


def test_is_a_table() -> None:
    found = report()
    lines = str(found).splitlines()
    assert lines[0].split() == ["metric", "value", "std.", "error"]
    assert len({len(line) for line in lines[:7]}) == 1
    assert lines[2].split() == ["ndcg@5", f"{found['ndcg@5']:.4f}", f"{found.stderr('ndcg@5'):.4f}"]
    assert lines[4].split()[-1] == "-"
    how = lines[-1]
    for part in ("39 users", "1 more without test items", "all 60 items ranked", "seen items left out", "were seen"):
        assert part in how
    assert repr(found).startswith("Report(ndcg@5=")


def test_sampling_and_seen_items_are_told() -> None:
    problem = make(52)
    found = evaluate((problem.queries, problem.items), problem.train, problem.test, negatives=7, seed=4)
    assert "7 negatives per user, drawn with seed 4" in str(found)
    assert found.protocol["n_negatives"] == 7
    kept = evaluate((problem.queries, problem.items), problem.train, problem.test, filter_seen=False)
    assert "seen items kept" in str(kept)


def test_rating_metrics_alone_rank_nothing() -> None:
    problem = make(52)
    model = (problem.queries, problem.items)
    found = evaluate(model, problem.train, problem.test, ("rmse", "mae"))
    how = str(found).splitlines()[-1]
    assert found.protocol["ranking"] is None
    assert "ratings predicted" in how
    assert "rank" not in how
    assert "seen" not in how
    both = evaluate(model, problem.train, problem.test, ("rmse", "ndcg@5"))
    assert "all 60 items ranked" in str(both)


def test_survives_pickling() -> None:
    found = report(users=[5, 3])
    copy = pickle.loads(pickle.dumps(found))
    assert dict(copy) == dict(found)
    np.testing.assert_array_equal(copy.per_user("auc"), found.per_user("auc"))


def test_one_user_has_no_standard_error() -> None:
    found = report(users=[5])
    assert math.isnan(found.stderr("ndcg@5"))
    assert found["ndcg@5"] == found.per_user("ndcg@5")[0]
