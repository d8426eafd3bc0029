"""Every named set on the real files: sizes, and the invariants of its split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_fast import datasets
from recsys_fast.data import Sequences, splits
from recsys_fast.datasets import Dataset

SIZES: dict[str, dict[str, tuple[int, int, int]]] = {
    "gowalla": {"train": (29_858, 40_981, 810_128), "test": (29_858, 40_981, 217_242)},
    "ml-100k": {"interactions": (943, 1_682, 100_000)},
    "ml-1m": {"interactions": (6_040, 3_952, 1_000_209)},
    "ml-1m-ncf": {"train": (6_040, 3_706, 994_169), "test": (6_040, 3_706, 6_040)},
    "ml-1m-sasrec": {"sequences": (6_040, 3_416, 999_611), "test": (6_040, 3_416, 6_040)},
    "ml-latest-small": {"interactions": (671, 9_066, 100_004)},
    "beauty": {"sequences": (22_363, 12_101, 198_502), "test": (22_363, 12_101, 22_363)},
    "toys": {"sequences": (19_412, 11_924, 167_597), "test": (19_412, 11_924, 19_412)},
    "yelp": {"interactions": (30_431, 20_033, 316_354 - 11_830), "test": (30_431, 20_033, 30_431)},
    "beauty-bert4rec": {"sequences": (40_226, 54_542, 353_962), "test": (40_226, 54_542, 40_226)},
    "diginetica": {"train": (186_670, 43_097, 906_140 - 144_020), "test": (15_963, 43_097, 76_821 - 12_484)},
    "yoochoose-1-64": {"train": (116_167, 17_745, 486_026 - 99_853), "test": (15_324, 17_745, 71_222 - 14_854)},
    "frappe": {"interactions": (957, 4_082, 18_842)},
    "citeulike-t": {"interactions": (7_947, 25_975, 134_860)},
    "hetrec-lastfm": {"interactions": (1_892, 17_632, 92_834)},
    "douban": {"train": (3_000, 3_000, 123_202), "test": (3_000, 3_000, 13_689)},
    "jester": {"interactions": (5_000, 100, 363_209)},
}
SEQUENCES = ("ml-1m-sasrec", "beauty", "toys", "yelp", "beauty-bert4rec")


def test_every_name_has_its_sizes_here() -> None:
    assert list(SIZES) == datasets.names()


@pytest.fixture(scope="module")
def loaded(data_dir: Path) -> Any:
    """Load each set once for this module."""
    cache: dict[str, Dataset] = {}

    def get(name: str) -> Dataset:
        if name not in cache:
            cache[name] = datasets.load(name, download=False)
        return cache[name]

    return get


@pytest.mark.parametrize("name", SIZES)
def test_sizes(loaded: Any, name: str) -> None:
    data = loaded(name)
    for part, (n_users, n_items, n) in SIZES[name].items():
        matrix = getattr(data, part)
        assert matrix.shape == (n_users, n_items)
        assert int(matrix.row_ptr[-1]) == n
    assert data.name == name
    assert name in repr(data)
    assert datasets.describe(name).found == data.source


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_and_their_leave_one_out_parts(loaded: Any, name: str) -> None:
    data = loaded(name)
    assert isinstance(data.sequences, Sequences)
    row_ptr, items = data.sequences.row_ptr, data.sequences.items
    lengths = np.diff(row_ptr)
    assert lengths.min() >= 3  # so every user has a test and a validation item
    assert np.array_equal(data.test.col_idx, items[row_ptr[1:] - 1])
    assert np.array_equal(data.extras["validation"].col_idx, items[row_ptr[1:] - 2])
    visits = len(data.train) if data.train.values is None else int(data.train.values.sum())
    assert visits + 2 * len(lengths) == len(items)
    # Each entry's timestamp is the last place at which its sequence holds the item.
    matrix = data.interactions
    assert np.array_equal(items[row_ptr[matrix.rows()] + matrix.timestamps], matrix.col_idx)
    for user in (0, len(lengths) // 2, len(lengths) - 1):
        sequence = items[row_ptr[user] : row_ptr[user + 1]].tolist()
        entries = slice(matrix.row_ptr[user], matrix.row_ptr[user + 1])
        last = {item: place for place, item in enumerate(sequence)}
        assert dict(zip(matrix.col_idx[entries].tolist(), matrix.timestamps[entries].tolist(), strict=True)) == last
    train, valid, test = splits.leave_one_out(data.sequences)
    assert np.array_equal(test.items, data.test.col_idx)
    assert np.array_equal(valid.items, data.extras["validation"].col_idx)
    assert np.array_equal(train.seen.col_idx, data.train.col_idx)


@pytest.mark.parametrize("name", ["diginetica", "yoochoose-1-64"])
def test_sessions_give_the_published_numbers_of_samples(loaded: Any, name: str) -> None:
    data = loaded(name)
    n_train, n_test = {"diginetica": (719_470, 60_858), "yoochoose-1-64": (369_859, 55_898)}[name]
    assert (data.sequences.lengths - 1).sum() == n_train
    histories, targets = data.test_sequences.prefixes()
    assert histories.shape == targets.shape == (n_test, data.sequences.n_items)
    assert np.array_equal(data.sequences.seen.col_idx, data.train.col_idx)


def test_repeat_visits_are_counted_and_kept(loaded: Any) -> None:
    data = loaded("yelp")
    assert data.interactions.values.sum() == data.sequences.n_events == 316_354
    assert loaded("beauty").interactions.values is None


@pytest.mark.parametrize("name", ["beauty", "toys", "yelp"])
def test_attributes_are_there_for_every_item(loaded: Any, name: str) -> None:
    data = loaded(name)
    assert len(data.extras["attribute_row_ptr"]) == data.sequences.n_items + 1
    assert data.extras["attribute_ids"].max() + 1 == data.extras["n_attributes"]


def test_movielens_100k_has_official_splits_and_side_tables(loaded: Any) -> None:
    data = loaded("ml-100k")
    assert data.given_splits() == ["u1", "ua"]
    train, test = data.given_split("u1")
    assert (len(train), len(test)) == (80_000, 20_000)
    assert test.shape == data.interactions.shape
    train, test = data.given_split("ua")
    assert np.array_equal(test.user_counts, np.full(943, 10))  # ua holds out ten ratings of each user
    row = data.interactions.row_ptr[195]
    entry = row + int(np.searchsorted(data.interactions.col_idx[row : data.interactions.row_ptr[196]], 241))
    assert (data.interactions.values[entry], data.interactions.timestamps[entry]) == (3.0, 881_250_949)
    assert data.extras["item_table"]["title"][0] == "Toy Story"
    assert len(data.extras["item_table"]["genres"]) == 1_682
    assert data.extras["user_table"]["occupation"][0] == "technician"


def test_movielens_1m_tables_and_time_rank_follow_the_entries(loaded: Any) -> None:
    data = loaded("ml-1m")
    assert data.extras["item_table"]["title"][1] == "Jumanji"
    assert len(data.extras["item_table"]["title"]) == 3_952
    assert len(data.extras["user_table"]["zip"]) == 6_040
    row_ptr, ranks, times = data.interactions.row_ptr, data.extras["time_rank"], data.interactions.timestamps
    for user in (0, 6_039):
        entries = slice(row_ptr[user], row_ptr[user + 1])
        by_rank = np.argsort(ranks[entries])
        assert np.array_equal(ranks[entries][by_rank], np.arange(len(by_rank)))
        assert (np.diff(times[entries][by_rank]) >= 0).all()
        assert np.array_equal(data.interactions.col_idx[entries][by_rank], data.sequences[user])


def test_ncf_holds_out_each_users_last_rating_and_gives_99_negatives(loaded: Any) -> None:
    data = loaded("ml-1m-ncf")
    assert np.array_equal(data.test.user_counts, np.ones(6_040))
    assert data.extras["negatives"].shape == (6_040, 99)
    assert int((data.extras["negatives"] == data.test.col_idx[:, None]).any(axis=1).sum()) == 156
    assert (data.train.csr * data.test.csr).nnz == 0
    latest = np.maximum.reduceat(data.train.timestamps, data.train.row_ptr[:-1])
    assert (data.test.timestamps >= latest).all()


def test_frappe_has_the_log_and_the_labelled_samples(loaded: Any) -> None:
    data = loaded("frappe")
    extras = data.extras
    assert extras["log"].shape == (96_203, 10)
    assert data.interactions.values.sum() == pytest.approx(extras["log_counts"].sum())
    assert [extras[f"X_{part}"].shape for part in ("train", "valid", "test")] == [
        (202_027, 10),
        (57_722, 10),
        (28_860, 10),
    ]
    assert set(extras["y_train"].tolist()) == {-1, 1}
    assert extras["n_features"] == 5_382
    assert len(extras["field_values"]["value"]) == 343
    assert len(extras["item_table"]["package"]) == 4_082


def test_citeulike_draws_and_text(loaded: Any) -> None:
    data = loaded("citeulike-t")
    train, test = data.given_split("p1")
    assert np.array_equal(train.user_counts, np.ones(7_947))
    assert len(train) + len(test) == 134_860
    assert len(data.given_split("p10")[0]) == 28_410
    assert len(data.extras["text_row_ptr"]) == 25_976
    assert len(data.extras["vocabulary"]) == 20_000 > data.extras["text_words"].max()


def test_remaining_extras(loaded: Any) -> None:
    assert len(loaded("hetrec-lastfm").extras["item_orig"]) == 17_632
    assert loaded("hetrec-lastfm").interactions.values.max() == 352_698
    assert loaded("douban").extras["user_graph"].shape == (2, 2_690)
    assert loaded("jester").interactions.values.min() == pytest.approx(-9.95)
    assert loaded("jester").extras["item_table"]["text"][0].startswith("A man visits the doctor")
    assert loaded("ml-latest-small").extras["item_orig"][-1] == 163_949
    assert len(loaded("ml-1m-sasrec").extras["user_orig"]) == 6_040
    with pytest.raises(ValueError, match=r"split of gowalla: got 'u1'.*no named splits"):
        loaded("gowalla").given_split("u1")
