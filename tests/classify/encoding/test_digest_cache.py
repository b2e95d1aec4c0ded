"""Digests of files, remembered step by step."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abs_classify.datasets.base import Sample
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample, identify
from abs_core.canonical import sha256_bytes
from abs_core.errors import ImageError, StorageError
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


def rows_of(base: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(base)) as connection:
        return connection.execute("SELECT key, digest FROM digests ORDER BY key").fetchall()


@pytest.fixture
def remembered(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A database with the digests of ten files."""
    paths = [tmp_path / f"{number}.bin" for number in range(10)]
    for path in paths:
        path.write_bytes(path.name.encode())
    DigestCache(tmp_path / "cache").files(paths)
    return tmp_path / "cache" / "digests.sqlite", paths


@pytest.mark.parametrize("where", ["digest", "key", "checksum"])
def test_a_flipped_bit_in_a_row_is_noticed_and_mended(remembered: tuple[Path, list[Path]], where: str) -> None:
    base, paths = remembered
    expected = rows_of(base)
    with closing(sqlite3.connect(base)) as connection, connection:
        (old,) = connection.execute(f"SELECT {where} FROM digests LIMIT 1").fetchone()
    new = old[:-1] + chr(ord(old[-1]) ^ 1)
    data = base.read_bytes()
    assert data.count(old.encode()) >= 1
    base.write_bytes(data.replace(old.encode(), new.encode()))
    assert DigestCache(base.parent).files(paths) == [sha256_bytes(path.name.encode()) for path in paths]
    assert set(expected) <= set(rows_of(base))
    # a row whose key no file has any more is found by `verify` alone
    assert DigestCache(base.parent).verify() == (10, 1 if where == "key" else 0)
    assert DigestCache(base.parent).verify() == (10, 0)


def test_verify_removes_damaged_rows(remembered: tuple[Path, list[Path]], read_files: list[Path]) -> None:
    base, paths = remembered
    assert DigestCache(base.parent).verify() == (10, 0)
    with closing(sqlite3.connect(base)) as connection, connection:
        connection.execute("UPDATE digests SET digest = 'sha256:0' WHERE rowid IN (2, 5)")
    assert DigestCache(base.parent).verify() == (8, 2)
    assert len(rows_of(base)) == 8
    assert DigestCache(base.parent).files(paths) == [sha256_bytes(path.name.encode()) for path in paths]
    assert len(read_files) == 2
    assert DigestCache(base.parent / "nowhere").verify() == DigestCache(None).verify() == (0, 0)


@pytest.mark.parametrize("damage", ["text", "header", "middle", "folder", "empty"])
def test_a_damaged_database_is_begun_anew(remembered: tuple[Path, list[Path]], damage: str) -> None:
    base, paths = remembered
    data = base.read_bytes()
    if damage == "folder":
        base.unlink()
        base.mkdir()
        (base / "file").write_bytes(b"x")
    else:
        middle = data[:100] + b"\xff" * (len(data) - 100)
        damaged = {"text": b"hello " * 50, "header": b"\0" * 100 + data[100:], "middle": middle, "empty": b""}
        base.write_bytes(damaged[damage])
    expected = [sha256_bytes(path.name.encode()) for path in paths]
    assert DigestCache(base.parent).files(paths) == expected
    assert DigestCache(base.parent).files(paths) == expected
    assert len(rows_of(base)) == 10


def test_verify_removes_a_damaged_database(remembered: tuple[Path, list[Path]]) -> None:
    base, _ = remembered
    base.write_bytes(b"hello " * 50)
    assert DigestCache(base.parent).verify() == (0, 1)
    assert not base.exists()


def test_rows_of_before_there_were_checksums_are_taken_over(
    remembered: tuple[Path, list[Path]], read_files: list[Path]
) -> None:
    base, paths = remembered
    rows = rows_of(base)
    base.unlink()
    with closing(sqlite3.connect(base)) as connection, connection:
        connection.execute("CREATE TABLE digests (key TEXT PRIMARY KEY, digest TEXT NOT NULL)")
        connection.executemany("INSERT INTO digests VALUES (?, ?)", rows[:9])
    DigestCache(base.parent).files(paths)
    assert len(read_files) == 1
    assert DigestCache(base.parent).verify() == (10, 0)


@pytest.mark.fuzz
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=5))
def test_no_damage_changes_a_digest(remembered: tuple[Path, list[Path]], changes: list[tuple[int, int]]) -> None:
    base, paths = remembered
    DigestCache(base.parent).files(paths)
    data = bytearray(base.read_bytes())
    for place, bits in changes:
        data[place % len(data)] ^= bits
    base.write_bytes(data)
    assert DigestCache(base.parent).files(paths) == [sha256_bytes(path.name.encode()) for path in paths]
    DigestCache(base.parent).verify()
    assert DigestCache(base.parent).verify()[1] == 0


def test_many_images_of_one_file_are_one_commit_and_each_has_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = tmp_path / "0.tar"
    shard.write_bytes(b"x")
    cache = DigestCache(tmp_path / "cache")
    commits: list[int] = []
    write = DigestCache._write
    monkeypatch.setattr(DigestCache, "_write", lambda self, fresh: (commits.append(len(fresh)), write(self, fresh)))
    computed: list[int] = []

    def compute(number: int) -> str:
        computed.append(number)
        if number == 7:
            raise ImageError("damaged")
        return sha256_bytes(b"%d" % number)

    requests = [(f"image {number}", shard, partial(compute, number)) for number in range(1200)]
    requests.append(("image x", tmp_path / "none.tar", partial(compute, 9)))
    outcomes = cache.derived_each(requests)
    assert commits == [1199]
    assert [type(outcome) for outcome in (outcomes[7], outcomes[1200])] == [ImageError, StorageError]
    assert outcomes[8] == sha256_bytes(b"8") == cache.derived("image 8", [shard], lambda: "another")
    computed.clear()
    assert cache.derived_each(requests)[:7] == outcomes[:7]
    assert computed == [7]


def test_a_file_that_is_missing_costs_no_look_up_for_each_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.bin" for number in range(600)]
    for path in paths:
        path.write_bytes(path.name.encode())
    samples = [Sample(path, "") for path in [*paths, tmp_path / "missing.bin"]]
    opened: list[str] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: (opened.append(args[0]), connect(*args, **kw))[1])
    for run in (1, 2):
        *found, missing = identify(samples, DigestCache(tmp_path / "cache"))
        assert [image.id for image in found if isinstance(image, IdentifiedSample)] == [
            sha256_bytes(path.name.encode()) for path in paths
        ]
        assert isinstance(missing, UnreadableSample)
        assert len(opened) <= 6 * run


def test_a_schema_that_is_not_utf_8_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    cache = DigestCache(tmp_path / "cache")
    expected = cache.file(tmp_path / "a.bin")
    with closing(sqlite3.connect(tmp_path / "cache" / "digests.sqlite")) as base, base:
        base.execute("PRAGMA writable_schema = 1")
        base.execute("UPDATE sqlite_master SET sql = CAST(X'435245415445205441424C4520A2A2' AS TEXT)")
    assert cache.file(tmp_path / "a.bin") == expected
    assert cache.verify() == (1, 0)
