"""The user's folders: what is given counts before the environment, and that before the defaults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from platformdirs import user_cache_dir, user_data_dir

from abs_core.errors import UsageError
from abs_core.home import Home


def test_folders_come_from_the_options_the_environment_or_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ABS_HOME", "ABS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    default = Home.at(None, None)
    assert default == Home(Path(user_data_dir("abs", appauthor=False)), Path(user_cache_dir("abs", appauthor=False)))
    assert default.indexes == default.cache / "index"
    assert tmp_path in default.root.parents
    assert tmp_path in default.cache.parents
    assert Home.at(None, tmp_path / "quick").root == default.root
    assert Home.at(tmp_path / "other", None).cache == tmp_path / "other" / "cache"
    monkeypatch.setenv("ABS_HOME", "~/home")
    assert Home.at(None, None) == Home(tmp_path / "home", tmp_path / "home" / "cache")
    monkeypatch.setenv("ABS_CACHE", str(tmp_path / "cache"))
    assert Home.at(None, None) == Home(tmp_path / "home", tmp_path / "cache")
    given = Home.at(tmp_path / "other", tmp_path / "quick")
    assert given == Home(tmp_path / "other", tmp_path / "quick")
    assert given.bundles.parent == given.journals.parent == given.models.parent == given.results.parent == given.root
    assert given.scores.parent == given.root


def test_the_folder_of_an_earlier_release_stays_in_use_with_the_cache_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ABS_HOME", "ABS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".abs").write_text("no folder")
    assert Home.at(None, None).root != tmp_path / ".abs"
    (tmp_path / ".abs").unlink()
    (tmp_path / ".abs").mkdir()
    assert Home.at(None, None) == Home(tmp_path / ".abs", tmp_path / ".abs" / "cache")
    assert Home.at(None, tmp_path / "quick") == Home(tmp_path / ".abs", tmp_path / "quick")


def test_the_size_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABS_CACHE_SIZE", raising=False)
    assert Home.at(tmp_path, None).cache_size is None
    assert Home.at(tmp_path, None, "1.5G").cache_size == 1_500_000_000
    assert Home.at(tmp_path, None, "None").cache_size == float("inf")
    monkeypatch.setenv("ABS_CACHE_SIZE", "0")
    assert Home.at(tmp_path, None).cache_size == 0
    monkeypatch.setenv("ABS_CACHE_SIZE", "-1")
    with pytest.raises(UsageError, match=r"--cache-size must be a size such as 500M or 5G, got '-1'"):
        Home.at(tmp_path, None)


def test_a_cache_in_a_bucket_leaves_what_is_of_this_machine_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.at(tmp_path, "s3://team/cache")
    assert (home.bucket, home.cache) == ("s3://team/cache", tmp_path / "cache")
    assert home.indexes.parent == tmp_path / "index"
    assert Home.at(tmp_path, "s3://team/cache/").indexes == home.indexes
    monkeypatch.setenv("ABS_CACHE", "s3://team/other")
    assert Home.at(tmp_path, None).indexes != home.indexes
    with pytest.raises(UsageError, match=r"--cache must be a folder or a bucket, got the address https://\.\.\."):
        Home.at(tmp_path, "https://host/secret")
    with pytest.raises(UsageError, match="user and a password"):
        Home.at(tmp_path, "s3://key:secret@team/cache")


def test_indexes_lie_in_the_home_folder_where_the_cache_does_not(tmp_path: Path) -> None:
    assert Home.at(tmp_path, None).indexes == tmp_path / "cache" / "index"
    first, second = (Home.at(tmp_path / "home", tmp_path / name).indexes for name in ("first", "second"))
    assert first.parent == second.parent == tmp_path / "home" / "index"
    assert first != second


@pytest.mark.parametrize("address", ["s3://bucket/x", "https://host/x", "hf://datasets/a/b", "gs:///x"])
def test_an_address_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    shown = address.replace(":///", "://")
    with pytest.raises(UsageError, match=f"--cache must be a folder, got the address '{shown}'"):
        Home.at(tmp_path, Path(address))
    with pytest.raises(UsageError, match=r"must be a folder.*s3://BUCKET/FOLDER"):
        Home.at(tmp_path, "s3:/bucket/x")
    monkeypatch.setenv("ABS_HOME", address)
    with pytest.raises(UsageError, match="--home must be a folder"):
        Home.at(None, None)


def test_a_user_without_a_home_folder_is_told_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABS_HOME", raising=False)
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(UsageError, match=r"no home folder for data\. Name a folder in the variable ABS_HOME"):
        Home.at(None, None)
    with pytest.raises(UsageError, match=r"no home folder for '~/abs'\. Name a folder in the variable ABS_HOME"):
        Home.at(Path("~/abs"), None)
    assert Home.at(tmp_path / "home", tmp_path / "cache").indexes.is_relative_to(tmp_path / "home")


def test_a_relative_folder_needs_a_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the working folder, in which 'x' is to be, no longer exists"):
        Home.at(Path("x"), None)
    assert Home.at(tmp_path / "x", None).root == tmp_path / "x"


def test_a_bucket_is_one_store_however_it_is_written(tmp_path: Path) -> None:
    written = ("s3://team/cache", "s3://team/cache/", "S3://team/cache//")
    assert len({Home.at(tmp_path, place) for place in written}) == 1
    assert Home.at(tmp_path, "S3://team/cache/").bucket == "s3://team/cache"
    with pytest.raises(UsageError, match="has a part that is empty"):
        Home.at(tmp_path, "s3://team//cache")
