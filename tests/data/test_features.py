"""Features from tables: what every kind of column becomes, from every kind of table."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.data import Categorical, FeatureBuilder, MultiValued, Numeric
from recsys_fast.errors import NotFittedError

NAN = float("nan")


def dense(builder: FeatureBuilder, table: Any) -> list[list[float]]:
    matrix = builder.transform(table)
    assert matrix.dtype == np.float32
    assert matrix.has_canonical_format
    assert (matrix.data != 0).all()
    assert matrix.shape == (matrix.shape[0], builder.n_features_)
    return [[round(float(value), 5) for value in row] for row in matrix.toarray()]


def fitted(column: Any, values: Any) -> FeatureBuilder:
    return FeatureBuilder([column]).fit({column.name: values})


def test_categories_in_order_with_missing_ones() -> None:
    builder = fitted(Categorical("x"), ["b", None, "a", 3, 1.5, NAN, True])
    assert builder.names_ == ["x=1.5", "x=3", "x=True", "x=a", "x=b", "x:missing"]
    assert dense(builder, {"x": ["a", None, 3.0, "new", True]}) == [
        [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0], [0] * 6, [0, 0, 1, 0, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "names", "rows"),
    [
        ({"missing": "ignore"}, ["x=a", "x=b"], [[1, 0], [0, 0], [0, 0]]),
        ({"missing": "most_frequent"}, ["x=a", "x=b"], [[1, 0], [0, 1], [0, 0]]),
        ({"missing": "constant", "fill": "z"}, ["x=a", "x=b", "x=z"], [[1, 0, 0], [0, 0, 1], [0, 0, 0]]),
        ({"unknown": "category"}, ["x=a", "x=b", "x:unknown", "x:missing"], [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]),
        ({"min_count": 2, "missing": "ignore"}, ["x=b"], [[0], [0], [0]]),
        ({"min_count": 2, "unknown": "category", "missing": "ignore"}, ["x=b", "x:unknown"], [[0, 1], [0, 0], [0, 1]]),
    ],
)
def test_missing_unknown_and_rare_categories(options: Any, names: list[str], rows: Any) -> None:
    builder = fitted(Categorical("x", **options), ["b", "a", None, "b"])
    assert builder.names_ == names
    assert dense(builder, {"x": ["a", None, "new"]}) == rows


def test_what_may_not_be_missing_or_unknown() -> None:
    builder = fitted(Categorical("x", missing="error", unknown="error"), ["a", "b"])
    with pytest.raises(ValueError, match=r"row 1 has no 'x'"):
        builder.transform({"x": ["a", None]})
    with pytest.raises(
        ValueError, match=r"unknown 'x' in row 1: got 'c', expected one of 2 categories such as 'a', 'b'"
    ):
        builder.transform({"x": ["a", "c"]})
    with pytest.raises(ValueError, match="row 0 has no 'x'"):
        FeatureBuilder([Numeric("x", missing="error")]).fit_transform({"x": [NAN, 1]})
    with pytest.raises(ValueError, match="row 0 has no 'x'"):
        FeatureBuilder([MultiValued("x", missing="error")]).fit_transform({"x": [None, []]})


def test_hashed_categories() -> None:
    builder = fitted(Categorical("x", n_buckets=7), ["a"])
    assert builder.names_ == [f"x#{i}" for i in range(7)] + ["x:missing"]
    values = ["a", 12, "12", "日本", None]
    matrix = builder.transform({"x": values}).toarray()
    for row, value in enumerate(values):
        expected = 7 if value is None else zlib.crc32(str(value).encode()) % 7
        assert np.flatnonzero(matrix[row]).tolist() == [expected]
    constant = fitted(Categorical("x", n_buckets=7, missing="constant", fill="a"), ["b"])
    np.testing.assert_array_equal(*constant.transform({"x": [None, "a"]}).toarray())


def test_numbers_are_scaled() -> None:
    values = [1, 2, None, 3, 6]
    for scale, expected in (
        ("standard", [-2, -1, 0, 0, 3]),
        ("minmax", [0, 0.2, 0, 0.4, 1]),
        ("none", [1, 2, 0, 3, 6]),
    ):
        builder = fitted(Numeric("x", scale=scale), values)
        divisor = np.std([1, 2, 3, 6]) if scale == "standard" else 1
        assert builder.names_ == ["x", "x:missing"]
        np.testing.assert_allclose(
            np.array(dense(builder, {"x": values}))[:, 0], np.array(expected) / divisor, atol=1e-5
        )
        assert np.array(dense(builder, {"x": values}))[:, 1].tolist() == [0, 0, 1, 0, 0]
    assert dense(fitted(Numeric("x", scale="minmax", missing="constant", fill=0), [0, 10]), {"x": [20, -5, None]}) == [
        [2.0], [-0.5], [0.0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "fill", "expected"),
    [("mean", None, 3.0), ("median", None, 2.0), ("most_frequent", None, 2.0), ("constant", -4, -4.0)],
)
def test_missing_numbers_are_imputed(missing: str, fill: Any, expected: float) -> None:
    builder = fitted(Numeric("x", scale="none", missing=missing, fill=fill), [2, 1, 8, 2, 2, 3, NAN])
    assert builder.names_ == ["x"]
    assert dense(builder, {"x": [None, 5]}) == [[expected], [5]]


def test_numbers_without_spread_become_nothing() -> None:
    for scale in ("standard", "minmax"):
        assert dense(fitted(Numeric("x", scale=scale, missing="mean"), [0.1, 0.1, 0.1]), {"x": [0.1, 0.1]}) == [
            [0],
            [0],
        ]
    big = [1.7e9 + i for i in range(5)]  # times in seconds: float32 could not tell them apart
    np.testing.assert_allclose(
        fitted(Numeric("x"), big).transform({"x": big}).toarray()[:, 0],
        (np.arange(5) - 2) / np.std(np.arange(5)),
        rtol=1e-6,
    )


def test_bins() -> None:
    builder = fitted(Numeric("x", scale="bins", n_bins=4), [*range(1, 9), None])
    assert builder.names_ == ["x=[-inf, 2.75)", "x=[2.75, 4.5)", "x=[4.5, 6.25)", "x=[6.25, inf)", "x:missing"]
    assert [row.index(1) for row in dense(builder, {"x": [-100, 2.75, 4.4, 100, None]})] == [0, 1, 1, 3, 4]
    given = fitted(Numeric("x", scale="bins", edges=[18, 65], missing="median"), [1, 20, 90])
    assert given.names_ == ["x=[-inf, 18)", "x=[18, 65)", "x=[65, inf)"]
    assert dense(given, {"x": [17.9, 18, 65, None]}) == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    equal = fitted(Numeric("x", scale="bins", missing="mean"), [5, 5, 5, 5])
    assert equal.names_ == ["x=[-inf, inf)"]


def test_several_values_in_a_cell() -> None:
    builder = fitted(MultiValued("g", separator="|"), ["b| a", "", None, "c|c", "a"])
    assert builder.names_ == ["g=a", "g=b", "g=c", "g:missing"]
    cells = ["a|b|a", "", None, "new|c", ["b", "c"]]
    assert dense(builder, {"g": cells}) == [[1, 1, 0, 0], [0] * 4, [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 1, 0]]
    lists = fitted(MultiValued("g", normalize="l1", missing="ignore"), [[1, 2, 3], (2,), np.array([1, 3]), [], None])
    assert lists.names_ == ["g=1", "g=2", "g=3"]
    third = round(1 / 3, 5)
    assert dense(lists, {"g": [[3, 2, 1, 1], [2, 9], [], None]}) == [[third] * 3, [0, 1, 0], [0] * 3, [0] * 3]
    l2 = fitted(MultiValued("g", normalize="l2", unknown="category", missing="ignore"), [["a", "b"]])
    assert dense(l2, {"g": [["a", "x", "y"]]}) == [[0.70711, 0, 0.70711]]
    counted = fitted(MultiValued("g", min_count=2), [["a", "a"], ["b"], ["b", "a"]])
    assert counted.names_ == ["g=a", "g=b", "g:missing"]
    assert fitted(MultiValued("g", min_count=2), [["a", "a"], ["b"], ["b"]]).names_ == ["g=b", "g:missing"]
    hashed = fitted(MultiValued("g", n_buckets=1, normalize="l1", missing="ignore"), [["a"]])
    assert dense(hashed, {"g": [["a", "b", "c"], []]}) == [[1], [0]]


def _pandas(columns: dict[str, Any]) -> Any:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("narwhals")
    return pd.DataFrame({**columns, "c": pd.Categorical(columns["c"])}, index=[7, 7, 1, 0])


def _polars(columns: dict[str, Any]) -> Any:
    pl = pytest.importorskip("polars")
    pytest.importorskip("narwhals")
    return pl.DataFrame(columns, strict=False)


def _arrow(columns: dict[str, Any]) -> Any:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("narwhals")
    return pa.table(columns)


@pytest.mark.parametrize("form", [dict, _pandas, _polars, _arrow])
def test_every_kind_of_table_gives_the_same(form: Callable[[Any], Any]) -> None:
    columns = {
        "c": ["b", None, "a", "a"],
        "i": [3, None, 1, 3],
        "b": [True, False, None, True],
        "n": [1.5, None, 2.5, 3.5],
        "g": [["x", "y"], [], None, ["y"]],
        "t": ["p|q", None, "", "q"],
    }
    kinds = [Categorical("c"), "i", "b", Numeric("n"), MultiValued("g"), MultiValued("t", separator="|")]
    builder = FeatureBuilder(kinds).fit(form(columns))
    reference = FeatureBuilder(kinds).fit(columns)
    assert builder.names_ == reference.names_
    assert builder.names_[:8] == ["c=a", "c=b", "c:missing", "i=1", "i=3", "i:missing", "b=False", "b=True"]
    assert builder.field_names_ == ["c", "i", "b", "n", "g", "t"]
    np.testing.assert_array_equal(builder.fields_, np.repeat(np.arange(6), [3, 3, 3, 2, 3, 3]))
    assert builder.fields_.dtype == np.int32
    assert dense(builder, form(columns)) == dense(reference, columns)
    assert builder.get_feature_names_out().tolist() == builder.names_
    assert columns["g"] == [["x", "y"], [], None, ["y"]]


def test_no_rows() -> None:
    builder = FeatureBuilder(["c", MultiValued("g")]).fit({"c": [], "g": []})
    assert builder.names_ == ["c:missing", "g:missing"]
    assert builder.transform({"c": [], "g": []}).shape == (0, 2)
    assert dense(builder, {"c": ["a"], "g": [["b"]]}) == [[0, 0]]


def test_sides_in_the_models_order() -> None:
    data = rf.Interactions.from_coo(["u1", "u2", "u2"], ["b", "a", "d"], raw_ids=True)
    table = {"item": ["x", "d", "a"], "year": [1990, 1995, 2000], "genre": ["g", "h", None]}
    builder = FeatureBuilder([Numeric("year", scale="none", missing="mean"), "genre"]).fit(table)
    side = builder.align(table, id="item", ids=data.item_ids)
    assert side.absent.tolist() == [data.item_ids.encode("b")]
    assert side.unknown == 1
    np.testing.assert_array_equal(side.matrix.toarray(), [[2000, 0, 0, 1], [1995, 0, 0, 1], [1995, 0, 1, 0]])
    empty = builder.align(table, id="item", ids=data.item_ids, absent="empty")
    np.testing.assert_array_equal(empty.matrix.toarray()[1], [0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"1 ids have no row in the table, such as 'b'"):
        builder.align(table, id="item", ids=data.item_ids, absent="error")
    numbered = builder.align({**table, "item": [2, 0, 9]}, id="item", ids=3)
    assert numbered.absent.tolist() == [1]
    assert numbered.matrix.toarray()[:, 0].tolist() == [1995, 1995, 1990]
    whole = builder.align({**table, "item": [2, 0, 1]}, id="item", ids=3, absent="error")
    assert not len(whole.absent)
    strict = FeatureBuilder([Categorical("genre", missing="error")]).fit({"genre": ["g"]})
    with pytest.raises(ValueError, match="a row without features has no 'genre'"):
        strict.align({"item": ["a"], "genre": ["g"]}, id="item", ids=data.item_ids)
    for bad, text in (({"item": ["a", "a"], "year": [1, 2], "genre": ["g", "g"]}, "'a' twice"),
                      ({"item": ["a", None], "year": [1, 2], "genre": ["g", "g"]}, "row 1 has no 'item'"),
                      ({"year": [1], "genre": ["g"]}, "'item' is not in the table")):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            builder.align(bad, id="item", ids=data.item_ids)
    with pytest.raises(TypeError, match=r"ids: got NoneType, expected an rf\.IdMap or a number"):
        builder.align(table, id="item", ids=None)
    with pytest.raises(ValueError, match="absent"):
        builder.align(table, id="item", ids=3, absent="drop")


BAD_TABLES: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "no table": (["x"], [[1, 2]], TypeError, "frame: got list"),
    "text as a column": (["x"], {"x": "abc"}, TypeError, "column 'x': got str"),
    "lengths differ": (["x"], {"x": [1], "y": [1, 2]}, ValueError, "lengths of the columns"),
    "no column at all": (["x"], {}, ValueError, "no column"),
    "column not there": (["x", "z"], {"x": [1]}, ValueError, "'z' is not in the table"),
    "lists declared categorical": (["x"], {"x": [["a"], ["b"]]}, TypeError, "Declare the column MultiValued"),
    "dates as categories": (["x"], {"x": np.array(["2024-01-01"], "M8[D]")}, TypeError, "a value of x"),
    "tuples as categories": (["x"], {"x": [("a", "b")]}, TypeError, "a value of x"),
    "text as numbers": ([Numeric("x")], {"x": ["1", "2"]}, TypeError, "'1', expected a number"),
    "infinite": ([Numeric("x")], {"x": [1.0, np.inf]}, ValueError, r"x\[1\]: got inf"),
    "nothing known": ([Numeric("x")], {"x": [None, NAN]}, ValueError, "every 'x' is missing"),
    "nothing frequent": (
        [Categorical("x", missing="most_frequent")],
        {"x": [None]},
        ValueError,
        "every 'x' is missing",
    ),
    "text without a separator": ([MultiValued("x")], {"x": ["a|b"]}, TypeError, r"x\[0\]: got 'a\|b', expected a list"),
    "numbers as lists": ([MultiValued("x", separator="|")], {"x": ["a", 5]}, TypeError, r"x\[1\]: got 5"),
    "lists of lists": ([MultiValued("x")], {"x": [[["a"]]]}, TypeError, "a value of x"),
    "two dimensions": ([Numeric("x")], {"x": np.ones((2, 2))}, ValueError, "dimensions"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_refused(case: str) -> None:
    columns, table, error, text = BAD_TABLES[case]
    with pytest.raises(error, match=text):
        FeatureBuilder(columns).fit(table)


BAD_COLUMNS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "missing": (lambda: Categorical("x", missing="drop"), ValueError, "missing of 'x': got 'drop', expected one of"),
    "mean of text": (lambda: Categorical("x", missing="mean"), ValueError, "missing"),
    "unknown": (lambda: Categorical("x", unknown="drop"), ValueError, "unknown of 'x'"),
    "fill without constant": (lambda: Categorical("x", fill="a"), ValueError, "fill of 'x'"),
    "constant without fill": (lambda: Numeric("x", missing="constant"), ValueError, "fill of 'x'"),
    "fill no number": (lambda: Numeric("x", missing="constant", fill=NAN), ValueError, "fill of 'x'"),
    "fill no category": (lambda: Categorical("x", missing="constant", fill=["a"]), TypeError, "fill of 'x'"),  # type: ignore[arg-type]
    "min_count": (lambda: Categorical("x", min_count=0), ValueError, "min_count of 'x': got 0"),
    "rare errors": (lambda: Categorical("x", min_count=2, unknown="error"), ValueError, "rare categories"),
    "buckets": (lambda: Categorical("x", n_buckets=0), ValueError, "n_buckets of 'x'"),
    "rare buckets": (lambda: MultiValued("x", n_buckets=5, min_count=2), ValueError, "n_buckets of 'x'"),
    "frequent buckets": (lambda: Categorical("x", n_buckets=5, missing="most_frequent"), ValueError, "n_buckets"),
    "scale": (lambda: Numeric("x", scale="log"), ValueError, "scale of 'x'"),
    "one bin": (lambda: Numeric("x", scale="bins", n_bins=1), ValueError, "n_bins of 'x'"),
    "edges down": (lambda: Numeric("x", scale="bins", edges=[2, 1]), ValueError, "ascending"),
    "edges of no bins": (lambda: Numeric("x", edges=[2, 1]), ValueError, 'unless scale="bins"'),
    "separator": (lambda: MultiValued("x", separator=""), ValueError, "separator of 'x'"),
    "normalize": (lambda: MultiValued("x", normalize="max"), ValueError, "normalize of 'x'"),
    "name": (lambda: Numeric(3), TypeError, "name of a column"),  # type: ignore[arg-type]
    "no columns": (lambda: FeatureBuilder([]).fit({"x": [1]}), ValueError, "columns: got none"),
    "twice": (lambda: FeatureBuilder(["x", Numeric("x")]).fit({"x": [1]}), ValueError, "'x' is declared twice"),
    "not a column": (lambda: FeatureBuilder([3]).fit({"x": [1]}), TypeError, "columns hold"),  # type: ignore[list-item]
    "one name": (lambda: FeatureBuilder("x").fit({"x": [1]}), TypeError, "a list of columns"),
}


@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_bad_declarations_are_refused(case: str) -> None:
    make, error, text = BAD_COLUMNS[case]
    with pytest.raises(error, match=text):
        make()


def test_nothing_works_before_fit(tmp_path: Any) -> None:
    builder = FeatureBuilder(["x"])
    for call in (
        lambda: builder.transform({"x": [1]}),
        lambda: builder.save(tmp_path / "x"),
        lambda: builder.n_features_,
        lambda: builder.align({"x": [1]}, id="x", ids=3),
        lambda: builder.get_feature_names_out(),
    ):
        with pytest.raises(NotFittedError, match="this FeatureBuilder is not fitted"):
            call()
    assert not list(tmp_path.iterdir())
    assert repr(builder) == "FeatureBuilder(['x'])"


def test_a_failed_fit_keeps_what_was_learned() -> None:
    builder = fitted(Numeric("x"), [1, 2, 3])
    before = dense(builder, {"x": [1, 2]})
    with pytest.raises(TypeError):
        builder.fit({"x": ["a"]})
    assert dense(builder, {"x": [1, 2]}) == before
