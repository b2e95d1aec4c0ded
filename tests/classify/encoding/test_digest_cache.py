"""Digests of files, remembered step by step."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from abs_classify.encoding.digest_cache import DigestCache
from abs_core.canonical import sha256_bytes
from abs_core.errors import StorageError
from abs_core.files import sha256_file


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose bytes were read for a digest."""
    read: list[Path] = []

    def reads(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    monkeypatch.setattr("abs_classify.encoding.digest_cache.sha256_file", reads)
    return read


def test_digests_are_those_of_the_files_and_read_once(
    tmp_path: Path, read_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_classify.encoding.digest_cache._FILES_PER_STEP", 3)
    paths = [tmp_path / f"{number}.bin" for number in range(10)]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * number)
    expected = [sha256_bytes(b"x" * number) for number in range(10)]
    digests = DigestCache(tmp_path / "cache")
    assert digests.files(paths[::-1]) == expected[::-1]
    assert DigestCache(tmp_path / "cache").files(paths) == expected
    assert sorted(read_files) == paths


def test_other_bytes_of_the_same_size_with_the_time_of_the_old_ones_are_noticed(tmp_path: Path) -> None:
    path, digests = tmp_path / "weights.bin", DigestCache(tmp_path / "cache")
    for content in (b"old", b"new"):
        path.write_bytes(content)
        os.utime(path, (1, 1))
        assert digests.file(path) == sha256_bytes(content)
        time.sleep(0.02)  # file systems tick in milliseconds


def test_a_file_that_cannot_be_read_leaves_the_steps_before_it_remembered(
    tmp_path: Path, read_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_classify.encoding.digest_cache._FILES_PER_STEP", 2)
    paths = [tmp_path / f"{number}.bin" for number in range(4)]
    for path in paths[:3]:
        path.write_bytes(path.name.encode())
    digests = DigestCache(tmp_path / "cache")
    with pytest.raises(StorageError, match=r"3\.bin"):
        digests.files(paths)
    assert digests.file(paths[0]) == sha256_bytes(b"0.bin")
    assert read_files.count(paths[0]) == 1


def test_without_a_folder_nothing_is_remembered(tmp_path: Path, read_files: list[Path]) -> None:
    path, digests = tmp_path / "1.bin", DigestCache(None)
    path.write_bytes(b"x")
    assert digests.file(path) == digests.file(path) == sha256_bytes(b"x")
    assert read_files == [path, path]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("changed", ["st_size", "st_mtime_ns", "st_ctime_ns"])
def test_each_fact_about_a_file_counts(
    tmp_path: Path, read_files: list[Path], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    path, digests = tmp_path / "weights.bin", DigestCache(tmp_path / "cache")
    path.write_bytes(b"old")
    facts = {"st_size": 3, "st_mtime_ns": 5, "st_ctime_ns": 7}

    def file_with(**values: int) -> str:
        with monkeypatch.context() as patch:
            stat = Path.stat
            patch.setattr(
                Path,
                "stat",
                lambda self, **options: SimpleNamespace(**values) if self == path else stat(self, **options),
            )
            return digests.files([path])[0]

    assert file_with(**facts) == file_with(**facts) == sha256_bytes(b"old")
    assert len(read_files) == 1
    path.write_bytes(b"new")
    assert file_with(**facts) == sha256_bytes(b"old")
    assert file_with(**{**facts, changed: 9}) == sha256_bytes(b"new")


def test_files_of_other_names_and_derived_digests_of_other_options_are_kept_apart(tmp_path: Path) -> None:
    digests = DigestCache(tmp_path / "cache")
    paths = [tmp_path / name for name in ("a.bin", "b.bin")]
    for path in paths:
        path.write_bytes(b"x")
    computed = iter("123456")
    pairs = [("clip", paths[:1]), ("siglip", paths[:1]), ("clip", paths[1:]), ("clip", paths)]
    assert [digests.derived(what, files, lambda: next(computed)) for what, files in pairs] == ["1", "2", "3", "4"]
    assert [digests.derived(what, files, lambda: next(computed)) for what, files in pairs] == ["1", "2", "3", "4"]
