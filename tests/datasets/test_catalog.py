"""Finding, fetching, and saying how to get a set."""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from recsys_fast import datasets
from recsys_fast.datasets import download, locate, registry

U_DATA = "1\t1\t5\t100\n1\t2\t3\t101\n2\t2\t4\t102\n"


def test_unknown_name_lists_the_names() -> None:
    for call in (datasets.load, datasets.describe):
        with pytest.raises(
            ValueError, match=r"unknown data set: got 'gowala', expected one of gowalla, .*jester.*'gowalla'"
        ):
            call("gowala")


@pytest.mark.parametrize("name", datasets.names())
def test_a_missing_set_says_which_files_from_where_and_where_to(folder: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load(name, download=False)
    text = str(caught.value)
    entry = registry.ENTRIES[name]
    assert name in text
    assert entry.home in text
    assert str(folder / name) in text
    for form in (*entry.published, *entry.prepared):
        for file in form:
            assert file in text
    assert "\n" not in text


def test_without_a_data_folder_the_message_names_the_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_FAST_DATA")
    with pytest.raises(FileNotFoundError, match="RECSYS_FAST_DATA"):
        datasets.load("gowalla")


def test_a_data_folder_that_is_not_one_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_FAST_DATA", str(folder / "nowhere"))
    with pytest.raises(ValueError, match=r"RECSYS_FAST_DATA: got .*nowhere.*, expected an existing folder"):
        datasets.load("gowalla")


def test_describe(folder: Path) -> None:
    before = datasets.describe("ml-100k")
    assert (before.found, before.downloadable) == (None, True)
    assert "redistribution" in before.licence
    (folder / "u.data").write_text(U_DATA)
    assert datasets.describe("ml-100k").found == str(folder)
    assert not datasets.describe("gowalla").downloadable


def _tiny(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(U_DATA)


@pytest.mark.parametrize("place", ["u.data", "ml-100k/u.data"])
@pytest.mark.parametrize("root", ["data", "cache"])
def test_places_that_are_searched(folder: Path, root: str, place: str) -> None:
    _tiny(folder.parent / root / place)
    assert len(datasets.load("ml-100k").interactions) == 3


def test_a_published_archive_is_read_as_it_is(folder: Path) -> None:
    with zipfile.ZipFile(folder / "ml-100k.zip", "w") as archive:
        archive.writestr("ml-100k/u.data", U_DATA)
    assert datasets.load("ml-100k").source == str(folder / "ml-100k.zip")


def test_file_names_that_many_sets_use_count_only_in_a_folder_of_the_sets_name(folder: Path) -> None:
    for file in ("train.txt", "test.txt"):
        (folder / file).write_text("0 1 2\n")
    with pytest.raises(FileNotFoundError):
        datasets.load("gowalla")
    (folder / "gowalla").mkdir()
    for file in ("train.txt", "test.txt"):
        (folder / file).rename(folder / "gowalla" / file)
    assert datasets.load("gowalla").source == str(folder / "gowalla")


def test_the_data_folder_may_be_the_sets_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder / "gowalla"
    own.mkdir()
    for file in ("train.txt", "test.txt"):
        (own / file).write_text("0 1 2\n")
    monkeypatch.setenv("RECSYS_FAST_DATA", str(own))
    assert len(datasets.load("gowalla").train) == 2


def test_a_damaged_archive_is_a_clear_error(folder: Path) -> None:
    (folder / "ml-100k.zip").write_bytes(b"PK\x03\x04 this is not a zip file")
    with pytest.raises(ValueError, match=r"ml-100k.zip cannot be read as a zip archive .*download it anew"):
        datasets.load("ml-100k")
    with zipfile.ZipFile(folder / "ml-100k.zip", "w") as archive:
        archive.writestr("ml-100k/u.data", U_DATA)
    content = (folder / "ml-100k.zip").read_bytes().replace(U_DATA[:6].encode(), b"9\t9\t9\t")
    (folder / "ml-100k.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"u.data in .*ml-100k.zip is damaged .*CRC"):
        datasets.load("ml-100k")


def test_an_archive_member_of_absurd_size_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(folder / "ml-100k.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-100k/u.data", "1\t1\t1\t1\n" * 1000)
    monkeypatch.setattr(locate, "_MAX_MEMBER", 7_999)
    with pytest.raises(ValueError, match=r"u.data in .*: got 8000 bytes, expected at most 7999"):
        datasets.load("ml-100k")


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "base/recsys_fast"),
        ("linux", None, "home/.cache/recsys_fast"),
        ("darwin", None, "home/Library/Caches/recsys_fast"),
        ("win32", "LOCALAPPDATA", "base/recsys_fast"),
    ],
)
def test_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str | None, expected: str
) -> None:
    for name in ("RECSYS_FAST_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", platform)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "base"))
    assert locate.cache_dir() == tmp_path / expected
    monkeypatch.setenv("RECSYS_FAST_CACHE", str(tmp_path / "mine"))
    assert locate.cache_dir() == tmp_path / "mine"


@pytest.fixture
def home(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for the home of ml-100k: a local archive, fetched by copying; returns the urls asked for."""
    pytest.importorskip("pooch")
    archive = tmp_path / "home.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ml-100k/u.data", U_DATA)
    checksum = "md5:" + hashlib.md5(archive.read_bytes()).hexdigest()
    entry = registry.ENTRIES["ml-100k"]
    assert entry.download is not None
    changed = entry._replace(download=entry.download._replace(checksum=checksum))
    monkeypatch.setitem(registry.ENTRIES, "ml-100k", changed)
    asked: list[tuple[str, bool]] = []

    def downloader(url: str, progress: bool) -> Any:
        asked.append((url, progress))
        return lambda url, output_file, pooch: shutil.copyfile(archive, output_file)

    monkeypatch.setattr(download, "_downloader", downloader)
    return asked


def test_download_goes_to_the_cache_once(home: Any, tmp_path: Path) -> None:
    data = datasets.load("ml-100k", progress=True)
    assert len(data.interactions) == 3
    assert data.source == str(tmp_path / "cache" / "ml-100k.zip")
    assert home == [("https://files.grouplens.org/datasets/movielens/ml-100k.zip", True)]
    datasets.load("ml-100k")
    assert len(home) == 1


def test_download_can_be_refused(home: Any) -> None:
    with pytest.raises(FileNotFoundError, match="ml-100k"):
        datasets.load("ml-100k", download=False)
    assert home == []


def test_a_file_of_another_checksum_is_refused_and_not_kept(home: Any, tmp_path: Path, monkeypatch: Any) -> None:
    entry = registry.ENTRIES["ml-100k"]
    wrong = entry.download._replace(checksum="md5:" + "0" * 32)
    monkeypatch.setitem(registry.ENTRIES, "ml-100k", entry._replace(download=wrong))
    with pytest.raises(ValueError, match=r"ml-100k.zip is not the file it should be .*Try again"):
        datasets.load("ml-100k")
    assert not (tmp_path / "cache" / "ml-100k.zip").exists()


def test_no_network_says_what_to_do(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def downloader(url: str, progress: bool) -> Any:
        def fail(url: str, output_file: str, pooch: Any) -> None:
            raise OSError("Name or service not known")

        return fail

    monkeypatch.setattr(download, "_downloader", downloader)
    with pytest.raises(
        ConnectionError, match=r"cannot fetch https://files.*not known.*put the file into .*cache yourself"
    ):
        datasets.load("ml-100k")


def test_the_real_downloader_is_poochs_for_the_url() -> None:
    pooch = pytest.importorskip("pooch")
    entry = registry.ENTRIES["ml-1m"]
    assert entry.download is not None
    made = download._downloader(entry.download.url, False)
    assert isinstance(made, pooch.HTTPDownloader)
    assert not made.progressbar


def test_without_pooch_the_message_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r"recsys_fast\[data\].*or put https://files.grouplens.org"):
        datasets.load("ml-1m")


def test_every_download_is_pinned() -> None:
    pinned = [entry.download for entry in registry.ENTRIES.values() if entry.download is not None]
    assert len(pinned) == 3
    for one in pinned:
        algorithm, digest = one.checksum.split(":")
        assert len(digest) == {"md5": 32, "sha256": 64}[algorithm]
        assert one.url.startswith("https://")
        assert one.file.removesuffix(".zip") in {alias for e in registry.ENTRIES.values() for alias in e.folders}


def test_importing_the_room_imports_nothing_heavy() -> None:
    import subprocess

    heavy = ("numba", "scipy.sparse", "pooch", "tqdm", "pandas", "pyarrow")
    code = f"import sys, recsys_fast.datasets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
