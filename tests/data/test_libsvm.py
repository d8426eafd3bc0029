from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.data.libsvm import iter_libffm, iter_libsvm, layout_of, read_libffm, read_libsvm

SVM = b"1 0:1.5 3:-2\n# a comment\n-1\n\n0.5 2:1e-1  # behind\n+1\t1:3 0:.25"
FFM = b"1 0:0:1 1:3:1\n0 0:2:0.5\n1\n"


def write(tmp_path: Path, text: bytes, name: str = "rows.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


@pytest.mark.parametrize("chunk_bytes", [1, 7, 20, 10**6])
@pytest.mark.parametrize("name", ["rows.txt", "rows.gz"])
def test_libsvm(tmp_path: Path, chunk_bytes: int, name: str) -> None:
    rows = read_libsvm(write(tmp_path, SVM, name), chunk_bytes=chunk_bytes)
    assert rows.matrix.shape == (4, 4)
    assert rows.matrix.row_ptr.tolist() == [0, 2, 2, 3, 5]
    assert rows.matrix.col_idx.tolist() == [0, 3, 2, 1, 0]
    assert rows.matrix.values is not None
    np.testing.assert_allclose(rows.matrix.values, [1.5, -2, 0.1, 3, 0.25])
    assert rows.targets.tolist() == [1, -1, 0.5, 1]
    assert rows.fields is None
    assert rows.groups is None


@pytest.mark.parametrize("chunk_bytes", [1, 7, 10**6])
def test_libffm(tmp_path: Path, chunk_bytes: int) -> None:
    rows = read_libffm(write(tmp_path, FFM), n_features=6, chunk_bytes=chunk_bytes)
    assert rows.matrix.shape == (3, 6)
    assert rows.matrix.col_idx.tolist() == [0, 3, 2]
    assert rows.fields is not None
    assert rows.fields.tolist() == [0, 1, 0]
    assert rows.targets.tolist() == [1, 0, 1]


def test_groups_and_one_based(tmp_path: Path) -> None:
    rows = read_libsvm(write(tmp_path, b"1 qid:7 1:1\n0 qid:7\n1 qid:-2 2:1\n"), one_based=True)
    assert rows.groups is not None
    assert rows.groups.tolist() == [7, 7, -2]
    assert rows.matrix.col_idx.tolist() == [0, 1]
    assert rows.targets.tolist() == [1, 0, 1]


def test_empty_files(tmp_path: Path) -> None:
    for text in (b"", b"\n# nothing\n"):
        rows = read_libsvm(write(tmp_path, text))
        assert rows.matrix.shape == (0, 0)
        assert len(rows.targets) == 0
    assert read_libffm(write(tmp_path, b""), n_features=3).matrix.shape == (0, 3)


BAD: list[tuple[bytes, dict[str, Any], str]] = [
    (b"1 0:1\n1 a:1\n", {}, r"line 2 of rows.txt: got 'a:1'"),
    (b"1 0:1\nyes 0:1\n", {}, r"line 2 .*'yes'.* a target"),
    (b"1 0:1\n\n1 0:1:2\n", {}, "line 3 .*'0:1:2'.*index:value"),
    (b"1 0:1 3\n", {}, "line 1 .*'3'"),
    (b"1 0: 1\n", {}, "line 1 .*'0:'"),
    (b"1 0::1\n", {}, "line 1"),
    (b"1 0:1\n1 -1:1\n", {}, "index in line 2 of rows.txt: got -1"),
    (b"1 1.5:1\n", {}, "index in line 1"),
    (b"1 99999999999:1\n", {}, "index in line 1"),
    (b"1 5:1\n", {"n_features": 5}, "index in line 1.*0 to 4"),
    (b"1 0:1\n", {"one_based": True}, "index in line 1.*one_based=False"),
    (b"1 0:nan\n", {}, "value in line 1"),
    (b"1 0:1e300\n", {}, "value in line 1"),
    (b"inf 0:1\n", {}, "target in line 1"),
    (b"1 qid:1 0:1\n0 0:1\n", {}, "line 2 .*qid"),
    (b"0 0:1\n1 qid:1 0:1\n", {}, "line 2 .*qid"),
    (b"1 qid:1.5 0:1\n", {}, "qid in line 1"),
    (b"1 qid:x 0:1\n", {}, "line 1 .*qid"),
    (b"1 0:1\n", {"n_features": -1}, "n_features"),
    (b"1 0:1\n", {"chunk_bytes": 0}, "chunk_bytes"),
]


@pytest.mark.parametrize("chunk_bytes", [5, 10**6])
@pytest.mark.parametrize(("text", "options", "expected"), BAD)
def test_bad_lines_are_named(
    tmp_path: Path, text: bytes, options: dict[str, Any], expected: str, chunk_bytes: int
) -> None:
    if "qid" in expected and "line 2" in expected and chunk_bytes == 5:
        expected = "qid"  # lines of two parts
    with pytest.raises(ValueError, match=expected):
        read_libsvm(write(tmp_path, text), **{"chunk_bytes": chunk_bytes, **options})


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"1 0:1\n", "field:index:value"), (b"1 0:0:1\n1 -1:0:1\n", "field in line 2"), (b"1 0:0:x\n", "'0:0:x'")],
)
def test_bad_fields_are_named(tmp_path: Path, text: bytes, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read_libffm(write(tmp_path, text))


def test_models_take_what_the_readers_give(tmp_path: Path, device: str) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{rng.integers(2)} 0:{rng.integers(5)}:1 1:{5 + rng.integers(5)}:0.5\n" for _ in range(80)]
    lines[:2] = ["0 0:0:1\n", "1 1:5:1\n"]
    path = write(tmp_path, "".join(lines).encode())
    whole = read_libffm(path)
    model = rf.FFM(2, n_epochs=1, random_state=0, device=device).fit(whole.matrix, whole.targets, fields=whole.fields)
    assert model.n_fields_ == 2
    parts = rf.FFM(2, random_state=0, device=device)
    for part in iter_libffm(path, n_features=10, chunk_bytes=400):
        parts.partial_fit(part.matrix, part.targets, fields=part.fields)
    assert parts.n_epochs_ > 2
    svm = write(tmp_path, b"1 0:1\n0 1:1\n" * 20, "s")
    for part in iter_libsvm(svm, n_features=2, chunk_bytes=50):
        rf.FM(2, device=device).partial_fit(part.matrix, part.targets)


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        (SVM, "libsvm"),
        (FFM, "libffm"),
        (b"", "libsvm"),
        (b"1\n0\n", "libsvm"),
        (b"# 1 0:1:1\n\n1\n1 qid:3 0:1\n", "libsvm"),
        (b"1\n-1e3 0:0:1", "libffm"),
    ],
)
@pytest.mark.parametrize("name", ["rows.txt", "rows.gz"])
def test_the_layout_shows(tmp_path: Path, text: bytes, layout: str, name: str) -> None:
    assert layout_of(write(tmp_path, text, name)) == layout


@pytest.mark.parametrize("text", [b"user,item\n", b"1 0:1:1:1\n", b"1 2 3\n", b"yes 0:1\n", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_other_text_has_no_layout(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ValueError, match=r"line 1 of rows.txt: got .*, expected libsvm .* or libffm"):
        layout_of(write(tmp_path, text))
