"""Damaged and hostile npz files."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_fast import datasets

GOOD = {"indptr": np.array([0, 2, 3], np.int32), "indices": np.array([0, 2, 1], np.int32), "shape": np.array([2, 3])}


def save(folder: Path, **changed: Any) -> None:
    """Write a gowalla of 2 x 3 whose training part has some arrays changed (None leaves one out)."""
    np.savez(folder / "gowalla_test.npz", **GOOD)
    arrays = {**GOOD, **changed}
    np.savez(folder / "gowalla_train.npz", **{key: array for key, array in arrays.items() if array is not None})


def test_the_good_file(folder: Path) -> None:
    save(folder)
    train = datasets.load("gowalla").train
    assert train is not None
    assert train.csr.toarray().tolist() == [[1, 0, 1], [0, 1, 0]]


DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "missing array": ({"indices": None}, r"gowalla_train.npz in .* has no array 'indices'.*indptr, shape"),
    "row pointers fall": ({"indptr": np.array([0, 3, 2])}, r"row pointers 'indptr' of gowalla_train.npz"),
    "row pointers too short": ({"indptr": np.array([0, 3])}, r"length of array 'indptr' .*: got 2, expected 3"),
    "row pointers beyond the end": ({"indptr": np.array([0, 2, 9])}, r"row pointers 'indptr' .*0 rising to 3"),
    "row pointers start late": ({"indptr": np.array([1, 2, 3])}, r"row pointers 'indptr'"),
    "item out of range": ({"indices": np.array([0, 3, 1])}, r"ids in 'indices' .*got 0 to 3, expected 0 <= id < 3"),
    "negative item": ({"indices": np.array([0, -1, 1])}, r"ids in 'indices' .*got -1 to 1"),
    "floats": ({"indices": np.array([0.0, 2.0, 1.0])}, r"array 'indices' .*: got 1-D float64, expected 1-D of kind"),
    "two dimensions": ({"indices": np.zeros((3, 1), int)}, r"array 'indices' .*: got 2-D int64"),
    "objects": ({"indices": np.array([0, None, 1], object)}, r"array 'indices' .*pickle.*never loaded"),
    "item twice": ({"indices": np.array([2, 2, 1])}, r"repeats the pair \(0, 2\)"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named(folder: Path, what: str) -> None:
    changed, expected = DAMAGE[what]
    save(folder, **changed)
    with pytest.raises(ValueError, match=expected):
        datasets.load("gowalla")


def test_not_an_npz_file(folder: Path) -> None:
    save(folder)
    for content in (b"", b"not a zip file", b"\x93NUMPY\x01\x00"):
        (folder / "gowalla_train.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"gowalla_train.npz in .* is not an npz file .*replace it"):
            datasets.load("gowalla")


def test_truncated_anywhere_it_is_an_error(folder: Path) -> None:
    save(folder)
    whole = (folder / "gowalla_train.npz").read_bytes()
    for length in range(0, len(whole), 37):
        (folder / "gowalla_train.npz").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"gowalla_train.npz"):
            datasets.load("gowalla")


def test_a_flipped_bit_never_passes_unseen(folder: Path) -> None:
    save(folder)
    whole = bytearray((folder / "gowalla_train.npz").read_bytes())
    expected = datasets.load("gowalla").train
    assert expected is not None
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        (folder / "gowalla_train.npz").write_bytes(damaged)
        try:
            train = datasets.load("gowalla").train
        except ValueError:
            continue
        # Bits of the archive's bookkeeping that nothing depends on.
        assert train is not None
        assert train.csr.toarray().tolist() == expected.csr.toarray().tolist()


def _npy(shape: str, payload: bytes, descr: str = "<i8", version: bytes = b"\x01\x00") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + payload


@pytest.mark.parametrize(
    ("shape", "version"),
    [
        ("(1000000000000000,)", b"\x01\x00"),
        ("(-1,)", b"\x01\x00"),
        ("(2, 4611686018427387905)", b"\x01\x00"),
        ("(3,)", b"\x07\x00"),
    ],
)
def test_a_header_that_lies_allocates_nothing(folder: Path, shape: str, version: bytes) -> None:
    save(folder)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("shape.npy", _npy("(2,)", struct.pack("<2q", 2, 3)))
        archive.writestr("indptr.npy", _npy(shape, b"\0" * 24, version=version))
        archive.writestr("indices.npy", _npy("(0,)", b""))
    (folder / "gowalla_train.npz").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match=r"array 'indptr' of gowalla_train.npz .* cannot be read"):
        datasets.load("gowalla")


def test_nan_ratings_are_refused(folder: Path) -> None:
    columns = {"user": np.array([0, 1]), "item": np.array([0, 1]), "timestamp": np.array([1, 2])}
    np.savez(folder / "ml100k_ratings.npz", rating=np.array([1.0, np.nan]), **columns)
    with pytest.raises(ValueError, match=r"array 'rating' of ml100k_ratings.npz .* holds NaN or infinity"):
        datasets.load("ml-100k")


def test_columns_of_different_length_are_refused(folder: Path) -> None:
    columns = {"user": np.array([0, 1]), "item": np.array([0, 1, 1]), "timestamp": np.array([1, 2])}
    np.savez(folder / "ml100k_ratings.npz", rating=np.array([1.0, 2.0]), **columns)
    with pytest.raises(ValueError, match=r"length of array 'item' .*: got 3, expected 2"):
        datasets.load("ml-100k")


def test_a_damaged_side_table_is_named(folder: Path) -> None:
    np.savez(folder / "frappe_raw.npz", X=np.zeros((1, 10), np.uint16), cnt=np.array([3]))
    (folder / "frappe_item_meta.tsv.gz").write_bytes(b"\x1f\x8b\x08 no")
    with pytest.raises(ValueError, match=r"frappe_item_meta.tsv.gz in .* is damaged"):
        datasets.load("frappe")
