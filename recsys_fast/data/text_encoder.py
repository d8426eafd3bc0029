"""Short texts to counts, weights or rows of token ids: titles, descriptions, tags, reviews."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.data.columns import is_missing
from recsys_fast.errors import ModelFormatError, NotFittedError, message
from recsys_fast.serialization import replacing

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_FORMAT = "recsys_fast.texts/1"
_MAX_FILE = 1 << 30
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_UNKNOWN, _NORMS = ("ignore", "token"), ("none", "l1", "l2")


class TokenRows(NamedTuple):
    """Texts as ragged rows of ids; text k has ``ids[row_ptr[k]:row_ptr[k + 1]]``, none where it is empty or unknown.

    Attributes:
        row_ptr: ``(n_texts + 1,) int64``.
        ids: ``(n_ids,) int32``, from 0 to ``n_tokens - 1``.
        n_tokens: number of tokens there are.
        fingerprint: of the encoder that made them; ids of another one mean something else.
        names: ``tokens_`` of that encoder; empty where they are hashed or not known.
    """

    row_ptr: NDArray[np.int64]
    ids: NDArray[np.int32]
    n_tokens: int
    fingerprint: str = ""
    names: Sequence[str] = ()


class TextEncoder:
    """A vocabulary of words and n-grams, learned by ``fit`` or hashed, and what texts become by it.

    Text is brought to Unicode form NFKC and, unless told otherwise, to lower case; a word is a run of letters, digits
    and underscores, with apostrophes inside. Tokens are numbered by how often they occur, most often first, equal ones
    in the order of their text. None and NaN are empty texts. An empty text, and one of unknown words only, becomes an
    empty row.

    Args:
        lowercase: whether case is dropped.
        ngrams: (shortest, longest) run of words that is a token, such as (1, 2) for words and pairs.
        min_count: tokens that occur less often in the texts of ``fit`` are unknown.
        max_share: tokens that are in a larger share of its texts are unknown; 1 keeps all.
        max_size: number of tokens to keep at most, the most frequent ones; None for all.
        n_buckets: hash tokens into so many ids (CRC-32 of their UTF-8 bytes) instead of learning a vocabulary.
        unknown: "ignore", or "token": an id of its own behind all others.
        idf: ``transform`` weighs counts by ``log((1 + n) / (1 + n_t)) + 1``, n_t of the n texts of ``fit`` having the
            token.
        norm: "none", or "l1", "l2": rows of ``transform`` scaled to that length.

    Attributes:
        tokens_: the tokens, place k has id k; empty where they are hashed.
        n_tokens_: number of ids.
        fingerprint_: 16 hexadecimal digits of all that ids depend on.

    Examples:
        >>> encoder = TextEncoder().fit(["Red shoes", "red hat", None])
        >>> encoder.tokens_
        ['red', 'hat', 'shoes']
        >>> encoder.tokens(["RED hat, blue hat", ""]).ids
        array([0, 1, 1], dtype=int32)
        >>> encoder.transform(["RED hat, blue hat", ""]).toarray()
        array([[1., 2., 0.],
               [0., 0., 0.]], dtype=float32)
    """

    tokens_: list[str]
    _idf: NDArray[np.float64] | None

    def __init__(
        self,
        *,
        lowercase: bool = True,
        ngrams: tuple[int, int] = (1, 1),
        min_count: int = 1,
        max_share: float = 1.0,
        max_size: int | None = None,
        n_buckets: int | None = None,
        unknown: str = "ignore",
        idf: bool = False,
        norm: str = "none",
    ) -> None:
        self.lowercase, self.ngrams, self.min_count, self.max_share = lowercase, ngrams, min_count, max_share
        self.max_size, self.n_buckets, self.unknown, self.idf, self.norm = max_size, n_buckets, unknown, idf, norm

    def _check(self) -> None:
        pair = self.ngrams
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(type(n) is int for n in pair):
            raise TypeError(message("ngrams", repr(pair)[:80], "a pair of ints such as (1, 2)"))
        if not 1 <= pair[0] <= pair[1] <= 16:
            raise ValueError(message("ngrams", repr(pair), "1 <= shortest <= longest <= 16"))
        for name in ("lowercase", "idf"):
            if type(getattr(self, name)) is not bool:
                raise TypeError(message(name, repr(getattr(self, name))[:80], "True or False"))
        for name, optional in (("min_count", False), ("max_size", True), ("n_buckets", True)):
            value = getattr(self, name)
            if value is None and optional:
                continue
            if type(value) is not int or not 1 <= value < 2**31 - 1:
                raise ValueError(message(name, repr(value)[:80], "an int from 1 to 2**31 - 2"))
        if not isinstance(self.max_share, (int, float)) or not 0 < self.max_share <= 1:
            raise ValueError(message("max_share", repr(self.max_share)[:80], "above 0, at most 1"))
        for name, allowed in (("unknown", _UNKNOWN), ("norm", _NORMS)):
            if getattr(self, name) not in allowed:
                raise ValueError(message(name, repr(getattr(self, name))[:80], "one of " + ", ".join(allowed)))
        if self.n_buckets is not None and (self.min_count > 1 or self.max_size is not None or self.max_share < 1):
            mend = "leave min_count, max_share and max_size as they are"
            raise ValueError(message("n_buckets with a choice of tokens: hashed tokens are not counted", mend=mend))

    # ---- learning

    def fit(self, texts: Iterable[Any], y: Any = None) -> Self:
        """Learn the vocabulary, and in how many texts each token is.

        Raises:
            TypeError: something that is no text.
            ValueError: no token at all is left, or a parameter is out of its range.
        """
        self._check()
        counts: Counter[str] = Counter()
        within: Counter[Any] = Counter()
        n_texts = 0
        for tokens in self._split(texts):
            n_texts += 1
            counts.update(tokens)
            within.update({self._bucket(token) for token in tokens} if self.n_buckets else set(tokens))
        if self.n_buckets is not None:
            known: list[str] = []
            seen = [within[bucket] for bucket in range(self.n_buckets)]
        else:
            most = self.max_share * n_texts
            known = [token for token, count in counts.items() if count >= self.min_count and within[token] <= most]
            known = sorted(known, key=lambda token: (-counts[token], token))[: self.max_size]
            if not known:
                what = f"no token is left of {len(counts)} in {n_texts} texts"
                raise ValueError(message(what, mend="lower min_count, or raise max_share"))
            seen = [within[token] for token in known]
        seen += [0] * (self.unknown == "token")
        idf = np.log((1 + n_texts) / (1 + np.array(seen, np.float64))) + 1 if self.idf else None
        self._take(known, idf)
        return self

    def _take(self, tokens: list[str], idf: NDArray[np.float64] | None) -> None:
        self.tokens_, self._idf = tokens, idf
        self._index = {token: place for place, token in enumerate(tokens)}
        self._n_known = self.n_buckets or len(tokens)

    def _check_fitted(self) -> None:
        if "tokens_" not in vars(self):
            raise NotFittedError(message("this TextEncoder is not fitted", mend="call fit(texts), or load a file"))

    @property
    def n_tokens_(self) -> int:
        """Number of ids, that of unknown tokens included."""
        self._check_fitted()
        return self._n_known + (self.unknown == "token")

    @property
    def fingerprint_(self) -> str:
        """Sixteen hexadecimal digits of all that ids depend on."""
        self._check_fitted()
        parts = [self.lowercase, list(self.ngrams), self.n_buckets, self.unknown, self.tokens_]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def require(self, fingerprint: str) -> None:
        """Raise unless ids of this encoder mean what those of the other one meant.

        Raises:
            ValueError: it is the fingerprint of another vocabulary.
        """
        if fingerprint != self.fingerprint_:
            mend = "load the encoder that was saved with the model"
            raise ValueError(message("vocabulary of another model", fingerprint, self.fingerprint_, mend))

    # ---- use

    def _split(self, texts: Iterable[Any]) -> Iterator[list[str]]:
        """Return the tokens of each text, in order; all of one length before longer ones."""
        if isinstance(texts, (str, bytes)):
            raise TypeError(message("texts", "one text", "a list of texts", "pass [text]"))
        shortest, longest = self.ngrams
        for place, text in enumerate(texts):
            if is_missing(text):
                yield []
                continue
            if not isinstance(text, str):
                raise TypeError(message(f"texts[{place}]", repr(text)[:80], "a str or None"))
            plain = unicodedata.normalize("NFKC", text)
            words = _WORD.findall(plain.lower() if self.lowercase else plain)
            tokens = words if shortest == 1 else []
            for n in range(max(2, shortest), longest + 1):
                tokens = tokens + [" ".join(words[k : k + n]) for k in range(len(words) - n + 1)]
            yield tokens

    def _bucket(self, token: str) -> int:
        return zlib.crc32(token.encode("utf-8", "surrogatepass")) % (self.n_buckets or 1)

    def tokens(self, texts: Iterable[Any]) -> TokenRows:
        """Return the ids of each text's tokens in order, ragged: what word vectors and text networks take.

        Raises:
            NotFittedError: before ``fit``.
            TypeError: something that is no text.
        """
        self._check_fitted()
        lengths, ids = [], []
        unknown = self._n_known if self.unknown == "token" else -1
        for tokens in self._split(texts):
            if self.n_buckets is not None:
                found = [self._bucket(token) for token in tokens]
            else:
                found = [place for token in tokens if (place := self._index.get(token, unknown)) >= 0]
            lengths.append(len(found))
            ids.extend(found)
        row_ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(lengths, np.int64))])
        return TokenRows(row_ptr, np.array(ids, np.int32), self.n_tokens_, self.fingerprint_, self.tokens_)

    def transform(self, texts: Iterable[Any]) -> csr_array:
        """Return how often each text has each token, times its idf if asked for: ``(n_texts, n_tokens) float32``.

        Raises:
            NotFittedError: before ``fit``.
            TypeError: something that is no text.
        """
        from scipy.sparse import csr_array

        rows = self.tokens(texts)
        n = len(rows.row_ptr) - 1
        owner = np.repeat(np.arange(n, dtype=np.int32), np.diff(rows.row_ptr))
        counts = ops.csr_from_coo(
            owner, rows.ids, np.ones(len(owner), np.float32), shape=(n, rows.n_tokens), duplicates="sum", name="texts"
        )[0]
        values = counts.or_empty().astype(np.float64)
        if self._idf is not None:
            values = values * self._idf[counts.col_idx]
        if self.norm != "none":
            owner = np.repeat(np.arange(n), np.diff(counts.row_ptr))
            lengths = np.bincount(owner, values if self.norm == "l1" else values**2, n)[owner]
            values = values / (lengths if self.norm == "l1" else np.sqrt(lengths))
        shape = (n, rows.n_tokens)
        matrix = csr_array((values.astype(np.float32), counts.col_idx, counts.row_ptr), shape=shape)
        matrix.has_canonical_format = True
        return matrix

    def fit_transform(self, texts: Iterable[Any], y: Any = None) -> csr_array:
        """Return the counts of the texts that are learned from; see ``fit`` and ``transform``."""
        kept = list(texts) if not isinstance(texts, (str, bytes)) else texts
        return self.fit(kept).transform(kept)

    # ---- files

    def _params(self) -> dict[str, Any]:
        names = ("lowercase", "ngrams", "min_count", "max_share", "max_size", "n_buckets", "unknown", "idf", "norm")
        return {name: getattr(self, name) for name in names}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and vocabulary to a JSON file, atomically.

        Raises:
            NotFittedError: before ``fit``.
            OSError: the file cannot be written.
        """
        self._check_fitted()
        idf = None if self._idf is None else self._idf.tolist()
        content = {"format": _FORMAT, "params": self._params(), "tokens": self.tokens_, "idf": idf}
        with replacing(Path(os.path.realpath(path))) as file:
            file.write(json.dumps(content, allow_nan=False).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextEncoder:
        """Return the encoder that ``save`` wrote; nothing in the file is executed.

        Raises:
            ModelFormatError: not such a file, or damaged.
            OSError: it cannot be read.
        """
        file = Path(path)
        try:
            if file.stat().st_size > _MAX_FILE:
                raise ValueError(message("size", file.stat().st_size, f"at most {_MAX_FILE} bytes"))
            encoder = cls._restored(json.loads(file.read_bytes().decode()))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            what = f"{os.fspath(path)} is no file of a TextEncoder ({error})"
            raise ModelFormatError(message(what, mend="save it again")) from None
        return encoder

    @classmethod
    def _restored(cls, content: Any) -> TextEncoder:
        if not isinstance(content, dict) or set(content) != {"format", "params", "tokens", "idf"}:
            raise ValueError(message("content", repr(content)[:80], "format, params, tokens and idf"))
        params, tokens, idf = content["params"], content["tokens"], content["idf"]
        if content["format"] != _FORMAT or not isinstance(params, dict) or set(params) != set(cls()._params()):
            raise ValueError(message("format or params", repr(content)[:80], _FORMAT))
        encoder = cls(**{**params, "ngrams": tuple(params["ngrams"])})
        encoder._check()
        plain = isinstance(tokens, list) and all(type(token) is str for token in tokens)
        if not plain or len(set(tokens)) != len(tokens) or bool(tokens) == (encoder.n_buckets is not None):
            raise ValueError(message("tokens", repr(tokens)[:80], "distinct texts, none where tokens are hashed"))
        encoder._take(tokens, None)
        if encoder.idf:
            floats = isinstance(idf, list) and all(type(x) is float and np.isfinite(x) and x > 0 for x in idf)
            if not floats or len(idf) != encoder.n_tokens_:
                raise ValueError(message("idf", repr(idf)[:80], "a number above 0 for each token"))
            encoder._idf = np.array(idf)
        elif idf is not None:
            raise ValueError(message("idf", repr(idf)[:80], "none"))
        return encoder

    def __repr__(self) -> str:
        changed = {k: v for k, v in self._params().items() if v != vars(TextEncoder())[k]}
        inner = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        fitted = f" of {self.n_tokens_} tokens" if "tokens_" in vars(self) else ""
        return f"TextEncoder({inner}){fitted}"
