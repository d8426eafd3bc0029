"""ContentRNN: what it learns, its promises around training and files, item vectors, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.data import TextEncoder, Vectors
from recsys_fast.data.vectors import Aligned
from recsys_fast.errors import DivergedError, ModelFormatError, NotFittedError, NotSupportedError
from recsys_fast.models import ExtendedCatalogue
from recsys_fast.training import Checkpoint

N_TOKENS = 12


def texts(n: int = 90, seed: int = 0) -> tuple[Any, Any]:
    """Rows of 0 to 9 ids; the class is told by the last one that is below 3, or 3 where there is none."""
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, N_TOKENS, size).tolist() for size in rng.integers(1, 10, n)]
    lists[n // 2] = []
    y = np.array([next((token for token in reversed(row) if token < 3), 3) for row in lists])
    return lists, y


def make(device: str = "auto", **how: Any) -> rf.ContentRNN:
    small = {"cell": "lstm", "d_embedding": 6, "hidden": 8, "n_tokens": N_TOKENS, "batch_size": 16, "n_epochs": 3}
    return rf.ContentRNN(**{**small, "random_state": 0, "device": device, "n_threads": 2, **how})


def test_learns_classes(device: str) -> None:
    x, y = texts(200)
    model = make(device, n_epochs=30, learning_rate=0.02).fit(x, y, eval_set=texts(60, 1))
    assert model.history_["accuracy"][-1] > 0.9
    assert model.history_["log_loss"][-1] < model.history_["log_loss"][0]
    probabilities = model.predict_proba(x)
    assert probabilities.shape == (200, 4)
    assert np.abs(probabilities.sum(1) - 1).max() < 1e-5
    assert np.array_equal(probabilities.argmax(1), model.predict(x))
    vectors = model.encode(x)
    assert vectors.shape == (200, 8)
    assert not vectors[100].any(), "a text without ids"


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_bits_do_not_depend_on_threads(cell: str, pooling: str) -> None:
    x, y = texts(60)
    how: dict[str, Any] = {
        "cell": cell, "pooling": pooling, "n_layers": 2, "dropout": 0.2, "resample": "over", "max_len": 7,
        "augmentation": {"item_dropout": 0.3, "crop": 0.2, "reorder": 0.5},
    }  # fmt: skip
    first = make(n_threads=1, **how).fit(x, y)
    again = make(n_threads=3, **how).fit(x, y)
    assert np.array_equal(first.predict_proba(x), again.predict_proba(x))
    other = make(**{**how, "augmentation": None}).fit(x, y)
    assert not np.array_equal(first.predict_proba(x), other.predict_proba(x))


def test_backends_agree() -> None:
    if rf.backend.resolve_device("auto") != "cpu":
        pytest.skip("one backend only")
    x, y = texts(60)
    how: dict[str, Any] = {"augmentation": {"item_dropout": 0.3}, "n_epochs": 1, "dropout": 0.1, "pooling": "mean"}
    one, other = (make(device, **how).fit(x, y).predict_proba(x) for device in ("cpu", "numba"))
    assert np.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_steps_as_torch_does(n_layers: int, device: str) -> None:
    torch = pytest.importorskip("torch")
    x, y = texts(30)
    how: dict[str, Any] = {"n_layers": n_layers, "optimizer": "sgd", "learning_rate": 0.5, "batch_size": 30}
    model = make(device, n_epochs=1, **how).fit(x, y)
    network = model._net()
    table = torch.nn.Embedding(N_TOKENS, 6)
    lstm = torch.nn.LSTM(6, 8, n_layers, batch_first=True)
    head = torch.nn.Linear(8, 4)
    with torch.no_grad():
        table.weight.copy_(torch.tensor(network.tables[0].values))
        for layer in range(n_layers):
            for theirs, ours in (("weight_ih", "w_x"), ("weight_hh", "w_h"), ("bias_ih", "b_x"), ("bias_hh", "b_h")):
                values = torch.tensor(network.parameters.view(f"lstm{layer}.{ours}").T.copy())
                getattr(lstm, f"{theirs}_l{layer}").copy_(values)
        head.weight.copy_(torch.tensor(network.parameters.view("head.w")))
        head.bias.copy_(torch.tensor(network.parameters.view("head.b")))
    optimizer = torch.optim.SGD([*table.parameters(), *lstm.parameters(), *head.parameters()], lr=0.5)

    def scores() -> Any:
        rows = []
        for row in x:
            h = torch.zeros(8) if not row else lstm(table(torch.tensor([row])))[0][0, -1]
            rows.append(head(h))
        return torch.stack(rows)

    before = scores()
    assert np.allclose(torch.softmax(before, 1).detach(), model.predict_proba(x), atol=1e-5)
    torch.nn.functional.cross_entropy(before, torch.tensor(y)).backward()
    optimizer.step()
    model.partial_fit(x, y)
    assert np.allclose(torch.softmax(scores(), 1).detach(), model.predict_proba(x), atol=1e-5)


def test_rows_of_numbers(device: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 7, 3)).astype(np.float32)
    level = x[:, :, 0].mean(1)
    how: dict[str, Any] = {"n_tokens": None, "pooling": "mean", "n_epochs": 40, "learning_rate": 1e-2}
    yes = make(device, head="sigmoid", **how).fit(x, level > 0, eval_set=(x, level > 0))
    assert yes.history_["auc"][-1] > 0.95
    assert ((yes.predict_proba(x) > 0.5) == yes.predict(x)).all()
    numbers = make(device, head="linear", loss="smooth_l1", **how).fit(x, np.stack([level, -2 * level], 1))
    assert np.corrcoef(numbers.predict(x)[:, 1], level)[0, 1] < -0.9
    assert "tokens" not in numbers._held()[0]
    noisy = make(device, head="linear", augmentation={"noise": 0.1}, **{**how, "n_epochs": 1}).fit(x, level)
    assert np.isfinite(noisy.predict(x)).all()


def test_textbook_networks() -> None:
    rng = np.random.default_rng(0)
    stacked = rf.ContentRNN("lstm", hidden=64, n_layers=3, n_epochs=1, n_threads=2)
    stacked.fit(rng.random((4, 100, 64)), [0, 1, 0, 1])
    assert np.isfinite(stacked.predict_proba(rng.random((2, 100, 64)))).all()
    words = rf.ContentRNN("lstm", 64, 64, n_tokens=10_000, n_epochs=1, n_threads=2)
    assert words.fit(rng.integers(0, 10_000, (4, 30)), [0, 1, 0, 1]).encode([[1, 2], []]).shape == (2, 64)


def test_weights_of_classes_and_rows() -> None:
    x, y = texts(60)
    count = np.bincount(y)
    by_row = make().fit(x, y, sample_weight=(60 / (4 * count))[y])
    balanced = make(class_weight="balanced").fit(x, y)
    assert np.array_equal(by_row.predict_proba(x), balanced.predict_proba(x))


def test_files_and_going_on(device: str, tmp_path: Path) -> None:
    words = [f"w{k}" for k in range(N_TOKENS)]
    encoder = TextEncoder().fit([" ".join(words)])
    lists, y = texts()
    x = encoder.tokens([" ".join(words[token] for token in row) for row in lists])
    path = tmp_path / "m.safetensors"
    how: dict[str, Any] = {"augmentation": {"item_dropout": 0.2}, "dropout": 0.1, "schedule": "linear"}
    model = make(device, class_weight=[1.0, 2.0, 1.0, 1.0], **how).fit(x, y)
    model.save(path)
    for loaded in (rf.load(path, device=device), rf.ContentRNN.load(path, device=device)):
        assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))
        assert loaded.history_ == model.history_
        with pytest.raises(ValueError, match="vocabulary of X"):
            loaded.predict(TextEncoder().fit(["w1 w2"]).tokens(["w1"]))
    whole = make(device, n_epochs=5, **how).fit(x, y)
    make(device, n_epochs=5, **how).fit(x, y, callbacks=[Checkpoint(path), Stop(3)])
    again = rf.ContentRNN.resume(path, x, y, device=device)
    assert np.array_equal(again.predict_proba(x), whole.predict_proba(x))
    more = make(device, n_epochs=5, **how).fit(x, y, callbacks=[Stop(3)]).partial_fit(x, y, n_epochs=2)
    assert np.array_equal(more.predict_proba(x), whole.predict_proba(x))
    assert len(more.history_["loss"]) == 5
    path.write_bytes(path.read_bytes().replace(b'\\"shape\\": [12]', b'\\"shape\\": [13]'))
    with pytest.raises(ModelFormatError):
        rf.load(path)


class Stop:
    """Ends training after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, state: Any) -> bool:
        return bool(state.epoch >= self.epochs)


def test_vectors_that_others_trained(device: str, tmp_path: Path) -> None:
    x, y = texts()
    given = np.random.default_rng(5).standard_normal((N_TOKENS, 6))
    frozen = make(device, init=given, frozen=True, n_epochs=1).fit(x, y)
    assert np.array_equal(frozen._held()[0]["tokens"], given.astype(np.float32))
    assert not any(name.startswith("optimizer.tokens") for name in frozen._held()[0])
    frozen.save(tmp_path / "m")
    loaded = rf.load(tmp_path / "m", device=device)
    assert loaded.init is None
    assert np.array_equal(loaded.predict_proba(x), frozen.predict_proba(x))
    frozen.partial_fit(x, y)
    loaded.partial_fit(x, y)
    assert np.array_equal(loaded.predict_proba(x), frozen.predict_proba(x))
    moving = make(device, init=Aligned(given, np.empty(0, np.int32)), n_epochs=1).fit(x, y)
    assert not np.array_equal(moving._held()[0]["tokens"], given.astype(np.float32))

    encoder = TextEncoder(unknown="token").fit(["red hat", "red shoe"])
    vectors = Vectors(["hat", "red", "coat"], given[:3])
    rows, answer = encoder.tokens(["red hat", "blue shoe", "hat", "shoe shoe"]), [0, 1, 0, 1]
    named = make(device, init=vectors, frozen=True, n_tokens=None, n_epochs=1).fit(rows, answer)
    held = named._held()[0]["tokens"]
    assert np.array_equal(held[:2], given[[1, 0]].astype(np.float32))  # red, hat, shoe, unknown
    assert held.shape == (4, 6)
    with pytest.raises(ValueError, match="tokens without names"):
        make(device, init=vectors).fit(x, y)
    with pytest.raises(ValueError, match="d_embedding"):
        make(device, init=vectors, d_embedding=5, n_tokens=None).fit(rows, answer)
    with pytest.raises(ValueError, match="init of a table"):
        make(device, init=given[:3]).fit(x, y)


def test_divergence_keeps_the_last_good_epoch(device: str) -> None:
    x, y = texts(40)
    model = make(device, head="linear", n_epochs=1, optimizer="sgd").fit(x, y.astype(float))
    before = model.predict(x)
    model.set_params(learning_rate=1e6)
    with pytest.raises(DivergedError, match=r"ContentRNN diverged in epoch 2.*keeps epoch 1"):
        model.partial_fit(x, y * 1e30, n_epochs=3)
    assert model.n_epochs_ == 1
    assert np.array_equal(model.predict(x), before)


def test_cold_items_get_vectors(device: str) -> None:
    rng = np.random.default_rng(0)
    taste, kind = rng.integers(0, 3, 60), rng.integers(0, 3, 80)
    x = [rng.permutation([*rng.integers(3, N_TOKENS, 4), k]) for k in kind]
    seen = sp.csr_matrix((rng.random((60, 80)) < np.where(taste[:, None] == kind, 0.5, 0.02)).astype(np.float32))
    warm = 70
    als = rf.ALS(8, random_state=0, n_threads=2).fit(seen[:, :warm])
    model = make(device, head="linear", pooling="max", n_epochs=40, learning_rate=2e-2).fit_factors(x[:warm], als)
    vectors = model.encode(x[warm:])
    assert vectors.shape == (10, als._item_table().shape[1])
    ids = ExtendedCatalogue(als, vectors).recommend(n=5, include=np.arange(warm, 80)).ids
    assert (ids >= warm).all()
    assert (kind[ids[:, :2]] == taste[:, None]).mean() > 0.6, "by chance a third"
    only = np.arange(warm) < 20  # of all of these somebody has seen
    lean = make(device, head="linear", n_epochs=1).fit_factors(x[:warm], als, sample_weight=only)
    assert np.allclose(lean._offset, als._item_table()[only].mean(0), atol=1e-6)
    with pytest.raises(ValueError, match="goes on"):
        model.partial_fit(x[:warm], np.zeros(warm))
    with pytest.raises(ValueError, match="rows of X: got 80, expected 70"):
        model.fit_factors(x, als)
    with pytest.raises(ValueError, match="head: got 'softmax', expected 'linear'"):
        make(device).fit_factors(x[:warm], als)
    with pytest.raises(NotSupportedError, match="no item vectors"):
        model.fit_factors(x[:warm], rf.ItemKNN().fit(seen[:, :warm]))


def test_texts_without_a_known_word(device: str) -> None:
    encoder = TextEncoder().fit(["red hat", "blue hat"])
    nothing = encoder.tokens(["", "soup", None, "hot soup"])
    assert len(nothing.ids) == 0
    model = make(device, n_tokens=None).fit(nothing, [0, 1, 0, 1])  # the head's biases learn how frequent classes are
    assert np.isfinite(model.predict_proba(nothing)).all()
    assert not model.encode(nothing).any()
    mixed = make(device, n_tokens=None).fit(encoder.tokens(["red", "soup", "hat", ""]), [0, 1, 0, 1])
    assert np.array_equal(mixed.encode(nothing), np.zeros((4, 8)))


def test_refuses(device: str) -> None:
    x, y = texts(30)
    numbers = np.zeros((30, 4, 2), np.float32)
    bad: list[tuple[dict[str, Any], Any, Any, type[Exception], str]] = [
        ({}, x, y[:29], ValueError, r"shape of y: got \(29,\), expected \(30,\)"),
        ({}, [], [], ValueError, "X has no texts"),
        ({}, ["a b"] * 30, y, TypeError, "TextEncoder"),
        ({}, [[N_TOKENS]] * 30, y, ValueError, r"token at place 0 of X\[0\]: got 12"),
        ({"n_tokens": None}, [[]] * 30, y, ValueError, "number of tokens"),
        ({}, numbers[..., 0], y, ValueError, r"shape of X: got float32 \(30, 4\)"),
        ({}, numbers, y, ValueError, "n_tokens with rows of numbers"),
        ({"n_tokens": None}, numbers * np.nan, y, ValueError, "NaN"),
        ({"n_tokens": None, "augmentation": {"item_dropout": 0.5}}, numbers, y, ValueError, "augmentation"),
        ({"augmentation": {"flip": 0.5}}, x, y, ValueError, "name in augmentation"),
        ({"augmentation": {"turn": 0.5}}, x, y, ValueError, "augmentation"),
        ({}, x, y * 2, ValueError, "class 1 has no row"),
        ({}, x, y.astype(str), TypeError, "Number the classes"),
        ({"head": "tree"}, x, y, ValueError, "head: got 'tree'"),
        ({"cell": "cnn"}, x, y, ValueError, "cell: got 'cnn'"),
        ({"pooling": "first"}, x, y, ValueError, "pooling"),
        ({"n_layers": 0}, x, y, ValueError, "n_layers"),
        ({"dropout": 1.0}, x, y, ValueError, "dropout"),
        ({"frozen": 1}, x, y, TypeError, "frozen"),
        ({"init": np.full((N_TOKENS, 6), np.nan)}, x, y, ValueError, "init of row 0"),
        ({"learning_rate": 0}, x, y, ValueError, "learning_rate"),
    ]
    for params, given, targets, error, text in bad:
        model = make(device, **params)
        with pytest.raises(error, match=text):
            model.fit(given, targets)
        assert not model.is_fitted
    model = make(device, n_epochs=1)
    with pytest.raises(NotFittedError, match=r"fit\(X, y\)"):
        model.predict(x)
    model.fit(x, y)
    for call in (model.predict, model.encode, lambda a: model.partial_fit(a, y)):
        with pytest.raises(ValueError, match=r"got 13, expected an id of the vocabulary, 0 to 11"):
            call([[0, 13]] * 30)
        with pytest.raises(ValueError, match=r"shape of X: got \(30, 4, 2\), expected texts"):
            call(numbers)
    model.set_params(hidden=9)
    with pytest.raises(ValueError, match="hidden of a fitted ContentRNN"):
        model.predict(x)


def test_memory_is_estimated() -> None:
    x, _ = texts()
    small, large = (make(n_tokens=size).estimate_memory(x) for size in (N_TOKENS, 100_000))
    assert large["network"] > 100 * small["network"]
    assert small["total"] == sum(size for name, size in small.items() if name != "total")
    frozen = make(n_tokens=100_000, frozen=True).estimate_memory(x)
    assert frozen["optimizer"] == small["optimizer"] - 8 * N_TOKENS * 6
    assert make(max_len=2).estimate_memory(x)["batch"] < small["batch"]
