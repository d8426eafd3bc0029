import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import IdMap, Interactions
from tests.data.helpers import check, entries, interactions

FULL = Interactions.from_coo(
    [0, 1, 1], [2, 0, 1], [1.5, 2, 3], [30, 20, 10], shape=(3, 4),
    user_ids=["a", "Zoë", ""], item_ids=[7, -3, 2**62, 0],
)  # fmt: skip


def rewrite(path: Path, **arrays: Any) -> Path:
    """Write the file again with some arrays changed, or left out where None."""
    with np.load(path, allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    kept.update(arrays)
    np.savez(path, **{name: array for name, array in kept.items() if array is not None})
    return path


@settings(max_examples=40, deadline=None)
@given(interactions(), st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, data: Interactions, compress: bool) -> None:
    path = tmp_path_factory.mktemp("npz") / "data.npz"
    data.to_npz(path, compress=compress)
    again = Interactions.from_npz(path)
    check(again)
    assert again.shape == data.shape
    assert entries(again) == entries(data)
    assert (again.values is None) == (data.values is None)


def test_ids_survive(tmp_path: Path) -> None:
    FULL.to_npz(tmp_path / "full.npz")
    again = Interactions.from_npz(str(tmp_path / "full.npz"))
    assert again.user_ids == FULL.user_ids
    assert again.item_ids == FULL.item_ids
    assert entries(again) == entries(FULL)
    assert [path.name for path in tmp_path.iterdir()] == ["full.npz"]
    empty = Interactions.from_coo([], [], raw_ids=True)
    empty.to_npz(tmp_path / "empty.npz")
    assert Interactions.from_npz(tmp_path / "empty.npz").shape == (0, 0)
    no_strings = Interactions.from_coo([], [], shape=(0, 1), user_ids=IdMap([]), item_ids=[""])
    no_strings.to_npz(tmp_path / "empty.npz")
    assert Interactions.from_npz(tmp_path / "empty.npz").item_ids == IdMap([""])


def test_other_ids_are_refused_and_leave_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    FULL.to_npz(path)
    before = path.read_bytes()
    tuples = Interactions.from_coo([(1,)], [(2,)], raw_ids=True)
    with pytest.raises(TypeError, match=r"user_ids in a file: got \(1,\), expected all integers or all strings"):
        tuples.to_npz(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        FULL.to_npz(tmp_path / "data.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"format": np.array("recsys_fast.interactions/9")}, "newer version"),
        ({"format": np.array(3)}, "newer version"),
        ({"format": None}, "newer version"),
        ({"shape": None}, "array 'shape' is not in"),
        ({"shape": np.array([3, 4, 5])}, "array 'shape'"),
        ({"shape": np.array([-1, 4])}, "0 to 2"),
        ({"shape": np.array([2, 4])}, "array 'row_ptr'.*length 3"),
        ({"shape": np.array([3, 2])}, "0 <= column < 2"),
        ({"row_ptr": np.array([0, 2, 1, 3])}, "decreases"),
        ({"row_ptr": np.array([0.0, 1, 3, 3])}, "array 'row_ptr'"),
        ({"col_idx": np.array([2, 1, 0])}, "unsorted or repeated"),
        ({"col_idx": np.array([2, 1, 1])}, "unsorted or repeated"),
        ({"col_idx": np.array([2, 0, -1])}, "column of entry 2"),
        ({"col_idx": np.array([[2], [0], [1]])}, "array 'col_idx'"),
        ({"col_idx": None}, "array 'col_idx' is not in"),
        ({"values": np.array([1, np.nan, 3], np.float32)}, "value of entry 1"),
        ({"values": np.array([1, 2], np.float32)}, "array 'values'.*length 3"),
        ({"timestamps": np.array([1, 2])}, "array 'timestamps'.*length 3"),
        ({"timestamps": None}, "both or neither"),
        ({"order": np.array([1, 1, 2])}, "distinct places"),
        ({"order": np.array([-1, 1, 2])}, "distinct places"),
        ({"item_ids": np.array([1, 2, 3])}, "array 'item_ids'.*length 4"),
        ({"item_ids": np.array([1, 2, 3, 3])}, "id 3 occurs more than once"),
        ({"user_ids_ends": np.array([1, 0, 5])}, "do not fill their text"),
        ({"user_ids_ends": np.array([1, 2, 99])}, "do not fill their text"),
        ({"user_ids_ends": np.array([1, 5])}, "length 3"),
        ({"user_ids_text": np.full(5, 255, np.uint8)}, "is damaged"),
        ({"user_ids_text": None}, "array 'user_ids_text' is not in"),
        ({"values": np.array([1, "a", None], object)}, "dtype object, expected numbers or text"),
    ],
    ids=repr,
)
def test_files_that_contradict_themselves(tmp_path: Path, arrays: Any, text: str) -> None:
    path = tmp_path / "data.npz"
    FULL.to_npz(path)
    with pytest.raises(ValueError, match=text):
        Interactions.from_npz(rewrite(path, **arrays))


def member(shape: tuple[int, ...], body: bytes, dtype: str = "<i4") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": dtype})
    return out.getvalue() + body


def test_claims_are_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "huge.npz"
    for shape in ((2**45,), (2**40, 2**40), (-4,)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("row_ptr.npy", member(shape, b"\0" * 16))
        with pytest.raises(ValueError, match=r"huge.npz is damaged"):
            Interactions.from_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("row_ptr.npy", member((4,), b"\0" * 16))
    with pytest.raises(ValueError, match="foreign compression"):
        Interactions.from_npz(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_occur_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("indptr.npy", member((4,), b"\0" * 16))
        archive.writestr("indptr.npy", member((4,), b"\0" * 16))
    with pytest.raises(ValueError, match="occurs twice"):
        Interactions.from_npz(path)


@pytest.mark.parametrize("compress", [True, False])
def test_truncated_and_corrupted_files(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "data.npz"
    FULL.to_npz(path, compress=compress)
    whole = path.read_bytes()
    for length in range(0, len(whole), 41):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"data.npz"):
            Interactions.from_npz(path)
    rng = np.random.default_rng(0)
    survived = 0
    for _ in range(300):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            check(Interactions.from_npz(path))
            survived += 1  # a bit nobody reads, such as the time of a member
        except (ValueError, TypeError):
            pass
    assert survived < 300


def test_not_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    for content in (b"", b"hello", b"PK\x05\x06" + b"\0" * 18):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"data.npz"):
            Interactions.from_npz(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        Interactions.from_npz(tmp_path / "none.npz")


def test_scipy_files(tmp_path: Path) -> None:
    matrix = sp.csr_array(np.array([[0, 2.0], [1, 0]]))
    sp.save_npz(tmp_path / "csr.npz", matrix)
    assert Interactions.from_npz(tmp_path / "csr.npz").csr.toarray().tolist() == [[0, 2], [1, 0]]
    sp.save_npz(tmp_path / "csc.npz", matrix.tocsc())
    with pytest.raises(ValueError, match=r"sparse format in csc.npz: got 'csc', expected 'csr'"):
        Interactions.from_npz(tmp_path / "csc.npz")


def test_plain_indptr_files(tmp_path: Path) -> None:
    path = tmp_path / "seq.npz"
    arrays: dict[str, Any] = {"indptr": np.array([0, 3, 4]), "indices": np.array([5, 2, 5, 0], np.int32)}
    np.savez(path, **arrays)
    assert Interactions.from_npz(path).shape == (2, 6)
    assert Interactions.from_npz(path).csr.toarray()[0].tolist() == [0, 0, 1, 0, 0, 2]
    np.savez(path, n_items=9, values=np.array([1.0, 2, 3, 4]), **arrays)
    data = Interactions.from_npz(path, duplicates="max")
    assert data.shape == (2, 9)
    assert [entry[:3] for entry in entries(data)] == [(0, 2, 2), (0, 5, 3), (1, 0, 4)]
    for bad, text in (
        ({"shape": np.array([3, 9])}, "rows of its shape"),
        ({"shape": np.array([2, 4])}, "5"),
        ({"n_items": 3}, "5"),
        ({"data": np.array([1.0])}, "array 'data'"),
        ({"indptr": np.empty(0, int)}, "length of indptr"),
        ({"indices": None}, "array 'indices' is not in"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=text):
            Interactions.from_npz(rewrite(path, **bad))
