"""The forms in which sets are published, on tiny files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recsys_fast import datasets
from recsys_fast.data.interactions import Interactions


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def entries(matrix: Interactions | None) -> dict[tuple[int, int], tuple[float | None, int | None]]:
    """Return {(user, item): (value, time)}."""
    assert matrix is not None
    values = [None] * len(matrix) if matrix.values is None else matrix.values.tolist()
    times = [None] * len(matrix) if matrix.timestamps is None else matrix.timestamps.tolist()
    pairs = zip(matrix.rows().tolist(), matrix.col_idx.tolist(), strict=True)
    return dict(zip(pairs, zip(values, times, strict=True), strict=True))


def pairs(matrix: Interactions | None) -> set[tuple[int, int]]:
    return set(entries(matrix))


def test_gowalla_lightgcn_text(folder: Path) -> None:
    write(folder / "gowalla" / "train.txt", "0 3 1\n1 0\n3 2 0\n")
    write(folder / "gowalla" / "test.txt", "0 2\n1\n3 5 \n\n")  # a user without test items, a trailing blank
    data = datasets.load("gowalla")
    assert data.train is not None
    assert data.test is not None
    assert data.train.shape == data.test.shape == (4, 6)
    assert pairs(data.train) == {(0, 1), (0, 3), (1, 0), (3, 0), (3, 2)}
    assert pairs(data.test) == {(0, 2), (3, 5)}


def test_movielens_100k(folder: Path) -> None:
    home = folder / "ml-100k"
    write(home / "u.data", "2\t3\t4\t30\n1\t1\t5\t10\n1\t3\t2\t20\n")
    write(home / "u1.test", "1\t3\t2\t20\n")
    flags = ["|".join("1" if genre in on else "0" for genre in range(19)) for on in ({3, 5}, set(), {18})]
    titles = ("Toy Story (1995)", "unknown", "Carnaval à Rio (1996)")
    rows = [f"{i + 1}|{title}|01-Jan-1995||http://x|{flags[i]}" for i, title in enumerate(titles)]
    write(home / "u.item", "\n".join(rows) + "\n", "latin-1")
    write(home / "u.user", "1|24|M|technician|85711\n2|53|F|other|94043\n")
    data = datasets.load("ml-100k")
    assert entries(data.interactions) == {(0, 0): (5, 10), (0, 2): (2, 20), (1, 2): (4, 30)}
    assert data.given_splits() == ["u1"]
    train, test = data.given_split("u1")
    assert (pairs(train), pairs(test)) == ({(0, 0), (1, 2)}, {(0, 2)})
    films = data.extras["item_table"]
    assert films["title"].tolist() == ["Toy Story", "unknown", "Carnaval à Rio"]
    assert films["year"].tolist() == ["1995", "", "1996"]
    assert films["genres"].tolist() == ["Animation Comedy", "", "Western"]
    assert data.extras["user_table"]["zip"].tolist() == ["85711", "94043"]


def test_movielens_1m(folder: Path) -> None:
    home = folder / "ml-1m"
    write(home / "ratings.dat", "1::5::4::200\n1::2::3::100\n1::1::5::200\n2::2::1::50\n")
    write(home / "movies.dat", "1::Toy Story (1995)::Animation|Comedy\n5::Misérables, Les (1995)::Drama\n", "latin-1")
    write(home / "users.dat", "1::F::1::10::48067\n2::M::56::16::70072\n")
    data = datasets.load("ml-1m")
    assert entries(data.interactions) == {(0, 0): (5, 200), (0, 1): (3, 100), (0, 4): (4, 200), (1, 1): (1, 50)}
    assert data.extras["time_rank"].tolist() == [2, 0, 1, 0]  # equal times keep the order of the file
    assert data.extras["item_table"]["title"].tolist() == ["Toy Story", "", "", "", "Misérables, Les"]
    assert data.extras["user_table"]["gender"].tolist() == ["F", "M"]


def test_movielens_latest_small(folder: Path) -> None:
    home = folder / "ml-latest-small"
    write(home / "ratings.csv", "userId,movieId,rating,timestamp\n1,31,2.5,9\n2,10,4.0,8\n2,31,0.5,7\n")
    write(home / "movies.csv", 'movieId,title,genres\n31,"Lost, The (1995)",Drama\n10,X,Action|War\n11,Y,None\n')
    data = datasets.load("ml-latest-small")
    assert data.extras["item_orig"].tolist() == [10, 31]
    assert entries(data.interactions) == {(0, 1): (2.5, 9), (1, 0): (4, 8), (1, 1): (0.5, 7)}
    assert data.extras["item_table"]["title"].tolist() == ["X", "Lost, The"]


def test_ncf(folder: Path) -> None:
    write(folder / "ml-1m.train.rating", "0\t1\t5\t10\n0\t2\t4\t11\n1\t0\t3\t12\n")
    write(folder / "ml-1m.test.rating", "0\t3\t5\t20\n1\t2\t4\t21\n")
    write(folder / "ml-1m.test.negative", "(0,3)\t4\t5\n(1,2)\t1\t6\n")
    data = datasets.load("ml-1m-ncf")
    assert data.train is not None
    assert data.train.shape == (2, 7)
    assert entries(data.train) == {(0, 1): (None, 10), (0, 2): (None, 11), (1, 0): (None, 12)}
    assert entries(data.test) == {(0, 3): (None, 20), (1, 2): (None, 21)}
    assert data.extras["negatives"].tolist() == [[4, 5], [1, 6]]
    write(folder / "ml-1m.test.negative", "(0,3)\t4\t5\n(1,1)\t1\t6\n")
    with pytest.raises(ValueError, match=r"pairs of ml-1m.test.negative .* are not those of ml-1m.test.rating"):
        datasets.load("ml-1m-ncf")


@pytest.mark.parametrize(
    ("name", "file"), [("ml-1m-sasrec", "ml-1m.txt"), ("beauty-bert4rec", "beauty-bert4rec/beauty.txt")]
)
def test_user_item_lines(folder: Path, name: str, file: str) -> None:
    write(folder / file, "1 3\n1 1\n1 2\n1 4\n2 4\n2 3\n")
    data = datasets.load(name)
    assert data.sequences is not None
    assert [row.tolist() for row in data.sequences] == [[2, 0, 1, 3], [3, 2]]
    assert entries(data.interactions) == {
        (0, 2): (None, 0), (0, 0): (None, 1), (0, 1): (None, 2), (0, 3): (None, 3),
        (1, 3): (None, 0), (1, 2): (None, 1),
    }  # fmt: skip
    assert pairs(data.train) == {(0, 0), (0, 2), (1, 2), (1, 3)}  # two items are too few to hold any out
    assert pairs(data.extras["validation"]) == {(0, 1)}
    assert pairs(data.test) == {(0, 3)}


@pytest.mark.parametrize(("name", "stem"), [("beauty", "Beauty"), ("toys", "Toys_and_Games"), ("yelp", "Yelp")])
def test_s3rec_sequences_with_repeats_and_attributes(folder: Path, name: str, stem: str) -> None:
    write(folder / "S3-Rec" / f"{stem}.txt", "1 2 1 2 3 2\n2 3 1 4\n")
    write(folder / "S3-Rec" / f"{stem}_item2attributes.json", json.dumps({"1": [2, 1], "3": [5], "9": [1]}))
    data = datasets.load(name)
    assert data.sequences is not None
    assert [row.tolist() for row in data.sequences] == [[1, 0, 1, 2, 1], [2, 0, 3]]
    assert entries(data.interactions) == {
        (0, 0): (1, 1), (0, 1): (3, 4), (0, 2): (1, 3), (1, 2): (1, 0), (1, 0): (1, 1), (1, 3): (1, 2),
    }  # fmt: skip
    assert entries(data.train) == {(0, 0): (1, 1), (0, 1): (2, 2), (1, 2): (1, 0)}
    assert pairs(data.extras["validation"]) == {(0, 2), (1, 0)}
    assert pairs(data.test) == {(0, 1), (1, 3)}
    assert data.extras["attribute_row_ptr"].tolist() == [0, 2, 2, 3, 3]
    assert data.extras["attribute_ids"].tolist() == [1, 0, 4]
    assert data.extras["n_attributes"] == 5


def test_frappe_log(folder: Path) -> None:
    header = "user\titem\tcnt\tdaytime\tweekday\tisweekend\thomework\tcost\tweather\tcountry\tcity\n"
    rest = "weekend\tunknown\tfree\tsunny\tItaly\t0\n"
    rows = [f"0\t1\t3\tnight\tsunday\t{rest}", f"1\t0\t1\tnoon\tmonday\t{rest}", f"0\t1\t2\tnoon\tsunday\t{rest}"]
    write(folder / "frappe" / "frappe.csv", header + "".join(rows))
    data = datasets.load("frappe")
    assert entries(data.interactions) == {(0, 1): (5, None), (1, 0): (1, None)}
    assert data.extras["log"].tolist() == [[0, 1] + [0] * 8, [1, 0, 1, 1] + [0] * 6, [0, 1, 1] + [0] * 7]
    assert data.extras["log_counts"].tolist() == [3, 1, 2]
    values = data.extras["field_values"]
    assert list(zip(values["field"], values["id"], values["value"], strict=True))[:3] == [
        ("daytime", "0", "night"), ("daytime", "1", "noon"), ("weekday", "0", "sunday"),
    ]  # fmt: skip


def test_frappe_libfm(folder: Path) -> None:
    write(folder / "frappe.train.libfm", "1 0:1 2:1 5:1\n-1 1:1 2:1 5:1\n1 0:1 2:1 6:1\n")
    write(folder / "frappe.validation.libfm", "1 1:1 4:1 6:1\n")
    write(folder / "frappe.test.libfm", "-1 0:1 3:1 5:1\n")
    data = datasets.load("frappe")
    assert data.extras["X_train"].tolist() == [[0, 2, 5], [1, 2, 5], [0, 2, 6]]
    assert data.extras["y_train"].tolist() == [1, -1, 1]
    assert (data.extras["field_base"].tolist(), data.extras["n_features"]) == ([0, 2, 5], 7)
    assert entries(data.interactions) == {(0, 0): (2, None), (1, 2): (1, None)}
    assert data.interactions is not None
    assert data.interactions.shape == (2, 3)


def test_citeulike_t(folder: Path) -> None:
    write(folder / "citeulike-t" / "users.dat", "2 3 0\n1 1\n0\n")
    write(folder / "citeulike-t" / "mult.dat", "2 0:1 2:3\n0\n1 1:2\n0\n")
    write(folder / "citeulike-t" / "vocabulary.dat", "alpha\nbeta\ngamma\n")
    data = datasets.load("citeulike-t")
    assert pairs(data.interactions) == {(0, 0), (0, 3), (1, 1)}
    assert data.interactions is not None
    assert data.interactions.shape == (3, 4)
    assert data.extras["text_row_ptr"].tolist() == [0, 2, 2, 3, 3]
    assert data.extras["text_words"].tolist() == [0, 2, 1]
    assert data.extras["text_counts"].tolist() == [1, 3, 2]
    assert data.extras["vocabulary"].tolist() == ["alpha", "beta", "gamma"]


def test_hetrec_lastfm(folder: Path) -> None:
    home = folder / "hetrec2011-lastfm-2k"
    write(home / "user_artists.dat", "userID\tartistID\tweight\n2\t51\t13883\n2\t9\t7\n5\t9\t11\n")
    write(home / "artists.dat", 'id\tname\turl\tpictureURL\n9\tA "B\thttp://a\tx\n51\tDuran Duran\thttp://d\ty\n')
    data = datasets.load("hetrec-lastfm")
    assert entries(data.interactions) == {(0, 1): (13883, None), (0, 0): (7, None), (1, 0): (11, None)}
    assert data.extras["user_orig"].tolist() == [2, 5]
    assert data.extras["item_table"]["name"].tolist() == ['A "B', "Duran Duran"]


def test_jester_as_r_writes_it(folder: Path) -> None:
    write(folder / "jester5k.csv", '"user","item","rating"\n"u2841","j1",7.91\n"u2841","j3",-9.17\n"u15","j1",0\n')
    data = datasets.load("jester")
    assert entries(data.interactions) == {
        (0, 0): (pytest.approx(7.91), None), (0, 2): (pytest.approx(-9.17), None), (1, 0): (0, None),
    }  # fmt: skip
    assert data.extras["user_orig"].tolist() == ["u2841", "u15"]


BROKEN = {
    "a word among numbers": (
        "ml-100k",
        {"u.data": "1\t1\t5\t9\n1\tx\t5\t9\n"},
        r"u.data in .* cannot be read as numbers .*x",
    ),
    "too few columns": ("ml-100k", {"u.data": "1\t1\t5\t9\n1\t1\n"}, r"u.data in .* cannot be read as numbers"),
    "an id of 0": (
        "ml-100k",
        {"u.data": "1\t1\t5\t9\n0\t1\t5\t9\n"},
        r"line 2 of u.data .* got 0, expected .* 1 or more",
    ),
    "a fractional id": ("ml-100k", {"u.data": "1.5\t1\t5\t9\n"}, r"line 1 of u.data .* got 1.5"),
    "NaN": ("ml-100k", {"u.data": "1\t1\tnan\t9\n"}, r"line 1 of u.data in .*: got NaN or infinity"),
    "empty": ("ml-100k", {"u.data": ""}, r"u.data in .* is empty"),
    "the same rating twice": ("ml-100k", {"u.data": "1\t1\t5\t9\n1\t1\t4\t9\n"}, r"repeats the pair \(0, 0\)"),
    "a word in a list": (
        "gowalla",
        {"gowalla/train.txt": "0 1\n1 a\n", "gowalla/test.txt": "0 2\n"},
        r"line 2 .* got 'a'",
    ),
    "a negative id": (
        "gowalla",
        {"gowalla/train.txt": "0 1\n1 -4\n", "gowalla/test.txt": "0 2\n"},
        r"line 2 .* got '?-4",
    ),
    "a huge id": (
        "gowalla",
        {"gowalla/train.txt": "0 99999999999999999999\n", "gowalla/test.txt": "0 2\n"},
        r"line 1 of train.txt",
    ),
    "an id beyond int32": (
        "gowalla",
        {"gowalla/train.txt": "0 4294967296\n", "gowalla/test.txt": "0 2\n"},
        r"largest item id: got 4294967296",
    ),
    "no lines": ("gowalla", {"gowalla/train.txt": "\n", "gowalla/test.txt": "0 2\n"}, r"train.txt in .* is empty"),
    "a wrong count": (
        "citeulike-t",
        {"citeulike-t/users.dat": "2 3 0\n3 1\n", "citeulike-t/mult.dat": "0\n"},
        r"line 2 of users.dat in .*: got 1 ids, expected 3",
    ),
    "ragged features": (
        "frappe",
        {"frappe.train.libfm": "1 0:1 1:1\n1 0:1\n", "frappe.validation.libfm": "", "frappe.test.libfm": ""},
        r"line 2 of frappe.train.libfm .*: got 1 features, expected 2",
    ),
    "not a feature": (
        "frappe",
        {"frappe.train.libfm": "1 0:1 1:1\n1 0:1 one\n", "frappe.validation.libfm": "", "frappe.test.libfm": ""},
        r"line 2 of frappe.train.libfm .*label id:1",
    ),
    "a feature that is not 1": (
        "frappe",
        {"frappe.train.libfm": "1 0:1 1:0.5\n", "frappe.validation.libfm": "", "frappe.test.libfm": ""},
        r"line 1 of frappe.train.libfm .*other than 1",
    ),
    "a negative feature": (
        "frappe",
        {"frappe.train.libfm": "1 0:1 -1:1\n", "frappe.validation.libfm": "", "frappe.test.libfm": ""},
        r"line 1 of frappe.train.libfm .*negative feature",
    ),
    "columns missing": ("frappe", {"frappe.csv": "user\titem\n1\t2\n"}, r"columns of frappe.csv .*cnt"),
    "a short row": (
        "hetrec-lastfm",
        {"user_artists.dat": "userID\tartistID\tweight\n2\t51\t3\n", "artists.dat": "id\tname\n51\n"},
        r"line 2 of artists.dat .*: got 1 columns, expected 2",
    ),
    "attributes that are no lists": (
        "beauty",
        {"Beauty.txt": "1 1 2 3\n", "Beauty_item2attributes.json": '{"1": 5}'},
        r"Beauty_item2attributes.json .* is not a map",
    ),
    "attributes that are no JSON": (
        "beauty",
        {"Beauty.txt": "1 1 2 3\n", "Beauty_item2attributes.json": "{"},
        r"Beauty_item2attributes.json .* is not a map",
    ),
    "another table": ("jester", {"jester5k.csv": "a,b\n1,2\n"}, r"columns of jester5k.csv .*user, item and rating"),
    "an absurd id in a side table": (
        "ml-100k",
        {"u.data": "1\t1\t5\t9\n", "u.user": "1|24|M|x|1\n9000000000|24|M|x|1\n"},
        r"ids in column 'user' of u.user .*9000000000",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named_with_its_line(folder: Path, what: str) -> None:
    name, files, expected = BROKEN[what]
    for file, text in files.items():
        write(folder / file, text)
    with pytest.raises(ValueError, match=expected):
        datasets.load(name)


def test_both_forms_of_a_set_give_the_same_matrix(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.permutation(30)[: rng.integers(3, 9)] for _ in range(12)]
    lists[3][:] = 29 - np.arange(len(lists[3]))  # so that the largest id occurs
    lines = "".join(f"{user + 1} {' '.join(str(item + 1) for item in items)}\n" for user, items in enumerate(lists))
    write(folder / "Toys_and_Games.txt", lines)
    published = datasets.load("toys")
    indptr = np.cumsum([0, *map(len, lists)])
    arrays = {"indptr": indptr.astype(np.int32), "indices": np.concatenate(lists).astype(np.uint16)}
    np.savez(folder / "s3rec_toys_and_games_seq.npz", **arrays, n_items=np.int32(30))
    prepared = datasets.load("toys")
    assert datasets.describe("toys").found == str(folder)
    for part in ("train", "test", "interactions"):
        assert entries(getattr(published, part)) == entries(getattr(prepared, part))
        assert getattr(published, part).shape == getattr(prepared, part).shape == (12, 30)
    assert published.sequences is not None
    assert prepared.sequences is not None
    assert np.array_equal(published.sequences.items, prepared.sequences.items)
