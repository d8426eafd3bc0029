"""The data sets that ``load`` knows: what they are, which files they consist of, where they come from."""

from __future__ import annotations

from typing import NamedTuple

_MOVIELENS = "research use; no redistribution and no commercial use without GroupLens' permission"
_UNSTATED = "terms not stated by the publisher"
_GROUPLENS = "https://files.grouplens.org/datasets"
_S3REC = "https://github.com/RUCAIBox/CIKM2020-S3Rec"
_AMAZON = f"{_UNSTATED}; Amazon reviews, McAuley et al. 2015"


class Download(NamedTuple):
    """An archive at the data set's own home.

    Attributes:
        url: where it is.
        checksum: "md5:..." or "sha256:..." of the file.
        file: name that it gets in the cache folder.
    """

    url: str
    checksum: str
    file: str


class Entry(NamedTuple):
    """One data set.

    Attributes:
        title: what it is, in a few words.
        size: users x items, interactions, as loaded.
        home: page from which its owner gives it out.
        licence: what its owner allows, in a few words.
        prepared: npz files of the compact form; each inner tuple is enough by itself.
        published: files of the published form; each inner tuple is enough by itself.
        folders: names of folders (or of zip files) in which the published form is looked for.
        loose: whether the published file names say by themselves which set they are, so that they may lie in the data
            folder itself.
        download: archive to fetch when nothing is found, None where the owner has no stable link.
    """

    title: str
    size: str
    home: str
    licence: str
    prepared: tuple[tuple[str, ...], ...]
    published: tuple[tuple[str, ...], ...]
    folders: tuple[str, ...]
    loose: bool = False
    download: Download | None = None


def _sequences(title: str, size: str, licence: str, prepared: str, file: str, folder: str) -> Entry:
    return Entry(title, size, _S3REC, licence, ((prepared,),), ((file,),), (folder, "S3-Rec"), loose=True)


ENTRIES: dict[str, Entry] = {
    "gowalla": Entry(
        "Gowalla check-ins, LightGCN split",
        "29,858 x 40,981, 810,128 + 217,242",
        "https://github.com/gusye1234/LightGCN-PyTorch (data/gowalla)",
        f"{_UNSTATED}; Cho et al. 2011, split of He et al. 2020",
        (("gowalla_train.npz", "gowalla_test.npz"),),
        (("train.txt", "test.txt"),),
        ("gowalla",),
    ),
    "ml-100k": Entry(
        "MovieLens 100K ratings with times, official splits",
        "943 x 1,682, 100,000",
        "https://grouplens.org/datasets/movielens/100k/",
        _MOVIELENS,
        (("ml100k_ratings.npz",),),
        (("u.data",),),
        ("ml-100k",),
        loose=True,
        download=Download(f"{_GROUPLENS}/movielens/ml-100k.zip", "md5:0e33842e24a9c977be4e0107933c0723", "ml-100k.zip"),
    ),
    "ml-1m": Entry(
        "MovieLens 1M ratings with times",
        "6,040 x 3,952 (3,706 rated), 1,000,209",
        "https://grouplens.org/datasets/movielens/1m/",
        _MOVIELENS,
        (("ml1m_ratings.npz",),),
        (("ratings.dat",),),
        ("ml-1m",),
        download=Download(f"{_GROUPLENS}/movielens/ml-1m.zip", "md5:c4d9eecfca2ab87c1945afe126590906", "ml-1m.zip"),
    ),
    "ml-1m-ncf": Entry(
        "MovieLens 1M, leave-one-out split and 99 negatives of NCF",
        "6,040 x 3,706, 994,169 + 6,040",
        "https://github.com/hexiangnan/neural_collaborative_filtering (Data)",
        _MOVIELENS,
        (("ml1m_ratings.npz", "ml1m_ncf_split.npz"),),
        (("ml-1m.train.rating", "ml-1m.test.rating", "ml-1m.test.negative"),),
        ("ml-1m-ncf", "Data"),
        loose=True,
    ),
    "ml-1m-sasrec": Entry(
        "MovieLens 1M as sequences, SASRec edition",
        "6,040 x 3,416, 999,611",
        "https://github.com/kang205/SASRec (data)",
        _MOVIELENS,
        (("ml1m_sasrec_seq.npz",),),
        (("ml-1m.txt",),),
        ("ml-1m-sasrec", "SASRec"),
        loose=True,
    ),
    "ml-latest-small": Entry(
        "MovieLens latest-small ratings",
        "671 x 9,066, 100,004 (the edition of 2016; GroupLens replaces this set from time to time)",
        "https://grouplens.org/datasets/movielens/latest/",
        _MOVIELENS,
        (("ml_latest_small.npz",),),
        (("ratings.csv",),),
        ("ml-latest-small",),
    ),
    "beauty": _sequences(
        "Amazon Beauty sequences with attributes, S3-Rec edition",
        "22,363 x 12,101, 198,502",
        _AMAZON,
        "s3rec_beauty_seq.npz",
        "Beauty.txt",
        "beauty",
    ),
    "toys": _sequences(
        "Amazon Toys and Games sequences with attributes, S3-Rec edition",
        "19,412 x 11,924, 167,597",
        _AMAZON,
        "s3rec_toys_and_games_seq.npz",
        "Toys_and_Games.txt",
        "toys",
    ),
    "yelp": _sequences(
        "Yelp sequences with attributes, S3-Rec edition (repeat visits)",
        "30,431 x 20,033, 316,354",
        "Yelp data set terms: academic use, no redistribution",
        "s3rec_yelp_seq.npz",
        "Yelp.txt",
        "yelp",
    ),
    "beauty-bert4rec": Entry(
        "Amazon Beauty sequences, BERT4Rec edition",
        "40,226 x 54,542, 353,962",
        "https://github.com/FeiSun/BERT4Rec (data)",
        _AMAZON,
        (("bert4rec_beauty_seq.npz",),),
        (("beauty.txt",),),
        ("beauty-bert4rec", "BERT4Rec"),
    ),
    "diginetica": Entry(
        "Diginetica shop sessions (CIKM Cup 2016), SR-GNN processing",
        "186,670 + 15,963 sessions x 43,097, 719,470 + 60,858 samples",
        "https://competitions.codalab.org/competitions/11161",
        "terms of the CIKM Cup 2016",
        (("diginetica_train.npz", "diginetica_test.npz"),),
        (("train-item-views.csv",),),
        ("diginetica",),
        loose=True,
    ),
    "yoochoose-1-64": Entry(
        "Yoochoose shop sessions (RecSys Challenge 2015), last 1/64, SR-GNN processing",
        "116,167 + 15,324 sessions x 17,745, 369,859 + 55,898 samples",
        "https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
        "CC BY-NC-ND 4.0",
        (("yoochoose1_64_train.npz", "yoochoose1_64_test.npz"),),
        (("yoochoose-clicks.dat",),),
        ("yoochoose", "yoochoose-data"),
        loose=True,
    ),
    "frappe": Entry(
        "Frappe app usage with context, NFM split",
        "957 x 4,082, 96,203 log lines; 202,027 + 57,722 + 28,860 samples",
        "https://github.com/hexiangnan/neural_factorization_machine (data/frappe), https://www.baltrunas.info/research-menu/frappe",
        "research use; no redistribution",
        (("frappe_raw.npz",), ("frappe_fm.npz",)),
        (("frappe.csv",), ("frappe.train.libfm", "frappe.validation.libfm", "frappe.test.libfm")),
        ("frappe",),
        loose=True,
    ),
    "citeulike-t": Entry(
        "citeulike-t libraries with article texts",
        "7,947 x 25,975, 134,860",
        "https://github.com/js05212/citeulike-t",
        f"{_UNSTATED}; Wang, Chen and Li 2013",
        (("citeulike_t.npz",),),
        (("users.dat", "mult.dat"),),
        ("citeulike-t",),
    ),
    "hetrec-lastfm": Entry(
        "Last.fm play counts, HetRec 2011",
        "1,892 x 17,632, 92,834",
        "https://grouplens.org/datasets/hetrec-2011/",
        "non-commercial use",
        (("hetrec_lastfm.npz",),),
        (("user_artists.dat",),),
        ("hetrec2011-lastfm-2k", "hetrec-lastfm"),
        loose=True,
        download=Download(
            f"{_GROUPLENS}/hetrec2011/hetrec2011-lastfm-2k.zip",
            "sha256:6738f48195667ff03caaab4d32ca9a3133d8cc026b7c3cdaf6ce1010e913c59c",
            "hetrec2011-lastfm-2k.zip",
        ),
    ),
    "douban": Entry(
        "Douban ratings with user graph, 3,000 x 3,000, fixed split of Monti et al. 2017",
        "3,000 x 3,000, 123,202 + 13,689",
        "https://github.com/fmonti/mgcnn (Data/douban/training_test_dataset.mat, MATLAB 7.3: save the ratings M under "
        "the masks Otraining and Otest as an npz with shape and {train,test}_{user,item,rating})",
        _UNSTATED,
        (("monti_douban.npz",),),
        (),
        (),
    ),
    "jester": Entry(
        "Jester joke ratings -10..10, the Jester5k sample",
        "5,000 x 100, 363,209",
        "https://cran.r-project.org/package=recommenderlab (in R: data(Jester5k); "
        'write.csv(as(Jester5k, "data.frame"), "jester5k.csv", row.names=FALSE))',
        "research use, cite Goldberg et al. 2001",
        (("jester5k.npz",),),
        (("jester5k.csv",),),
        ("jester",),
        loose=True,
    ),
}
