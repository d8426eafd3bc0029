from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import IdMap, Interactions
from recsys_fast.data.assemble import IMPUTATIONS
from tests.data.helpers import check, entries, raw_entries

TRIPLE = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-3, 3), st.integers(-2, 2))
NAN = float("nan")


@settings(max_examples=100, deadline=None)
@given(st.lists(TRIPLE, max_size=30), st.sampled_from(["sum", "max", "last"]), st.booleans(), st.booleans())
def test_duplicates_agree_with_a_dict(rows: list[Any], how: str, valued: bool, timed: bool) -> None:
    ordered = sorted(enumerate(rows), key=lambda one: one[1][3]) if timed else list(enumerate(rows))
    groups: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    for place, (user, item, value, time) in ordered:
        groups.setdefault((user, item), []).append((value if valued else 1, time, place))
    expected = []
    for pair, group in sorted(groups.items()):
        value, time, place = group[-1]
        if how == "sum":
            value = sum(one[0] for one in group)
        if how == "max":
            value = max(one[0] for one in group)
            _, time, place = [one for one in group if one[0] == value][-1]
        if not valued and how != "sum":
            value = 1
        expected.append((*pair, value, time if timed else None, place if timed else None))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    data = Interactions.from_coo(
        columns[0], columns[1], columns[2] if valued else None, columns[3] if timed else None, duplicates=how
    )
    check(data)
    assert entries(data) == expected
    assert data.report["duplicates"] == len(rows) - len(expected)


def test_duplicates_error_names_the_pair() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\).*Choose duplicates"):
        Interactions.from_coo([0, 1, 1], [0, 2, 2], duplicates="error")


def test_a_sum_beyond_float32_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sum of the duplicates.*expected a finite float32"):
        Interactions.from_coo([0, 0], [0, 0], [3e38, 3e38])


def test_counts_only_where_there_are_duplicates() -> None:
    assert Interactions.from_coo([0, 1], [0, 1]).values is None
    counted = Interactions.from_coo([0, 1, 1], [0, 1, 1])
    assert counted.values is not None
    assert counted.values.tolist() == [1, 2]
    assert "counts" in str(counted.report)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    ("how", "values"),
    [
        ("zero", [2, 0, 5, 0, 8]),
        ("one", [2, 1, 5, 1, 8]),
        ("mean", [2, 5, 5, 5, 8]),
        ("median", [2, 5, 5, 5, 8]),
        ("user_mean", [2, 2, 5, 6.5, 8]),
        ("item_mean", [2, 5, 5, 2, 8]),
    ],
)
def test_imputation(how: str, values: list[float], raw: bool) -> None:
    given_values = [2, NAN, 5, NAN, 8]
    data = Interactions.from_coo([0, 0, 1, 1, 1], [0, 1, 1, 0, 2], given_values, missing=how, raw_ids=raw)
    order = np.lexsort(([0, 1, 1, 0, 2], [0, 0, 1, 1, 1]))
    assert data.values is not None
    assert data.values.tolist() == [values[place] for place in order]
    assert f"2 missing values set to {how}" in str(data.report)
    assert data.report.dropped == 0
    assert len(given_values) == 5
    assert given_values[1] != given_values[1]


def test_imputation_falls_back_to_the_global_mean() -> None:
    data = Interactions.from_coo([0, 1], [0, 1], [4, NAN], missing="user_mean")
    assert data.values is not None
    assert data.values.tolist() == [4, 4]


@pytest.mark.parametrize("how", [how for how in IMPUTATIONS if how not in ("zero", "one")])
def test_imputation_with_nothing_known(how: str) -> None:
    with pytest.raises(ValueError, match="every value missing"):
        Interactions.from_coo([0], [0], [NAN], missing=how)
    assert Interactions.from_coo([0], [0], [NAN], missing="one").csr.toarray().tolist() == [[1]]


@pytest.mark.parametrize("raw", [False, True])
def test_missing_values_are_an_error_or_dropped(raw: bool) -> None:
    arguments = ([0, 1, 2], [0, 1, 2], [1, NAN, 3], [5, 6, None])
    with pytest.raises(ValueError, match=r"missing.*Choose missing=\"drop\""):
        Interactions.from_coo(*arguments, raw_ids=raw)
    data = Interactions.from_coo(*arguments, raw_ids=raw, missing="drop")
    check(data)
    assert data.nnz == 1
    assert data.report["missing"] == 2
    assert data.shape == ((1, 1) if raw else (3, 3))
    imputed = Interactions.from_coo(*arguments, raw_ids=raw, missing="zero")  # a time cannot be imputed
    assert imputed.nnz == 2
    assert imputed.report["missing"] == 1


def test_missing_ids_are_dropped_and_give_no_empty_users() -> None:
    data = Interactions.from_coo(["a", None, "b", "c"], [1, 2, None, 4], [1, 1, 1, NAN], raw_ids=True, missing="drop")
    assert raw_entries(data) == [("a", 1, 1, None)]
    assert data.report["missing"] == 3
    assert data.shape == (1, 1)
    with pytest.raises(ValueError, match="missing user id in row 1 of the arrays"):
        Interactions.from_coo(["a", None], [1, 2], raw_ids=True)


def test_given_maps() -> None:
    train = Interactions.from_coo(["b", "a"], [5, 6], raw_ids=True)
    maps: dict[str, Any] = {"user_ids": train.user_ids, "item_ids": train.item_ids, "raw_ids": True}
    test = Interactions.from_coo(["a", "z", "b"], [5, 5, 7], unknown="drop", **maps)
    assert test.shape == train.shape
    assert test.user_ids is train.user_ids
    assert raw_entries(test) == [("a", 5, 1, None)]
    assert test.report["unknown"] == 2
    with pytest.raises(IndexError, match="unknown user id in the arrays: got 'z', expected an id of user_ids"):
        Interactions.from_coo(["a", "z", "b"], [5, 5, 7], **maps)
    with pytest.raises(IndexError, match="unknown item id in the arrays: got 7"):
        Interactions.from_coo(["a", "b"], [5, 7], **maps)
    grown = Interactions.from_coo(["z", "a"], [9, 8], user_ids=train.user_ids, unknown="drop", raw_ids=True)
    assert grown.item_ids == IdMap([8])
    with pytest.raises(TypeError, match="user_ids: got list, expected an IdMap"):
        Interactions.from_coo(["a"], [5], raw_ids=True, user_ids=["a"])
    with pytest.raises(ValueError, match="unknown: got 'ignore'"):
        Interactions.from_coo(["a"], [5], raw_ids=True, unknown="ignore")


def test_columns_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match=r"columns of the arrays differ in length: got \[2, 1\]"):
        Interactions.from_coo(["a", "b"], [1], raw_ids=True)


def test_the_report_starts_with_what_was_read() -> None:
    data = Interactions.from_coo(["a", "a"], [5, 5], raw_ids=True)
    assert [step.name for step in data.report] == ["read", "duplicates"]
    assert "2 rows of the arrays" in str(data.report)
