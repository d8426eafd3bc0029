"""Pre-trained vectors: the usual files are read, damaged ones refused, and order is the model's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recsys_fast.data import IdMap, Vectors
from recsys_fast.errors import ModelFormatError

NAMES = ["red", "new york", "日本"]
VALUES = np.array([[1.5, -2], [0.25, 1e-3], [3, 4]], np.float32)


def _text(header: bool) -> str:
    """Return a file; without a header its first line says how many numbers there are."""
    lines = [f"{name} " + " ".join(map(repr, row)) for name, row in zip(NAMES, VALUES.tolist(), strict=True)]
    return "\n".join(([f"{len(NAMES)} 2"] if header else []) + lines) + "\n"


def _binary(newline: bytes = b"\n") -> bytes:
    rows = [
        name.encode() + b" " + row.astype("<f4").tobytes() + newline
        for name, row in zip(NAMES[::2], VALUES[::2], strict=True)
    ]
    return b"2 2\n" + b"".join(rows)


@pytest.mark.parametrize("header", [True, False], ids=["word2vec", "glove"])
def test_text_files_are_read(header: bool, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text(_text(header), encoding="utf-8")
    vectors = Vectors.from_text(tmp_path / "v.txt")
    assert vectors.names == NAMES
    np.testing.assert_array_equal(vectors.values, VALUES)
    assert Vectors.from_text(tmp_path / "v.txt", limit=2).names == NAMES[:2]


@pytest.mark.parametrize("newline", [b"\n", b""], ids=["word2vec", "gensim"])
def test_binary_files_are_read(newline: bytes, tmp_path: Path) -> None:
    (tmp_path / "v.bin").write_bytes(_binary(newline))
    vectors = Vectors.from_binary(tmp_path / "v.bin")
    assert vectors.names == NAMES[::2]
    np.testing.assert_array_equal(vectors.values, VALUES[::2])
    assert len(Vectors.from_binary(tmp_path / "v.bin", limit=1)) == 1


@pytest.mark.parametrize("names", [NAMES, [7, -3, 2**40]], ids=["text", "integers"])
def test_npz_files_are_read(names: list[object], tmp_path: Path) -> None:
    Vectors(names, VALUES).to_npz(tmp_path / "v.npz")
    vectors = Vectors.from_npz(tmp_path / "v.npz")
    assert vectors.names == names
    np.testing.assert_array_equal(vectors.values, VALUES)


def test_rows_come_in_the_models_order() -> None:
    vectors = Vectors(NAMES, VALUES)
    given = vectors.align(["日本", "blue", "red", "green"])
    np.testing.assert_array_equal(given.values, [VALUES[2], [0, 0], VALUES[0], [0, 0]])
    assert given.absent.tolist() == [1, 3]
    by_id = Vectors([30, 10], VALUES[:2]).align(IdMap(np.array([10, 20, 30])))
    np.testing.assert_array_equal(by_id.values, [VALUES[1], [0, 0], VALUES[0]])
    np.testing.assert_array_equal(vectors["new york"], VALUES[1])


def test_absent_rows_can_be_drawn() -> None:
    vectors = Vectors(range(200), np.random.default_rng(0).normal([5, -1], [0.1, 2], (200, 2)))
    one, again, other = (vectors.align(range(400), absent="normal", seed=seed).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one[200:] != other[200:]).all()
    np.testing.assert_allclose(one[200:].mean(axis=0), vectors.values.mean(axis=0), atol=0.6)
    np.testing.assert_allclose(one[200:].std(axis=0), vectors.values.std(axis=0), rtol=0.3)


BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "twice": (lambda: Vectors(["a", "a"], VALUES[:2]), ValueError, "'a' has two vectors"),
    "nan": (lambda: Vectors(["a", "b"], [[1, np.nan], [1, 2]]), ValueError, "vector of 'a': got inf or NaN"),
    "beyond float32": (lambda: Vectors(["a"], [[1e300]]), ValueError, "vector of 'a': got inf or NaN"),
    "shape": (lambda: Vectors(["a"], VALUES), ValueError, r"shape of values: got \(3, 2\)"),
    "name": (lambda: Vectors([1.5], VALUES[:1]), TypeError, "a name: got 1.5"),
    "length": (lambda: Vectors(NAMES, VALUES).align(NAMES, d=3), ValueError, "length of a vector: got 2, expected 3"),
    "other names": (lambda: Vectors(NAMES, VALUES).align([1, 2]), ValueError, "none of 2 names has a vector"),
    "absent": (
        lambda: Vectors(NAMES, VALUES).align(["red", "x"], absent="error"),
        ValueError,
        "1 names have no vector",
    ),
    "how": (lambda: Vectors(NAMES, VALUES).align(NAMES, absent="mean"), ValueError, "absent: got 'mean'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name: str) -> None:
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()


DAMAGED: dict[str, tuple[str, bytes]] = {
    "short line": ("from_text", b"2 3\na 1 2 3\nb 1 2\n"),
    "no number": ("from_text", b"a 1 2\nb 1 x\n"),
    "infinite": ("from_text", b"a 1 inf\n"),
    "same token": ("from_text", b"a 1 2\na 1 2\n"),
    "empty": ("from_text", b""),
    "header": ("from_binary", b"hello world\n"),
    "cut off": ("from_binary", _binary()[:-3]),
    "far too long": ("from_binary", b"999999999999 300\nabc"),
    "no npz": ("from_npz", b"PK\x03\x04 nothing"),
    "no zip": ("from_npz", b"nothing"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    reader, content = DAMAGED[name]
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(ModelFormatError):
        getattr(Vectors, reader)(tmp_path / "v")


def test_objects_in_npz_files_are_not_executed(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", names=np.array(["a", 1], object), values=VALUES[:2])
    with pytest.raises(ModelFormatError):
        Vectors.from_npz(tmp_path / "v.npz")
