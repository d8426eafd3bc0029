"""Texts to counts and ids: the vocabulary is the documented one, files hold all of it, and nothing else is taken."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_fast.data import TextEncoder
from recsys_fast.errors import ModelFormatError, NotFittedError

TEXTS = ["Red shoes, RED hat", "the hat's box", None, "", "blue SHOES", "…!", float("nan")]


def test_tokens_are_words_by_frequency() -> None:
    encoder = TextEncoder().fit(TEXTS)
    assert encoder.tokens_ == ["red", "shoes", "blue", "box", "hat", "hat's", "the"]
    rows = encoder.tokens(["hat red green RED", None, "green", "Box"])
    assert rows.row_ptr.tolist() == [0, 3, 3, 3, 4]
    assert rows.ids.tolist() == [4, 0, 0, 3]
    assert (rows.ids.dtype, rows.n_tokens) == (np.int32, 7)
    counts = encoder.transform(["hat red green RED", None, "green"]).toarray()
    assert counts.dtype == np.float32
    assert counts.tolist() == [[2, 0, 0, 0, 1, 0, 0], [0] * 7, [0] * 7]


def test_unicode_forms_are_one_word() -> None:
    encoder = TextEncoder().fit(["Caf\u00e9 \uff21\uff22 日本語"])
    assert encoder.tokens_ == ["ab", "café", "日本語"]
    assert encoder.tokens(["CAFE\u0301"]).ids.tolist() == [1]
    assert TextEncoder(lowercase=False).fit(["A a"]).tokens_ == ["A", "a"]


def test_runs_of_words_are_tokens_of_their_own() -> None:
    encoder = TextEncoder(ngrams=(2, 3)).fit(["a b c d"])
    assert encoder.tokens_ == ["a b", "a b c", "b c", "b c d", "c d"]
    assert TextEncoder(ngrams=(1, 2)).fit(["a b"]).tokens_ == ["a", "a b", "b"]


def test_rare_and_common_tokens_go() -> None:
    texts = ["a b c", "a b", "a d", "a b b"]
    assert TextEncoder(min_count=2).fit(texts).tokens_ == ["a", "b"]
    assert TextEncoder(max_share=0.75).fit(texts).tokens_ == ["b", "c", "d"]
    assert TextEncoder(max_size=1).fit(texts).tokens_ == ["a"]
    encoder = TextEncoder(min_count=2, unknown="token").fit(texts)
    assert encoder.n_tokens_ == 3
    assert encoder.tokens(["c a x"]).ids.tolist() == [2, 0, 2]


def test_hashed_tokens_need_no_vocabulary() -> None:
    encoder = TextEncoder(n_buckets=7).fit([])
    ids = encoder.tokens(["Été hat", ""]).ids
    assert ids.tolist() == [zlib.crc32("été".encode()) % 7, zlib.crc32(b"hat") % 7]
    assert encoder.transform(["hat"]).shape == (1, 7)


@pytest.mark.parametrize("norm", ["none", "l1", "l2"])
def test_weights_are_counts_times_idf(norm: str) -> None:
    encoder = TextEncoder(idf=True, norm=norm).fit(["a a b", "a c", "a"])
    row = encoder.transform(["a a b", ""]).toarray()
    expected = np.array([2 * (math.log(4 / 4) + 1), math.log(4 / 2) + 1, 0])
    expected /= {"none": 1.0, "l1": expected.sum(), "l2": np.linalg.norm(expected)}[norm]
    np.testing.assert_allclose(row[0], expected, rtol=1e-6)
    assert row[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "encoder",
    [TextEncoder(ngrams=(1, 2), idf=True, norm="l2", unknown="token"), TextEncoder(n_buckets=9, idf=True)],
    ids=["learned", "hashed"],
)
def test_what_comes_back_is_what_was_saved(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.fit([*TEXTS, "\ud800 日本"]).save(tmp_path / "t.json")
    loaded = TextEncoder.load(tmp_path / "t.json")
    assert loaded.tokens_ == encoder.tokens_
    assert loaded.fingerprint_ == encoder.fingerprint_
    assert (loaded.transform(TEXTS) != encoder.transform(TEXTS)).nnz == 0
    loaded.save(tmp_path / "u.json")
    assert (tmp_path / "u.json").read_bytes() == (tmp_path / "t.json").read_bytes()


def test_the_vocabulary_of_another_model_is_refused() -> None:
    one, other = TextEncoder().fit(["a b"]), TextEncoder().fit(["a c"])
    one.require(one.tokens(["b"]).fingerprint)
    with pytest.raises(ValueError, match=r"vocabulary of another model: got .* Load the encoder"):
        one.require(other.tokens(["a"]).fingerprint)
    assert TextEncoder(lowercase=False).fit(["a b"]).fingerprint_ != one.fingerprint_


FORGED: dict[str, Callable[[Any], Any]] = {
    "format": lambda content: content.update(format="other"),
    "key": lambda content: content.update(more=1),
    "param": lambda content: content["params"].update(min_count=-1),
    "unknown param": lambda content: content["params"].update(code="x"),
    "twice": lambda content: content["tokens"].append(content["tokens"][0]),
    "number": lambda content: content["tokens"].append(3),
    "none": lambda content: content["tokens"].clear(),
    "idf short": lambda content: content["idf"].pop(),
    "idf text": lambda content: content["idf"].__setitem__(0, "1"),
    "idf missing": lambda content: content.update(idf=None),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    TextEncoder(idf=True).fit(["a b"]).save(path)
    content = json.loads(path.read_text())
    FORGED[name](content)
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFormatError, match="is no file of a TextEncoder"):
        TextEncoder.load(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    for damage in (b"", b"\xff\xfe", b"[1]", b'{"format": ' + b"[" * 100000):
        (tmp_path / "t.json").write_bytes(damage)
        with pytest.raises(ModelFormatError):
            TextEncoder.load(tmp_path / "t.json")


BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "one text": (lambda: TextEncoder().fit("abc"), TypeError, "texts: got one text, expected a list"),
    "number": (lambda: TextEncoder().fit(["a", 3]), TypeError, r"texts\[1\]: got 3"),
    "nothing": (lambda: TextEncoder().fit(["", None, "..."]), ValueError, "no token is left of 0 in 3 texts"),
    "all rare": (lambda: TextEncoder(min_count=2).fit(["a b"]), ValueError, "no token is left of 2 in 1 texts"),
    "ngrams": (lambda: TextEncoder(ngrams=(2, 1)).fit(["a"]), ValueError, "ngrams"),
    "ngrams type": (lambda: TextEncoder(ngrams=2).fit(["a"]), TypeError, "ngrams"),  # type: ignore[arg-type]
    "share": (lambda: TextEncoder(max_share=0).fit(["a"]), ValueError, "max_share: got 0"),
    "buckets": (lambda: TextEncoder(n_buckets=4, min_count=2).fit(["a"]), ValueError, "hashed tokens are not"),
    "unfitted": (lambda: TextEncoder().transform(["a"]), NotFittedError, "Call fit"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name: str) -> None:
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()
