"""Entries that are no files, and keys that are larger than the header of an entry."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from abs_classify.encoding.cache import CacheKey, StageCache, read_last_run, write_last_run


def key(**inputs: object) -> CacheKey:
    return CacheKey("view-features", 1, inputs)


def arrays() -> dict[str, np.ndarray]:
    return {"features": np.ones((3, 4), dtype=np.float32)}


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "file").write_bytes(b"x")


@pytest.mark.parametrize("put", [_folder, os.mkfifo, _link_to_itself, Path.touch])
def test_what_is_no_file_in_the_place_of_an_entry_is_removed(tmp_path: Path, put: Callable[[Path], None]) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(a=1), arrays())
    (entry,) = cache.entries()
    entry.path.unlink()
    put(entry.path)
    assert cache.explain(key(a=2)) is None
    assert [good for _, good in cache.verify()] == [False]
    assert list(cache.entries()) == []
    put(entry.path)
    assert cache.load(key(a=1)) is None
    cache.store(key(a=1), arrays())
    assert cache.load(key(a=1)) is not None


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_file_in_the_place_of_a_folder_of_entries_is_removed(tmp_path: Path, depth: int) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(a=1), arrays())
    (entry,) = cache.entries()
    folder = entry.path.parents[depth - 1]
    shutil.rmtree(folder)
    folder.write_bytes(b"x")
    assert cache.load(key(a=1)) is None
    cache.store(key(a=1), arrays())
    assert cache.load(key(a=1)) is not None


def test_verify_knows_the_key_of_an_entry_by_its_name(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(a=1), arrays())
    (entry,) = cache.entries()
    entry.path.rename(entry.path.with_stem("0" * 64))
    assert [good for _, good in cache.verify()] == [False]


def test_a_key_of_any_size_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million texts are more than the header of an entry may hold."""
    monkeypatch.setattr("abs_classify.encoding.cache._LARGEST_KEY", 2000)
    cache, texts = StageCache(tmp_path), [f"a photo of a {number}" for number in range(1000)]
    large = key(texts=texts, model="one", few=["a"])
    assert large.digest == CacheKey(large.stage, large.version, large.inputs).digest
    cache.store(large, arrays())
    (entry,) = cache.entries()
    assert entry.digest == large.digest
    assert entry.bytes < 4000
    assert cache.load(large) is not None
    assert [good for _, good in cache.verify()] == [True]
    for other in (key(texts=texts[:-1], model="one", few=["a"]), key(texts=texts, model="two", few=["a"])):
        assert cache.load(other) is None
    found = cache.explain(key(texts=texts, model="two", few=["a"]))
    assert found is not None
    assert [part.path for part in found[1]] == ["inputs.model"]
    write_last_run(cache)
    run = read_last_run(tmp_path)
    assert run is not None
    assert [missed.digest for missed in run.missed] == [missed.digest for missed in cache.missed]
    assert cache.explain(run.missed[0]) is not None
    assert (tmp_path / "last-run.json").stat().st_size < 4000


def test_an_entry_whose_long_key_was_written_down_whole_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, large = StageCache(tmp_path), key(texts=[str(number) for number in range(1000)])
    cache.store(large, arrays())
    monkeypatch.setattr("abs_classify.encoding.cache._LARGEST_KEY", 2000)
    again = key(texts=[str(number) for number in range(1000)])
    assert cache.load(again) is not None
    assert [good for _, good in cache.verify()] == [True]


def test_a_key_beyond_the_limit_of_the_format(tmp_path: Path) -> None:
    cache, large = StageCache(tmp_path), key(texts=["x" * 400_000] * 300)
    cache.store(large, arrays())
    assert cache.load(large) is not None
