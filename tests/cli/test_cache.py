"""`abs cache`: entries listed, verified and pruned."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support import Abs

from abs_classify.encoding.cache import CacheKey, StageCache
from abs_classify.encoding.digest_cache import DigestCache

KEY = CacheKey("view-features", 1, {"seed": 1})


def filled(folder: Path) -> StageCache:
    cache = StageCache(folder)
    cache.store(KEY, {"features": np.zeros((3, 4), dtype=np.float32)})
    return cache


def test_prune_removes_what_killed_runs_left(abs_command: Abs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(tmp_path / "own")
    (entry,) = cache.entries()
    home = abs_command.home
    left = [
        entry.path.with_name(f".{entry.path.name}.abcdefgh.part"),
        cache.root / "derived" / ".0123456789ab.abcdefgh.part" / "model.safetensors",
        home / ".writing-abcdefgh" / "birds.jsonl",
        home / "bundles" / "objects" / "sha256" / "ab" / ".ab.jsonl.abcdefgh.part",
        home / "bundles" / ".pull-abcdefgh" / "birds.jsonl",
        home / "journals" / ".input-abcdefgh" / "input.jsonl",
        home / "models" / ".incoming-abcdefgh" / "model.safetensors",
        home / "results" / "run" / ".abcdefgh.part",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10))
    (home / "own").mkdir()
    (home / "own" / ".abcdefgh.part").touch()  # in no folder of the toolkit's
    prune = ("cache", "prune", "--older-than", "5", "--max-size", "1G")
    assert abs_command(*prune, cache=cache.root).out == "removed 0 entries, 0 B\n"
    assert list(cache.derived()) == []
    assert all(path.exists() for path in left)
    later = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    said = abs_command(*prune, cache=cache.root).out.splitlines()
    assert said[1:] == ["removed 8 half-written files and folders of killed runs"]
    assert not any(path.exists() for path in left)
    assert (home / "own" / ".abcdefgh.part").exists()
    assert cache.load(KEY) is not None


def test_a_folder_whose_name_is_no_unicode(abs_command: Abs, tmp_path: Path) -> None:
    folder = tmp_path / "cache\udcff"
    (entry,) = filled(folder).entries()
    entry.path.write_bytes(b"damaged")
    for arguments in (["ls"], ["ls", "--json"], ["verify"]):
        assert "cache\\udcff" in abs_command("cache", *arguments, cache=folder).out


@pytest.mark.slow
def test_a_run_that_failed_is_explained_or_leaves_the_one_before(
    abs_command: Abs, tmp_path: Path, folder: Callable[..., Path]
) -> None:
    cache = tmp_path / "own"
    assert abs_command("cache", "explain", cache=cache).out == "no run has used this cache yet\n"
    root = folder(cat=["a.png"])
    command = ("eval", "--method", "clip", "--labels", "cat,dog", "--threads", "1", "--dataset", f"imagefolder:{root}")
    assert abs_command(*command, cache=cache).code == 0
    explained = abs_command("cache", "explain", cache=cache).out
    assert "text-features: 0 of 1 from the cache" in explained
    abs_command.refuses(*command, "--attention", "magic", cache=cache)
    assert abs_command("cache", "explain", cache=cache).out == explained
    (root / "cat" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert abs_command(*command, cache=cache).code == 2
    assert "text-features: 1 of 1 from the cache" in abs_command("cache", "explain", cache=cache).out


def test_verify_checks_entries_and_remembered_digests(abs_command: Abs, tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    DigestCache(cache.root).files([Path(__file__)])
    assert abs_command("cache", "verify", cache=cache.root).out == "2 sound, 0 damaged\n"
    (entry,) = cache.entries()
    entry.path.unlink()
    entry.path.mkdir()
    with closing(sqlite3.connect(cache.root / "digests.sqlite")) as base, base:
        base.execute("UPDATE digests SET digest = digest || '0'")
    ran = abs_command("cache", "verify", cache=cache.root)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "0 sound, 2 damaged")
    assert f"damaged, removed: {entry.path}" in ran.out
    assert "1 of 1 remembered digests of files" in ran.out
    assert abs_command("cache", "verify", cache=cache.root).out == "0 sound, 0 damaged\n"
