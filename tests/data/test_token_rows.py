"""Rows of token ids in all their forms, and what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.data import TextEncoder, TokenRows
from recsys_fast.data.token_rows import as_token_rows


def test_all_forms_are_the_same_rows() -> None:
    encoder = TextEncoder(unknown="token").fit(["b a", "c"])
    encoded = encoder.tokens(["b a b", "", "d c"])
    lists = [[1, 0, 1], [], [3, 2]]
    forms = [
        encoded, lists, [np.array(row, np.uint8) for row in lists], rf.Sequences(lists, n_items=4),
        TokenRows(encoded.row_ptr.astype(np.int32), encoded.ids.astype(np.int64), 4),
    ]  # fmt: skip
    for given in forms:
        rows = as_token_rows(given)
        assert rows.row_ptr.tolist() == [0, 3, 3, 5]
        assert (rows.row_ptr.dtype, rows.ids.dtype) == (np.int64, np.int32)
        assert (rows.ids.tolist(), rows.n_tokens) == ([1, 0, 1, 3, 2], 4)
    assert list(as_token_rows(encoded).names) == ["a", "b", "c"]
    assert as_token_rows(encoded, n_tokens=9, vocabulary=encoder.fingerprint_).n_tokens == 9
    assert as_token_rows(lists, vocabulary="of nobody knows what").fingerprint == ""
    square = as_token_rows(np.arange(6).reshape(2, 3))
    assert (square.row_ptr.tolist(), square.n_tokens) == ([0, 3, 6], 6)
    assert as_token_rows([[], []], n_tokens=2).row_ptr.tolist() == [0, 0, 0]


def test_what_is_no_row_of_ids_is_refused() -> None:
    encoded = TextEncoder().fit(["a b"]).tokens(["b a"])
    bad: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (["a b", "c"], {}, TypeError, r"X\[0\]: got 'a b', expected token ids.*TextEncoder"),
        ("a b", {}, TypeError, "X: got str"),
        ([None, [1]], {}, TypeError, r"X\[0\]"),
        ([[0.5]], {}, TypeError, r"X\[0\]: got float64"),
        ([[[0]]], {}, TypeError, "2 dimensions"),
        (sp.csr_array(np.eye(2)), {}, TypeError, "no order"),
        (3, {}, TypeError, "X: got int"),
        ([], {}, ValueError, "X has no texts"),
        ([[], []], {}, ValueError, "number of tokens of X: got 0.*n_tokens"),
        ([[0], [1, 5]], {"n_tokens": 5}, ValueError, r"token at place 1 of X\[1\]: got 5, expected an id .* 0 to 4"),
        ([[0, -1]], {}, ValueError, r"place 1 of X\[0\]: got -1"),
        (encoded, {"vocabulary": "0" * 16}, ValueError, "vocabulary of X: got .* expected 0000"),
        (TokenRows(np.array([0, 3, 2]), np.array([0, 1]), 2), {}, ValueError, "row_ptr of X"),
        (TokenRows(np.array([0.0, 2.0]), np.array([0, 1]), 2), {}, TypeError, "row_ptr and ids of X"),
    ]
    for given, how, error, text in bad:
        with pytest.raises(error, match=text):
            as_token_rows(given, **how)
