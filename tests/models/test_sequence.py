"""What every model of what comes next does, whatever its network."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import NotFittedError, NotSupportedError
from tests.models.cases import SEQUENCE_MODELS, ratings, same_state, sequences

Make = Callable[..., Any]


def close(left: Any, right: Any) -> None:
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_recommendations_are_the_best_eligible_items(make_sequence: Make) -> None:
    data = sequences()
    model = make_sequence().fit(data)
    everything = set(range(20))
    for choice in ({}, {"filter_seen": False}, {"exclude": [3, 4, 3]}, {"include": [1, 2, 5, 7]}):
        ids, scores = model.recommend([0, 7, 7, 29], n=6, **choice)
        assert (ids.dtype, scores.dtype, ids.shape, scores.shape) == (np.int32, np.float32, (4, 6), (4, 6))
        for row, user in enumerate([0, 7, 7, 29]):
            allowed = everything - set(choice.get("exclude", ()))
            allowed &= set(choice.get("include", everything))
            if choice.get("filter_seen", True):
                allowed -= set(data[user].tolist())
            own = np.append(model.score(user), -np.inf)
            best = sorted(allowed, key=lambda item: (-float(own[item]), item))
            best = (best + [-1] * 6)[:6]
            assert [i == -1 for i in ids[row]] == [i == -1 for i in best]
            close(own[ids[row]], own[best])
            close(scores[row], own[ids[row]])
    one = model.recommend(3, n=4)
    assert one.ids.shape == (4,)
    np.testing.assert_array_equal(model.recommend([3], n=4).ids[0], one.ids)
    assert model.recommend([], n=4).ids.shape == (0, 4)
    assert model.recommend(n=25).ids.shape == (30, 25)


def test_raw_histories_in_every_form(make_sequence: Make) -> None:
    model = make_sequence().fit(sequences())
    lists = [[12, 7, 19], [3], [], [5, 5, 1, 2, 3, 4, 6, 7, 8]]
    ids, scores = model.recommend(lists, n=10)
    assert ids.shape == (4, 10)
    for row, own in zip(ids, lists, strict=True):
        assert not set(row.tolist()) & set(own)
    forms = (
        [np.array(one, np.int64) for one in lists],
        tuple(map(tuple, lists)),
        rf.Sequences(lists, n_items=20),
    )
    for form in forms:
        np.testing.assert_array_equal(model.recommend(form, n=10).ids, ids)
        close(model.recommend(form, n=10).scores, scores)
    some = model.recommend([3, 1], lists, n=10)
    np.testing.assert_array_equal(some.ids, ids[[3, 1]])
    np.testing.assert_array_equal(model.recommend(3, lists, n=10).ids, ids[3])
    np.testing.assert_array_equal(
        model.recommend(np.array([[1, 2], [3, 4]])).ids, model.recommend([[1, 2], [3, 4]]).ids
    )
    queries = model.encode(lists)
    close(np.take_along_axis(queries @ model.item_factors_.T, ids.astype(np.int64), 1), scores)
    np.testing.assert_array_equal(model.fold_in(lists), queries)
    assert queries.dtype == np.float32
    timed = rf.Interactions.from_coo([0, 0, 1], [4, 2, 9], timestamps=[7, 3, 1], shape=(2, 20))
    close(model.encode(timed), model.encode([[2, 4], [9]]))


def test_only_the_most_recent_items_count(make_sequence: Make) -> None:
    model = make_sequence().fit(sequences())
    long = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    close(model.encode([long]), model.encode([long[-model.max_len :]]))
    assert not np.allclose(model.encode([long]), model.encode([long[:-1]]))


def test_batches_of_histories_do_not_mix(make_sequence: Make) -> None:
    model, data = make_sequence().fit(sequences()), sequences(seed=4)
    together = model.encode(data)
    for user in (0, 3, 15, 29):
        close(together[[user]], model.encode([data[user]]))


@pytest.mark.parametrize("bad", [[[1, 20]], [[-1]], [[1.5]], [["a"]], [[True, False]], "12", {"a": [1]}, [[1], 2]])
def test_bad_histories_are_refused(make_sequence: Make, bad: Any) -> None:
    model = make_sequence(n_epochs=1).fit(sequences())
    with pytest.raises((TypeError, ValueError)):
        model.recommend(user_items=bad)
    with pytest.raises((TypeError, ValueError)):
        model.encode(bad)


def test_a_matrix_has_no_order(make_sequence: Make) -> None:
    model = make_sequence()
    for call in (model.fit, model.partial_fit, model.estimate_memory):
        with pytest.raises(TypeError, match=r"user_items.*rf.Sequences"):
            call(ratings())
        with pytest.raises(ValueError, match="timestamps"):
            call(rf.Interactions(ratings()))
    model.fit(sequences())
    with pytest.raises(TypeError, match=r"rf.Sequences"):
        model.recommend(user_items=ratings())


def test_interactions_with_timestamps_are_sequences(make_sequence: Make) -> None:
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(600)[:200], 20)
    data = rf.Interactions.from_coo(users, items, timestamps=rng.integers(0, 50, 200), shape=(30, 20))
    model = make_sequence().fit(data)
    assert same_state(model, make_sequence().fit(rf.Sequences.from_interactions(data)))
    assert model.training_matrix_.shape == model.training_sequences_.shape == (30, 20)


def test_scores_pairs_and_tables_agree(make_sequence: Make) -> None:
    model = make_sequence().fit(sequences())
    scores = model.score([1, 2, 3])
    assert (scores.dtype, scores.shape) == (np.float32, (3, 20))
    close(model.predict([1, 2, 3], [5, 6, 7]), scores[[0, 1, 2], [5, 6, 7]])
    assert isinstance(model.predict(1, 5), float)
    queries, items = model._scoring()
    close((queries @ items.T)[[1, 2, 3]], scores)
    everybody = np.arange(model.training_sequences_.n_users)
    close(model.encode(model.training_sequences_, everybody), queries)
    ids, _ = model.similar_items([3, 5], n=30)
    assert set(ids[0][ids[0] >= 0]) == set(range(20)) - {3}
    assert model.similar_users(0, n=3).ids.shape == (3,)


def test_user_event_by_event(make_sequence: Make) -> None:
    model = make_sequence().fit(sequences())
    events = [12, 7, 19, 7, 3, 1, 0, 15, 12]
    state = model.start(events[:2])
    for n in range(2, len(events) + 1):
        expected = model.recommend([events[:n]], n=10)
        found = model.recommend_from(state, n=10)
        np.testing.assert_array_equal(found.ids, expected.ids[0])
        close(found.scores, expected.scores[0])
        if n < len(events):
            assert model.update(state, events[n]) is state
    assert state.items == events
    fresh = model.start()
    np.testing.assert_array_equal(model.recommend_from(fresh).ids, model.recommend([[]]).ids[0])
    model.update(fresh, np.int64(4))
    close(model.recommend_from(fresh).scores, model.recommend([[4]]).scores[0])
    assert model.recommend_from(fresh, n=3, include=[4, 5]).ids.tolist() == [5, -1, -1]
    assert 4 in model.recommend_from(fresh, n=20, filter_seen=False).ids
    for bad, error in ((20, IndexError), (-1, IndexError), (1.5, TypeError), ("3", TypeError)):
        with pytest.raises(error, match="item"):
            model.update(fresh, bad)
    with pytest.raises(IndexError, match="20"):
        model.start([3, 20])
    assert fresh.items == [4]


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_do_not_matter(make_sequence: Make, n_threads: int) -> None:
    data = sequences(150, 40, 12)
    model = make_sequence(n_threads=n_threads, batch_size=64).fit(data)
    assert same_state(model, make_sequence(n_threads=3, batch_size=64).fit(data))


def test_seeds(make_sequence: Make) -> None:
    first, other = make_sequence().fit(sequences()), make_sequence(random_state=1).fit(sequences())
    assert not np.array_equal(first.item_factors_, other.item_factors_)
    assert same_state(first, make_sequence().fit(sequences()))
    drawn = make_sequence(random_state=None).fit(sequences())
    assert same_state(drawn, make_sequence(random_state=drawn.seed_).fit(sequences()))
    seeded = make_sequence(random_state=2**64 - 1).fit(sequences())
    assert seeded.seed_ == 2**64 - 1


def test_what_comes_back_is_what_was_saved(make_sequence: Make, tmp_path: Path, device: str) -> None:
    path, model = tmp_path / "x", make_sequence(n_threads=2).fit(sequences())
    model.save(path)
    for loaded in (rf.load(path, device=device), type(model).load(path, device=device)):
        assert same_state(loaded, model)
        assert loaded.get_params() == {**model.get_params(), "n_threads": None}
        np.testing.assert_array_equal(loaded.recommend(n=5).scores, model.recommend(n=5).scores)
        assert same_state(loaded.partial_fit(sequences()), copy.deepcopy(model).partial_fit(sequences()))


def test_copies_and_pickles_are_independent(make_sequence: Make) -> None:
    model = make_sequence().fit(sequences())
    model.recommend(0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same_state(model, twin)
        np.testing.assert_array_equal(twin.recommend(n=5).ids, model.recommend(n=5).ids)
        before = model.score(2).copy()
        twin.partial_fit(sequences())
        np.testing.assert_array_equal(model.score(2), before)
        twin.fit(sequences(10, 9))
        np.testing.assert_array_equal(model.score(2), before)


def test_a_state_can_be_put_back(make_sequence: Make) -> None:
    model = make_sequence().fit(sequences())
    kept, before = model.copy_state(), model.score(3).copy()
    model.partial_fit(sequences())
    assert not np.array_equal(model.score(3), before)
    model.restore_state(kept)
    np.testing.assert_array_equal(model.score(3), before)
    assert model.n_epochs_ == 2


def test_partial_fit(make_sequence: Make) -> None:
    data = sequences()
    model = make_sequence().partial_fit(data)
    assert model.n_epochs_ == 1
    model.partial_fit(data, n_epochs=2)
    assert model.n_epochs_ == 3
    whole = make_sequence(n_epochs=3).fit(data)
    close(model.score(3), whole.score(3))
    weights = model.item_factors_.copy()
    model.partial_fit(rf.Sequences([[1, 2], [3, 4, 3]], n_items=20), users=[7, 2])
    np.testing.assert_array_equal(model.item_factors_, weights)
    assert model.training_sequences_[7].tolist() == [1, 2]
    close(model.score(2), (model.encode([[3, 4, 3]]) @ model.item_factors_.T)[0])
    assert not set(model.recommend(2, n=20).ids.tolist()) & {3, 4}
    before = model.training_sequences_
    wrong: list[tuple[Any, Any, type[Exception]]] = [
        (sequences(5, 20), {}, ValueError),
        (sequences(2, 20), {"users": [1, 1]}, ValueError),
        (sequences(2, 20), {"users": [1, 30]}, IndexError),
        (sequences(2, 19), {"users": [1, 2]}, ValueError),
        (sequences(30, 1), {"items": [1]}, NotSupportedError),
    ]
    for given, how, error in wrong:
        with pytest.raises(error):
            model.partial_fit(given, **how)
    assert model.training_sequences_ is before


def test_replaced_sequences_keep_their_times() -> None:
    data = rf.Sequences([[1, 2], [], [3, 4, 5], [0]], n_items=20, timestamps=[[5, 6], [], [1, 2, 3], [9]])
    model = rf.GRU4Rec(8, n_epochs=1).fit(data)
    new = rf.Sequences([[7, 8, 9], [], [6]], n_items=20, timestamps=[[10, 11, 12], [], [13]])
    model.partial_fit(new, users=[3, 0, 1])
    found = model.training_sequences_
    assert [row.tolist() for row in found] == [[], [6], [3, 4, 5], [7, 8, 9]]
    assert found.timestamps is not None
    assert found.timestamps.tolist() == [13, 1, 2, 3, 10, 11, 12]
    model.partial_fit(rf.Sequences([[2]], n_items=20), users=[2])
    assert model.training_sequences_.timestamps is None
    assert [row.tolist() for row in model.training_sequences_] == [[], [6], [2], [7, 8, 9]]
    model.partial_fit(rf.Sequences([], n_items=20), users=[])
    assert len(model.training_sequences_) == 4


def test_room_for_new_users_and_items(make_sequence: Make) -> None:
    model, history = make_sequence().fit(sequences()), [[1, 2, 3], [4]]
    before = model.encode(history) @ model.item_factors_.T
    model.resize(33, 26)
    assert model.training_sequences_.shape == (33, 26)
    close((model.encode(history) @ model.item_factors_.T)[:, :20], before)
    model.partial_fit(rf.Sequences([[20, 25, 3], [21]], n_items=26), users=[31, 32])
    assert model.recommend(31, n=26).ids.tolist().count(-1) == 3
    model.partial_fit(sequences(33, 26))
    assert np.isfinite(model.score(32)).all()
    twin = make_sequence().fit(sequences()).resize(33, 26)
    assert np.array_equal(twin.item_factors_, make_sequence().fit(sequences()).resize(33, 26).item_factors_)
    with pytest.raises(ValueError, match="n_items"):
        model.resize(n_items=3)


SMALL: dict[str, Any] = {
    "nobody": ([], 5),
    "no items": ([[], []], 0),
    "no events": ([[], [], []], 4),
    "single events": ([[1], [0], []], 3),
    "one item": ([[0, 0, 0], [0]], 1),
    "one user": ([[1, 2, 3]], 6),
    "longer than max_len": ([list(range(20)) * 3, [1, 2]], 20),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", SMALL)
def test_small_and_empty_data(make_sequence: Make, case: str, tmp_path: Path) -> None:
    lists, n_items = SMALL[case]
    model = make_sequence().fit(rf.Sequences(lists, n_items=n_items))
    ids, scores = model.recommend(n=n_items + 2)
    assert ids.shape == (len(lists), n_items + 2)
    assert not np.isnan(scores).any()
    for own, row in zip(lists, ids, strict=True):
        assert set(row[row >= 0].tolist()) == set(range(n_items)) - set(own)
    model.save(tmp_path / "x")
    np.testing.assert_array_equal(rf.load(tmp_path / "x").recommend(n=4).ids, model.recommend(n=4).ids)


def test_refit_on_other_data_starts_afresh(make_sequence: Make) -> None:
    model = make_sequence().fit(sequences(40, 12))
    model.recommend(39)
    model.fit(sequences(20, 25, seed=3))
    assert same_state(model, make_sequence().fit(sequences(20, 25, seed=3)))


def test_nothing_works_before_fit(make_sequence: Make, tmp_path: Path) -> None:
    model = make_sequence()
    calls: list[Callable[[], Any]] = [
        lambda: model.recommend(0),
        lambda: model.recommend([[1]]),
        lambda: model.encode([[1]]),
        lambda: model.start([1]),
        lambda: model.predict(0, 0),
        lambda: model.save(tmp_path / "x"),
        lambda: model.resize(5, 5),
        lambda: model.item_factors_,
        lambda: model.training_sequences_,
        lambda: model.copy_state(),
    ]
    for call in calls:
        with pytest.raises(NotFittedError, match="not fitted"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SEQUENCE_MODELS)
def test_parameters_like_scikit_learn(name: str) -> None:
    model = SEQUENCE_MODELS[name]()
    params = model.get_params()
    twin = type(model)(**params)
    assert all(twin.get_params()[key] is value for key, value in params.items())
    base = pytest.importorskip("sklearn.base")
    assert base.clone(model).get_params() == params


BAD: list[tuple[str, Any, type[Exception]]] = [
    ("d", 0, ValueError),
    ("d", 2.5, TypeError),
    ("max_len", 0, ValueError),
    ("max_len", 4097, ValueError),
    ("n_epochs", 0, ValueError),
    ("learning_rate", 0, ValueError),
    ("learning_rate", float("nan"), ValueError),
    ("weight_decay", -1, ValueError),
    ("clip_norm", 0, ValueError),
    ("batch_size", 0, ValueError),
    ("optimizer", "lion", ValueError),
    ("schedule", "steps", ValueError),
    ("loss", "hinge", ValueError),
    ("n_negatives", -1, ValueError),
    ("dropout", 1.0, ValueError),
    ("random_state", "seed", TypeError),
    ("n_threads", 0, ValueError),
    ("device", "tpu", ValueError),
]


@pytest.mark.parametrize(("name", "value", "error"), BAD)
def test_ranges_are_checked_by_fit(make_sequence: Make, name: str, value: Any, error: type[Exception]) -> None:
    if name not in make_sequence().get_params():
        name = {"max_len": "window"}[name]
    model = make_sequence(**{name: value})
    with pytest.raises(error, match=name):
        model.fit(sequences())
    assert not model.is_fitted


def test_evaluation(make_sequence: Make) -> None:
    train, valid, test = rf.splits.leave_one_out(sequences(longest=12))
    model = make_sequence().fit(train, eval_set=valid, callbacks=[rf.EarlyStopping("ndcg@10", patience=5)])
    assert len(model.history_["ndcg@10"]) == len(model.history_["loss"]) == model.n_epochs_
    report = rf.evaluation.evaluate(model, train, valid, metrics=("ndcg",), ks=(10,))
    best = model.history_["ndcg@10"][-1]
    assert best == max(model.history_["ndcg@10"])
    np.testing.assert_allclose(report["ndcg@10"], best, rtol=1e-6)
    both = rf.splits.join(train, valid)
    report = rf.evaluation.evaluate(model, both, test, metrics=("hit_rate", "ndcg"), ks=(10,))
    pair = rf.evaluation.evaluate((model.encode(both), model.item_factors_), both, test, ("hit_rate", "ndcg"), (10,))
    np.testing.assert_allclose(report["ndcg@10"], pair["ndcg@10"], rtol=1e-6)
