"""Caser against its formulas, and its vectors of users: whose they are, when they are used, how they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.blocks.base import PackedBatch, Runtime
from recsys_fast.errors import NotSupportedError
from recsys_fast.training.network import Network
from tests.models.cases import same_state, sequences

SMALL: dict[str, Any] = {
    "d": 8, "window": 4, "targets": 2, "n_horizontal": 3, "n_vertical": 2, "batch_size": 16, "n_epochs": 2,
    "random_state": 0,
}  # fmt: skip


def make(device: str, **options: Any) -> rf.Caser:
    return rf.Caser(**{**SMALL, "device": device, **options})


def close(left: Any, right: Any) -> None:
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def plain_z(model: rf.Caser, history: list[int]) -> Any:
    """The output z of a history, filter by filter."""
    view, d, window = model._net().parameters.view, model.d, model.window
    image = np.zeros((window, d))
    recent = history[-window:]
    if recent:
        image[window - len(recent) :] = model._net().tables[1].values[recent]
    parts, at = [], 0
    for height in range(1, window + 1):
        filters = view("conv.w_h")[at * d : (at + height) * d]
        bias = view("conv.b_h")[(height - 1) * model.n_horizontal : height * model.n_horizontal]
        places = [image[t : t + height].reshape(-1) @ filters + bias for t in range(window - height + 1)]
        parts.append(np.maximum(np.stack(places), 0.0).max(axis=0))
        at += height
    weights, bias = view("conv.w_v"), view("conv.b_v")
    parts += [weights[:, f] @ image + bias[f] for f in range(model.n_vertical)]
    return np.maximum(np.concatenate(parts) @ view("dense.w") + view("dense.b"), 0.0)


@pytest.mark.parametrize("n_vertical", [2, 0])
def test_outputs_are_the_formulas(device: str, n_vertical: int) -> None:
    model = make(device, n_vertical=n_vertical).fit(sequences())
    histories: list[list[int]] = [[3, 7, 7, 0, 19, 4], [1, 2, 3, 4], [5], []]
    z = np.stack([plain_z(model, history) for history in histories])
    assert (z > 0).any()
    mean = model.user_factors_.mean(axis=0)
    found = model.encode(histories)
    close(found, np.column_stack([z, np.tile(mean, (4, 1)), np.ones(4)]))
    assert model.item_factors_.shape == (20, 17)
    assert make(device, n_vertical=n_vertical, user_vectors=False).fit(sequences()).item_factors_.shape == (20, 9)


def test_the_mean_of_all_users_is_taken_once(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    data = sequences()
    model, calls, mean = make(device).fit(data), [], rf.Caser._mean_user
    monkeypatch.setattr("recsys_fast.models.sequence._CHUNK", 8)
    monkeypatch.setattr(rf.Caser, "_mean_user", lambda model: calls.append(1) or mean(model))  # type: ignore[func-returns-value]
    model.recommend([0, 3])
    model.encode(data, np.arange(30))
    assert not calls
    state = model.start([1, 2])
    for _ in range(3):
        queries = model.encode(data)
        model.update(state, 4)
        model.recommend_from(state)
    assert len(calls) == 1
    d = model.d
    np.testing.assert_allclose(queries[:, d : 2 * d], np.tile(model.user_factors_.mean(axis=0), (30, 1)), rtol=1e-5)
    model.partial_fit(data)
    np.testing.assert_allclose(model.encode([[1]])[0, d : 2 * d], model.user_factors_.mean(axis=0), rtol=1e-5)


def network_of(**options: Any) -> tuple[Network, Any]:
    """A network in double precision, with a batch."""
    model, data = make("numba", **{"d": 3, "dropout": 0.3, "loss": "bce", **options}), sequences(9, 15)
    model._check_params()
    model._take_over(data)
    model.seed_ = 0
    made = model._make_network(Runtime("numba", 1, np.float64))
    made.objective = model._objective()
    generator = np.random.default_rng(0)
    made.initialise(generator)
    for array in made.arrays().values():
        array += 0.3 * generator.standard_normal(array.shape)
    return made, next(iter(model._batches().epoch(0)))


@pytest.mark.parametrize("options", [{}, {"user_vectors": False}, {"loss": "sampled_ce", "n_negatives": 5}])
def test_gradient(options: dict[str, Any]) -> None:
    made, batch = network_of(**options)
    packed = PackedBatch(batch.row_ptr, 0, 0, True)

    def loss_of(backward: bool = False) -> float:
        for table in made.tables:
            table.begin()
        loss, n, dh = made.objective(made, made.forward(batch, packed), batch, packed)
        assert n == np.count_nonzero(batch.targets >= 0)
        if backward:
            made.backward(dh, packed)
            for table in made.tables:
                table.finish()
        return loss / n

    loss_of(True)
    found = {"parameters": made.parameters.gradients.copy()}
    for table in made.tables:
        dense, bias = np.zeros_like(table.values), np.zeros_like(table.bias)
        assert table.rows is not None
        dense[table.rows] = table.drows
        if table.has_bias:
            bias[table.rows] = table.dbias
        found |= {table.name: dense, f"{table.name}.bias": bias}
    rng, eps = np.random.default_rng(1), 1e-6
    for name, array in made.arrays().items():
        flat, gradient = array.reshape(-1), found[name].reshape(-1)
        assert gradient.any()
        for at in rng.choice(flat.size, min(flat.size, 25), replace=False):
            kept = flat[at]
            flat[at] = kept + eps
            above = loss_of()
            flat[at] = kept - eps
            slope = (above - loss_of()) / (2 * eps)
            flat[at] = kept
            assert gradient[at] == pytest.approx(slope, rel=1e-5, abs=1e-7), (name, int(at))


def test_every_target_of_a_window_counts() -> None:
    """``- log sigmoid(s_target) - log(1 - sigmoid(s_negative))``, a negative each, the mean over the targets."""
    made, batch = network_of(dropout=0.0)
    packed = PackedBatch(batch.row_ptr, 0, 0, True)
    drawn = []
    objective: Any = made.objective
    verified = objective.loss._verified

    def spy(*given: Any) -> Any:
        drawn.append(verified(*given).copy())
        return drawn[-1]

    objective.loss._verified = spy
    for table in made.tables:
        table.begin()
    h = made.forward(batch, packed).copy()
    loss, n, _ = objective(made, h, batch, packed)
    targets = batch.targets.reshape(-1, 2)
    negatives = drawn[0].reshape(-1, 2)
    assert h.shape == (len(targets), 6)
    scores = h @ made.items.values.T + made.items.bias
    expected, rows = 0.0, sequences(9, 15)
    for row, user in enumerate(batch.users.tolist()):
        for target, negative in zip(targets[row], negatives[row], strict=True):
            assert negative not in rows[user]
            if target >= 0:
                expected += np.logaddexp(0.0, -scores[row, target]) + np.logaddexp(0.0, scores[row, negative])
    assert loss == pytest.approx(expected)
    assert n == (targets >= 0).sum()


def test_windows_are_those_of_the_data(device: str) -> None:
    data = rf.Sequences([[0, 1, 2, 3, 4, 5, 6], [7, 8], [9], []], n_items=12)
    model = make(device, batch_size=2).fit(data)
    found = []
    for batch in model._batches().epoch(0):
        assert batch.row_ptr.tolist() == [4 * k for k in range(len(batch.users) + 1)]
        rows = zip(batch.users, batch.items.reshape(-1, 4), batch.targets.reshape(-1, 2), strict=True)
        found += [(int(user), items.tolist(), targets.tolist()) for user, items, targets in rows]
    assert sorted(found) == [
        (0, [0, 1, 2, 3], [4, 5]), (0, [1, 2, 3, 4], [5, 6]), (1, [-1, -1, -1, 7], [8, -1]),
    ]  # fmt: skip


def test_known_users_have_their_own_vectors(device: str) -> None:
    data = sequences()
    model = make(device).fit(data)
    own, mean = model.user_factors_, model.user_factors_.mean(axis=0)
    assert own.shape == (30, 8)
    users = np.arange(30)
    known, raw = model.encode(data, users), model.encode(data)
    np.testing.assert_array_equal(known[:, 8:16], own)
    close(raw[:, 8:16], np.tile(mean, (30, 1)))
    np.testing.assert_array_equal(known[:, :8], raw[:, :8])
    close(model.score(users), known @ model.item_factors_.T)
    close(model.score([4, 2, 4]), known[[4, 2, 4]] @ model.item_factors_.T)
    close(model.predict(3, 5), (known @ model.item_factors_.T)[3, 5])
    close(model.recommend([6, 1], n=20, filter_seen=False).scores[:, 0], model.score([6, 1]).max(axis=1))
    # whoever asks with a history is nobody known
    history = data[6].tolist()
    expected = (raw @ model.item_factors_.T)[6].max()
    close(model.recommend([history], n=1, filter_seen=False).scores[0, 0], expected)
    close(model.recommend(user_items=data, users=6, n=1, filter_seen=False).scores[0], expected)
    close(model.recommend_from(model.start(history), n=1, filter_seen=False).scores[0], expected)
    with pytest.raises(ValueError, match="users"):
        model.encode([[1], [2]], [0])
    with pytest.raises(IndexError, match="30"):
        model.encode([[1]], [30])


def test_without_vectors_of_users(device: str) -> None:
    model = make(device, user_vectors=False).fit(sequences())
    with pytest.raises(NotSupportedError, match="user_vectors"):
        _ = model.user_factors_
    np.testing.assert_array_equal(model.encode([[1, 2]], [3]), model.encode([[1, 2]]))


def test_evaluation_knows_the_users(device: str) -> None:
    train, valid, test = rf.splits.leave_one_out(sequences(60, 20, 12))
    model = make(device, learning_rate=0.01, n_epochs=4)
    model.fit(train, eval_set=valid, callbacks=[rf.LogEvaluation(("ndcg@5",))])
    both = rf.splits.join(train, valid)
    for history, held_out in ((train, valid), (both, test)):
        report = rf.evaluation.evaluate(model, history, held_out, ("ndcg",), (5,))
        reports = [
            rf.evaluation.evaluate((queries, model.item_factors_), history, held_out, ("ndcg",), (5,))
            for queries in (model.encode(history, np.arange(60)), model.encode(history))
        ]
        assert report["ndcg@5"] == pytest.approx(reports[0]["ndcg@5"])
        assert report["ndcg@5"] != pytest.approx(reports[1]["ndcg@5"])
    assert model.history_["ndcg@5"][-1] == pytest.approx(
        rf.evaluation.evaluate(model, train, valid, ("ndcg",), (5,))["ndcg@5"]
    )
    # rows of other users than those of the training: nobody known
    part = rf.evaluation.evaluate(model, both[:50], test[:50], ("ndcg",), (5,))
    pair = (model.encode(both[:50]), model.item_factors_)
    assert part["ndcg@5"] == pytest.approx(
        rf.evaluation.evaluate(pair, both[:50], test[:50], ("ndcg",), (5,))["ndcg@5"]
    )


def test_vectors_of_users_are_kept_and_grow(device: str, tmp_path: Path) -> None:
    data = sequences()
    model = make(device).fit(data)
    before = model.user_factors_.copy()
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x", device=device)
    np.testing.assert_array_equal(loaded.user_factors_, before)
    np.testing.assert_array_equal(loaded.recommend(n=5).scores, model.recommend(n=5).scores)
    assert same_state(loaded.partial_fit(data), make(device).fit(data).partial_fit(data))

    model.partial_fit(rf.Sequences([[1, 2, 3]], n_items=20), users=[7])  # another history, the same user
    np.testing.assert_array_equal(model.user_factors_, before)
    close(model.score(7), (model.encode([[1, 2, 3]], [7]) @ model.item_factors_.T)[0])

    model.resize(34, 25)
    np.testing.assert_array_equal(model.user_factors_[:30], before)
    assert model.user_factors_.shape == (34, 8)
    assert model.user_factors_[30:].any()
    model.partial_fit(sequences(34, 25))
    assert not np.array_equal(model.user_factors_[:30], before)
    assert model.recommend(33, n=3).ids.shape == (3,)
    model.save(tmp_path / "y")
    np.testing.assert_array_equal(rf.load(tmp_path / "y", device=device).user_factors_, model.user_factors_)


def test_users_without_windows_keep_their_start_values(device: str) -> None:
    """A lazy step touches the vectors of its windows' users only."""
    data, trained = sequences(), make(device, lazy_moments=True).fit(sequences())
    start = make(device, lazy_moments=True, learning_rate=1e-12).fit(sequences())
    same = (trained.user_factors_ == start.user_factors_).all(axis=1)
    np.testing.assert_array_equal(same, data.lengths < 2)


@pytest.mark.parametrize("user_vectors", [True, False])
def test_threads_and_resumed_runs(device: str, user_vectors: bool, tmp_path: Path) -> None:
    data, how = sequences(), {"user_vectors": user_vectors, "dropout": 0.3}
    whole = make(device, n_threads=2, n_epochs=4, **how).fit(data)
    make(device, n_threads=1, n_epochs=2, **how).fit(data, callbacks=[rf.Checkpoint(tmp_path / "c")])
    assert same_state(rf.Caser.resume(tmp_path / "c", n_epochs=4, device=device), whole)


@pytest.mark.parametrize("user_vectors", [True, False])
def test_it_learns_what_comes_next(device: str, user_vectors: bool) -> None:
    """Walks whose step two events give away."""
    train, valid, _ = rf.splits.leave_one_out(sequences(300, 30, 9))
    how = {"d": 32, "targets": 1, "n_negatives": 4, "batch_size": 64, "learning_rate": 0.01, "dropout": 0.2}
    how["lazy_moments"] = True  # fewer epochs to learn the few windows of each user
    model = make(device, **how, n_epochs=15, user_vectors=user_vectors).fit(train)
    assert rf.evaluation.evaluate(model, train, valid, ("hit_rate",), (3,))["hit_rate@3"] > 0.6


def test_start_values(device: str) -> None:
    """Normal numbers of deviation 1 / width."""
    data, how = sequences(600, 400), {"d": 16, "learning_rate": 1e-9, "n_epochs": 1}
    for user_vectors, width in ((True, 32), (False, 16)):
        model = make(device, user_vectors=user_vectors, **how).fit(data)
        assert model.item_factors_[:, :-1].std() == pytest.approx(1 / width, rel=0.05)
        for table in model._net().tables[1:]:
            assert table.values.std() == pytest.approx(1 / 16, rel=0.05)
        assert not np.abs(model.item_factors_[:, -1]).max() > 1e-6
    assert make(device, init_scale=0.3, **how).fit(data).user_factors_.std() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("window", 257, ValueError),
        ("targets", 0, ValueError),
        ("n_horizontal", 0, ValueError),
        ("n_vertical", -1, ValueError),
        ("user_vectors", "all", TypeError),
        ("init_scale", -1.0, ValueError),
    ],
)
def test_ranges(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        make("numba", **{name: value}).fit(sequences())
