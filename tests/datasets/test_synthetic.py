"""Synthetic data: exact sizes, the same from a seed wherever they go, and an oracle that means something."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.datasets import Dataset, load_synthetic, planted, synthetic
from recsys_fast.datasets.oracle import Lists, ranking_scores

ARRAYS = ("row_ptr", "col_idx")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(1_500, 800, 60_000, random_state=3)


def dense(data: Dataset, part: str) -> np.ndarray:
    matrix = getattr(data, part)
    out = np.zeros(matrix.shape, bool)
    out[matrix.rows(), matrix.col_idx] = True
    return out


def same(one: Dataset, other: Dataset) -> bool:
    parts = [(getattr(one, part), getattr(other, part)) for part in ("train", "test")]
    matrices = all(np.array_equal(getattr(a, name), getattr(b, name)) for a, b in parts for name in ARRAYS)
    factors = all(np.array_equal(one.extras[name], other.extras[name]) for name in ("user_factors", "item_factors"))
    return matrices and factors and one.extras["oracle"] == other.extras["oracle"]


def test_sizes_are_exact_and_the_parts_disjoint(data: Dataset) -> None:
    assert data.train is not None
    assert data.test is not None
    assert data.train.shape == data.test.shape == (1_500, 800)
    assert len(data.train) + len(data.test) == 60_000
    assert not (dense(data, "train") & dense(data, "test")).any()
    for matrix in (data.train, data.test):
        rows = matrix.rows()
        assert (np.diff(matrix.col_idx)[rows[1:] == rows[:-1]] > 0).all()  # sorted, no item twice
    counts = data.train.user_counts + data.test.user_counts
    assert np.array_equal(data.test.user_counts, np.floor(counts * 0.2 + 0.5))
    assert data.extras["user_factors"].shape == (1_500, 8)
    assert np.allclose(data.extras["user_factors"].sum(axis=1), 1, atol=1e-5)
    assert np.allclose(data.extras["item_factors"].sum(axis=0), 1, atol=1e-5)


@given(
    n_users=st.integers(1, 40),
    n_items=st.integers(1, 40),
    share=st.floats(0, 1),
    rank=st.integers(1, 5),
    exponent=st.floats(0, 3),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_any_size_works(
    n_users: int, n_items: int, share: float, rank: int, exponent: float, fraction: float, seed: int
) -> None:
    most = n_users * max(1, n_items // 2)
    n = max(1, round(share * most))
    made = synthetic(
        n_users, n_items, n, rank=rank, user_exponent=exponent, item_exponent=exponent, test_fraction=fraction,
        ks=(1, 50), random_state=seed,
    )  # fmt: skip
    assert made.train is not None
    assert made.test is not None
    together = dense(made, "train").astype(int) + dense(made, "test")
    assert together.max() == 1
    assert together.sum() == len(made.train) + len(made.test) == n
    assert together.sum(axis=1).max() <= max(1, n_items // 2)
    assert (made.train.user_counts[made.test.user_counts > 0] > 0).all()


@given(st.integers(1, 300), st.integers(1, 60), st.floats(0, 1), st.floats(0, 4), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_activity_adds_up_under_any_cap(n: int, cap: int, share: float, exponent: float, seed: int) -> None:
    total = max(1, int(share * n * cap))
    weights = planted._power_law(n, exponent, np.random.default_rng(seed))
    counts = planted._split_total(total, weights, cap)
    assert counts.sum() == total
    assert counts.min() >= min(5, total // (2 * n))
    assert counts.max() <= cap


def test_the_seed_decides_everything(data: Dataset) -> None:
    assert same(data, synthetic(1_500, 800, 60_000, random_state=3))
    assert not same(data, synthetic(1_500, 800, 60_000, random_state=4))


def test_activity_and_popularity_follow_power_laws() -> None:
    made = synthetic(20_000, 2_000, 200_000, concentration=50.0, test_fraction=0, random_state=0)
    assert made.train is not None
    law = np.arange(10, 2_010) ** -0.8
    observed = np.sort(made.train.item_counts)[::-1] / len(made.train)
    # An item comes to a user once only, so the head is a little flatter than the law; the tail a little heavier.
    assert np.abs(observed / (law / law.sum()) - 1)[:1_000].max() < 0.2
    activity = np.sort(made.train.user_counts)[::-1] - 5  # everybody has 5 before the law begins
    law = np.arange(10, 20_010) ** -0.7
    assert np.abs(activity - law / law.sum() * 100_000).max() < 1 + 1e-6
    flat = synthetic(4_000, 2_000, 200_000, user_exponent=0, item_exponent=0, random_state=0)
    assert flat.train is not None
    assert np.ptp(flat.train.user_counts) <= 1


@pytest.mark.parametrize("way", ["together", "row by row"])
def test_items_are_drawn_by_preference_without_replacement(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Inclusion frequencies of successive sampling, against the exact probabilities of all ordered pairs."""
    monkeypatch.setattr(planted, "_DENSE", 1 if way == "together" else 10**9)
    monkeypatch.setattr(planted, "_ROUNDS", 32)
    factors = np.array([[0.5, 0.1], [0.3, 0.1], [0.1, 0.1], [0.06, 0.2], [0.04, 0.5]], np.float32)
    taste = np.array([0.75, 0.25], np.float32)
    p = (factors @ taste).astype(float)
    n, drawn = 40_000, 2
    expected = np.array([p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(5) if j != i) for i in range(5)])
    sampler = planted._Sampler(factors)
    owner, item = sampler.draw(np.tile(taste, (n, 1)), np.full(n, drawn), np.random.default_rng(0))
    assert np.array_equal(np.bincount(owner), np.full(n, drawn))
    frequency = np.bincount(item, minlength=5) / n
    assert np.abs(frequency - expected).max() < 5 * math.sqrt(0.25 / n)


def test_many_repeats_are_finished_by_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose taste is one item must still get distinct items, with the same distribution."""
    monkeypatch.setattr(planted, "_ROUNDS", 1)
    monkeypatch.setattr(planted, "_DENSE", 1)
    factors = np.array([[0.9], [0.06], [0.03], [0.01]], np.float32)
    n = 20_000
    owner, item = planted._Sampler(factors).draw(np.ones((n, 1), np.float32), np.full(n, 2), np.random.default_rng(1))
    assert np.array_equal(np.unique(owner * 4 + item), owner * 4 + item)
    p = factors[:, 0].astype(float)
    expected = np.array([p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(4) if j != i) for i in range(4)])
    assert np.abs(np.bincount(item, minlength=4) / n - expected).max() < 5 * math.sqrt(0.25 / n)


def plain_scores(ranking: np.ndarray, relevant: np.ndarray, k: int) -> tuple[float, float]:
    hits = [item in set(relevant.tolist()) for item in ranking[:k].tolist()]
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
    return sum(hits) / len(relevant), gain / ideal


def test_the_oracle_is_the_score_of_the_true_preferences(data: Dataset) -> None:
    scores = data.extras["user_factors"].astype(float) @ data.extras["item_factors"].astype(float).T
    scores[dense(data, "train")] = -np.inf
    test = dense(data, "test")
    users = data.extras["oracle_users"]
    assert len(users) == 1_500 == len(np.unique(users))
    each = [plain_scores(np.argsort(-scores[u], kind="stable"), np.flatnonzero(test[u]), 20) for u in users]
    recall, ndcg = np.array(each).T
    assert data.extras["oracle"]["recall@20"] == pytest.approx(recall.mean(), abs=1e-9)
    assert data.extras["oracle"]["ndcg@20"] == pytest.approx(ndcg.mean(), abs=1e-9)
    assert data.extras["oracle_stderr"]["ndcg@20"] == pytest.approx(ndcg.std(ddof=1) / math.sqrt(len(users)), abs=1e-9)


def test_ranking_scores_with_ties_and_deep_cuts() -> None:
    train, test = Lists(np.array([0, 1]), np.array([0])), Lists(np.array([0, 2]), np.array([1, 3]))
    found = ranking_scores(np.ones((1, 1)), np.array([[9.0], [1], [2], [1]]), np.array([0]), train, test, (1, 2, 10))
    # Item 0 is left out, then 2, then the tie of 1 and 3 by id.
    assert found["recall@1"].tolist() == [0]
    assert found["recall@2"].tolist() == [0.5]
    assert found["recall@10"].tolist() == [1]
    gain, ideal = 1 / math.log2(3) + 1 / math.log2(4), 1 + 1 / math.log2(3)
    assert found["ndcg@10"][0] == pytest.approx(gain / ideal)


def test_the_oracle_beats_popularity_by_far(data: Dataset) -> None:
    for metric in ("recall@20", "ndcg@20"):
        margin = data.extras["oracle"][metric] - data.extras["popularity"][metric]
        assert margin > 0.3 * data.extras["oracle"][metric]
        assert margin > 10 * data.extras["oracle_stderr"][metric]


def test_a_factor_model_approaches_the_oracle_and_does_not_pass_it(data: Dataset) -> None:
    """Maximum likelihood of the generative model's form (probabilistic latent semantic analysis) by EM."""
    train = dense(data, "train").astype(float)
    rng = np.random.default_rng(0)
    users, items = rng.random((1_500, 8)) + 0.5, rng.random((800, 8)) + 0.5
    items /= items.sum(axis=0)
    for _ in range(80):
        ratio = train / np.maximum(users @ items.T, 1e-12)
        users, items = users * (ratio @ items), items * (ratio.T @ users)
        items /= np.maximum(items.sum(axis=0), 1e-12)
    matrices = [Lists(matrix.row_ptr, matrix.col_idx) for matrix in (data.train, data.test) if matrix is not None]
    found = ranking_scores(users, items, data.extras["oracle_users"], *matrices, (20,))
    oracle, spread = data.extras["oracle"]["ndcg@20"], data.extras["oracle_stderr"]["ndcg@20"]
    assert 0.8 * oracle < found["ndcg@20"].mean() < oracle + 2 * spread


def test_on_disk_it_is_the_same_and_stays_there(data: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "set"
    written = synthetic(1_500, 800, 60_000, random_state=3, out=folder)
    assert same(data, written)
    assert written.source == str(folder)
    again = load_synthetic(folder)
    assert same(data, again)
    assert again.extras["popularity"] == data.extras["popularity"]
    assert np.array_equal(again.extras["oracle_users"], data.extras["oracle_users"])
    assert again.train is not None
    assert isinstance(again.train.col_idx.base, np.memmap)
    assert np.array_equal(np.load(folder / "train_col_idx.npy"), again.train.col_idx)
    assert again.train.csr.sum() == len(again.train)


def test_several_blocks_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "_BLOCK", 999)
    made = synthetic(300, 200, 9_000, random_state=1)
    assert made.train is not None
    assert made.test is not None
    assert (dense(made, "train") | dense(made, "test")).sum() == 9_000
    assert made.extras["oracle"]["recall@20"] > made.extras["popularity"]["recall@20"]


def test_an_empty_test_part_can_be_written_and_read(tmp_path: Path) -> None:
    made = synthetic(20, 10, 50, test_fraction=0, out=tmp_path)
    assert made.test is not None
    assert made.train is not None
    assert (len(made.train), len(made.test)) == (50, 0)
    assert math.isnan(made.extras["oracle"]["recall@20"])


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"out: got .*, which is not an empty folder"):
        synthetic(20, 10, 50, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def _spoil(folder: Path, what: str) -> None:
    if what == "header":
        (folder / "synthetic.json").write_text("{")
    elif what == "format":
        header = json.loads((folder / "synthetic.json").read_text())
        (folder / "synthetic.json").write_text(json.dumps({**header, "format": 99}))
    elif what == "item":
        np.save(folder / "train_col_idx.npy", np.full(len(np.load(folder / "train_col_idx.npy")), 10, np.int32))
    elif what == "order":
        np.save(folder / "train_col_idx.npy", np.load(folder / "train_col_idx.npy")[::-1].copy())
    elif what == "rows":
        np.save(folder / "train_row_ptr.npy", np.load(folder / "train_row_ptr.npy")[:-1])
    elif what == "dtype":
        np.save(folder / "test_col_idx.npy", np.load(folder / "test_col_idx.npy").astype(np.int64))
    elif what == "objects":
        np.save(folder / "item_factors.npy", np.array([None]), allow_pickle=True)
    elif what == "cut off":
        content = (folder / "train_col_idx.npy").read_bytes()
        (folder / "train_col_idx.npy").write_bytes(content[:-8])
    elif what == "gone":
        (folder / "train_col_idx.npy").unlink()
    elif what == "empty":
        (folder / "train_col_idx.npy").write_bytes(b"")


@pytest.mark.parametrize(
    "what", ["header", "format", "item", "order", "rows", "dtype", "objects", "cut off", "gone", "empty"]
)
def test_a_damaged_folder_is_refused(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "set"
    synthetic(20, 10, 50, out=folder)
    _spoil(folder, what)
    with pytest.raises(ValueError, match=r"set is damaged \(.*\)\. Make it again"):
        load_synthetic(folder)


def test_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="unfinished"):
        load_synthetic(tmp_path)


@pytest.mark.parametrize(
    ("changed", "error", "expected"),
    [
        ({"n_users": 0}, ValueError, "n_users: got 0, expected 1 or more"),
        ({"n_items": -3}, ValueError, "n_items: got -3"),
        ({"n_users": 2**31}, ValueError, "n_users: got 2147483648, expected at most"),
        ({"n_interactions": 101}, ValueError, "n_interactions: got 101, expected at most 100, half of all cells"),
        ({"n_interactions": 50.0}, TypeError, "n_interactions: got float, expected an integer"),
        ({"rank": 0}, ValueError, "rank: got 0"),
        ({"concentration": 0.0}, ValueError, "concentration: got 0.0, expected a number above 0"),
        ({"concentration": math.nan}, ValueError, "concentration: got nan"),
        ({"user_exponent": -1.0}, ValueError, "user_exponent: got -1.0"),
        ({"item_exponent": math.inf}, ValueError, "item_exponent: got inf"),
        ({"test_fraction": 1.0}, ValueError, "test_fraction: got 1.0, expected 0 <= share < 1"),
        ({"ks": ()}, ValueError, "ks: got no cut"),
        ({"ks": (0,)}, ValueError, "ks: got 0"),
        ({"oracle_users": 0}, ValueError, "oracle_users: got 0"),
        ({"random_state": -1}, ValueError, "random_state: got -1"),
        ({"random_state": "a"}, TypeError, "random_state: got str"),
    ],
)
def test_bad_arguments(tmp_path: Path, changed: dict[str, Any], error: type[Exception], expected: str) -> None:
    sizes = {"n_users": 20, "n_items": 10, "n_interactions": 50}
    with pytest.raises(error, match=expected):
        synthetic(**{**sizes, **changed}, out=tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_progress_bar_counts_interactions(capsys: pytest.CaptureFixture[str]) -> None:
    synthetic(20, 10, 50, progress=True)
    assert "50.0/50.0" in capsys.readouterr().err
    synthetic(20, 10, 50)
    assert capsys.readouterr().err == ""
