from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_fast import serialization
from recsys_fast.errors import ModelFormatError
from recsys_fast.serialization import Reader, write


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {
        "factors": rng.standard_normal((5, 3)).astype(np.float32),
        "losses": rng.standard_normal(4),
        "ids": np.arange(6, dtype=np.int32),
        "offsets": np.array([0, 2**40], np.int64),
        "empty": np.empty((0, 7), np.float32),
        "bytes": np.frombuffer(b"\x00\xff\x10", np.uint8),
    }


def read_all(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with Reader(path) as reader:
        codes = {dtype: code for code, dtype in serialization._DTYPES.items()}
        return {name: reader.read(name, codes[spec.dtype], spec.shape) for name, spec in reader.specs.items()}


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    write(path, arrays(), {"kind": "test", "text": 'quotes " and ünicode'})
    found = read_all(path)
    for name, array in arrays().items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    with Reader(str(path)) as reader:
        assert reader.metadata["kind"] == "test"
        assert reader.metadata["text"] == 'quotes " and ünicode'
        assert reader.unread == set(arrays())
        reader.read("ids", "I32", (6,))
        assert "ids" not in reader.unread


def test_foreign_byte_order_and_strides_are_stored_right(tmp_path: Path) -> None:
    path = tmp_path / "x"
    table = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    write(path, {"table": table}, {})
    np.testing.assert_array_equal(read_all(path)["table"], table)


def test_safetensors_reads_our_files_and_we_read_theirs(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file, save_file

    path, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write(path, arrays(), {"kind": "test"})
    found = load_file(path)
    assert set(found) == set(arrays())
    for name, array in arrays().items():
        np.testing.assert_array_equal(found[name], array)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["kind"] == "test"
    save_file(arrays(), theirs, metadata={"kind": "theirs"})
    for name, array in read_all(theirs).items():
        np.testing.assert_array_equal(array, arrays()[name])


def test_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, arrays(), {"kind": "test"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_truncation_and_extension_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write(path, arrays(), {"kind": "test"})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFormatError):
            Reader(path)
    path.write_bytes(whole + b"\x00")
    with pytest.raises(ModelFormatError, match="size of the arrays"):
        Reader(path)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write(path, {"ids": np.arange(3, dtype=np.int32)}, {"kind": "test"})
    whole = path.read_bytes()
    missed = set()
    for position in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            try:
                with Reader(path) as reader:
                    if "checksum" in reader.metadata:
                        missed.add(position)
            except ModelFormatError:
                pass
    # A damaged key "checksum" leaves a file without one; model files must have it.
    assert not missed


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_noise_is_refused(tmp_path: Path, noise: bytes, length: int) -> None:
    path = tmp_path / "noise"
    for contents in (noise, length.to_bytes(8, "little") + noise, len(noise).to_bytes(8, "little") + noise):
        path.write_bytes(contents)
        try:
            read_all(path)
        except ModelFormatError:
            continue
        assert contents[8:].strip() == b"{}"


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BAD = {
    "empty file": b"",
    "header longer than the file": raw({}, length=1000),
    "header of 2^63 bytes": raw({}, length=2**63),
    "header beyond the limit": raw(b" " * (serialization.MAX_HEADER + 1)),
    "not JSON": raw(b"{"),
    "not UTF-8": raw(b'{"\xff":1}'),
    "a list": raw([]),
    "nested too deeply": raw(b'{"a":' * 100_000),
    "duplicate key": raw(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{}}'),
    "duplicate key inside": raw(b'{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
    "NaN in the header": raw(b'{"a":NaN}'),
    "an integer of 10000 digits": raw(b'{"a":' + b"9" * 10_000 + b"}"),
    "metadata not strings": raw({"__metadata__": {"a": 1}}),
    "metadata not an object": raw({"__metadata__": "a"}),
    "too many arrays": raw({str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(5000)}),
    "entry not an object": raw({"a": 5}),
    "unknown entry key": raw({"a": {**F32, "device": "cpu"}}, bytes(8)),
    "missing entry key": raw({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "unknown dtype": raw({"a": {**F32, "dtype": "F16"}}, bytes(8)),
    "dtype not a string": raw({"a": {**F32, "dtype": ["F32"]}}, bytes(8)),
    "shape a string": raw({"a": {**F32, "shape": "2"}}, bytes(8)),
    "negative shape": raw({"a": {**F32, "shape": [-2]}}, bytes(8)),
    "shape of floats": raw({"a": {**F32, "shape": [2.0]}}, bytes(8)),
    "shape of booleans": raw({"a": {**F32, "shape": [True, 2]}}, bytes(8)),
    "shape that overflows": raw({"a": {**F32, "shape": [2**61, 2**61, 2**61]}}, bytes(8)),
    "shape beyond 64 bits": raw({"a": {**F32, "shape": [2**70, 0]}}, bytes(8)),
    "too many dimensions": raw({"a": {**F32, "shape": [2] + [1] * 20}}, bytes(8)),
    "shape larger than the offsets": raw({"a": {**F32, "shape": [3]}}, bytes(8)),
    "offsets reversed": raw({"a": {**F32, "data_offsets": [8, 0]}}, bytes(8)),
    "three offsets": raw({"a": {**F32, "data_offsets": [0, 4, 8]}}, bytes(8)),
    "offsets past the end": raw({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(8)),
    "gap before": raw({"a": {**F32, "data_offsets": [4, 12]}}, bytes(12)),
    "bytes after": raw({"a": F32}, bytes(12)),
    "overlap": raw({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, bytes(12)),
    "same bytes twice": raw({"a": F32, "b": F32}, bytes(8)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(BAD[case])
    with pytest.raises(ModelFormatError, match="bad"):
        Reader(path)


def test_a_forged_checksum_does_not_match(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(raw({"__metadata__": {"checksum": "00000000"}, "a": F32}, bytes(8)))
    with pytest.raises(ModelFormatError, match="checksum"):
        Reader(path)


def test_read_asks_for_dtype_and_shape(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write(path, arrays(), {})
    with Reader(path) as reader:
        for name, dtype, shape in [("ids", "I64", (6,)), ("ids", "I32", (5,)), ("nothing", "I32", (6,))]:
            with pytest.raises(ModelFormatError):
                reader.read(name, dtype, shape)
        with pytest.raises(ModelFormatError):
            reader.length("nothing")


def test_write_refuses_other_dtypes(tmp_path: Path) -> None:
    for array in (np.array(["a"]), np.array([object()]), np.zeros(2, complex), np.zeros(2, np.float16)):
        with pytest.raises(TypeError, match="dtype"):
            write(tmp_path / "x", {"a": array}, {})
    assert not list(tmp_path.iterdir())


def test_write_refuses_a_header_beyond_the_limit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="header"):
        write(tmp_path / "x", {}, {"text": "a" * serialization.MAX_HEADER})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write(path, {"ids": np.arange(3, dtype=np.int32)}, {})
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write(path, arrays(), {})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_written_through_a_symbolic_link_with_the_usual_permissions(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write(link, arrays(), {})
    assert link.is_symlink()
    assert set(read_all(target)) == set(arrays())
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Reader(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "no folder" / "x", arrays(), {})
