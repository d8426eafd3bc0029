"""Class weights make classes weigh the same, resampling makes them as many, and both are functions of their input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from recsys_fast.data import class_weights, resample

LABELS = np.array(["a"] * 60 + ["b"] * 10 + ["c"] * 30)


def test_weights_balance_classes() -> None:
    weights = class_weights(LABELS)
    np.testing.assert_allclose(weights * [60, 10, 30], 100 / 3)
    root = class_weights(LABELS, method="sqrt", classes=["c", "a", "b"])
    np.testing.assert_allclose(root / root[1], np.sqrt([60 / 30, 1, 60 / 10]))
    assert root @ [30, 60, 10] == pytest.approx(100)


SIZES = [
    ("over", 1, (60, 60, 60)),
    ("over", 0.4, (60, 24, 30)),
    ("under", 1, (10, 10, 10)),
    ("under", 0.5, (20, 10, 20)),
]


@pytest.mark.parametrize(("how", "ratio", "sizes"), SIZES)
def test_rows_are_drawn_to_the_ratio(how: str, ratio: float, sizes: tuple[int, ...]) -> None:
    rows = resample(LABELS, how=how, ratio=ratio, seed=3)
    assert [int((LABELS[rows] == name).sum()) for name in "abc"] == list(sizes)
    assert (np.diff(rows) >= 0).all()
    if how == "over":
        assert set(rows.tolist()) == set(range(100))
    else:
        assert len(set(rows.tolist())) == len(rows)
    np.testing.assert_array_equal(rows, resample(LABELS, how=how, ratio=ratio, seed=3))
    if len(rows) != 100:
        assert (rows != resample(LABELS, how=how, ratio=ratio, seed=4)).any()


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "class without rows": (lambda: class_weights([0, 1], classes=[0, 1, 2]), "class 2 has no row"),
    "class not listed": (lambda: class_weights([0, 1, 5], classes=[0, 1]), "labels hold: got 5"),
    "class twice": (lambda: class_weights([0, 1], classes=[0, 1, 1]), "classes: got one twice"),
    "method": (lambda: class_weights([0], method="log"), "method: got 'log'"),
    "nothing": (lambda: resample([]), "shape of labels"),
    "nan": (lambda: resample([1.0, np.nan]), r"labels\[1\]: got nan"),
    "ratio": (lambda: resample([0, 1], ratio=1.5), "ratio: got 1.5"),
    "how": (lambda: resample([0, 1], how="smote"), "how: got 'smote'"),
    "seed": (lambda: resample([0, 1], seed=-1), "seed: got -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name: str) -> None:
    call, text = BAD[name]
    with pytest.raises(ValueError, match=text):
        call()
