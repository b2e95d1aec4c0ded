"""The store keeps to its limit: what nobody uses makes room, what somebody uses stays, and no result changes."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from abs_classify.encoding import store_limit
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.spaces import Segment, Space, text_id

SPACE = Space("view-features", 4, {"seed": 1})
IDS = [text_id(str(number)) for number in range(40)]
ROWS = np.random.default_rng(0).normal(size=(40, 10, 100)).astype(np.float32)

# of one item and its pack
PACK = 4600


def add(store: DiskStore, items: range) -> None:
    for item in items:
        store.append(SPACE, [Segment(IDS[item], 0, ROWS[item])])


def stored(root: Path) -> list[int]:
    counts = DiskStore(root).counts(SPACE, IDS)
    return [item for item, count in enumerate(counts) if count]


def used_long_ago(root: Path) -> None:
    for age, path in enumerate(sorted((root / "features" / SPACE.digest).glob("*.safetensors"), reverse=True)):
        os.utime(path, (time.time() - 1e6 - 100 * age, path.stat().st_mtime))


def test_the_packs_that_were_not_used_for_the_longest_time_make_room(tmp_path: Path) -> None:
    add(DiskStore(tmp_path, limit=float("inf")), range(8))
    for path in (tmp_path / "features").glob("*/*.safetensors"):
        os.utime(path, (1_000, 1_000))
    assert DiskStore(tmp_path).load(SPACE, IDS[:2])[1] is not None  # now the most recently used
    add(DiskStore(tmp_path, limit=6 * PACK), range(8, 10))
    assert {0, 1, 8, 9} <= set(stored(tmp_path))
    assert len(stored(tmp_path)) == 6


def test_what_a_running_process_uses_stays_and_new_rows_are_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(DiskStore(tmp_path, limit=float("inf")), range(6))
    reader = DiskStore(tmp_path)
    reader.counts(SPACE, IDS[:3])
    writer = DiskStore(tmp_path, limit=6 * PACK)
    with caplog.at_level(logging.WARNING):
        add(writer, range(10, 20))
    assert stored(tmp_path) == [0, 1, 2, 10, 11, 12]
    (line,) = caplog.messages
    assert "27.6 kB" in line
    assert "--cache-size" in line
    del reader
    add(DiskStore(tmp_path, limit=6 * PACK), range(20, 23))
    assert set(stored(tmp_path)) == {10, 11, 12, 20, 21, 22}


def test_a_scan_larger_than_the_limit_keeps_what_it_kept(tmp_path: Path) -> None:
    for _ in range(3):
        scan = DiskStore(tmp_path, limit=5 * PACK)
        used_long_ago(tmp_path)
        known = scan.counts(SPACE, IDS)
        for item in reversed(range(40)):
            if not known[item]:
                add(scan, range(item, item + 1))
        assert stored(tmp_path) == list(range(35, 40))


def test_rows_that_have_no_room_even_then_cost_no_others(tmp_path: Path) -> None:
    add(DiskStore(tmp_path), range(4))
    reader = DiskStore(tmp_path)
    reader.counts(SPACE, IDS[:3])
    large = DiskStore(tmp_path, limit=5 * PACK)
    large.append(SPACE, [Segment(IDS[item], 0, ROWS[item]) for item in range(10, 13)])
    assert stored(tmp_path) == [0, 1, 2, 3]


def test_no_limit_and_a_limit_of_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(DiskStore(tmp_path, limit=float("inf")), range(3))
    nothing = DiskStore(tmp_path, limit=0)
    add(nothing, range(3, 6))
    nothing.announce(1 << 60)
    assert stored(tmp_path) == [0, 1, 2]
    assert nothing.load(SPACE, IDS[:1])[0] is not None
    assert caplog.messages == []
    DiskStore(tmp_path / "none", limit=0).require_writable()
    with nothing.claim("work") as first, nothing.claim("work") as second:
        assert first
        assert second
    assert not (tmp_path / "none").exists()


def test_what_has_no_room_is_there_for_the_next_step(tmp_path: Path) -> None:
    kept = DiskStore(tmp_path)
    kept.append(SPACE, [Segment(IDS[0], 0, ROWS[0][:4])])
    store = DiskStore(tmp_path, limit=0)
    store.append(SPACE, [Segment(IDS[0], 4, ROWS[0][4:]), Segment(IDS[1], 0, ROWS[1])])
    store.append(SPACE, [Segment(IDS[2], 1, ROWS[2][1:])])
    assert store.counts(SPACE, IDS[:3]) == [10, 10, 0]
    first, second, third = store.load(SPACE, IDS[:3])
    np.testing.assert_array_equal(first, ROWS[0])
    np.testing.assert_array_equal(second, ROWS[1])
    assert third is None
    np.testing.assert_array_equal(store.load(SPACE, IDS[:1], 6)[0], ROWS[0][:6])
    many = [text_id(f"another {number}") for number in range(100)]
    for item in many:
        store.append(SPACE, [Segment(item, 0, ROWS[0])])
    counts = store.counts(SPACE, many)
    assert (counts[0], counts[-1]) == (0, 10)
    assert stored(tmp_path) == [0]


def test_the_default_limit_is_a_fifth_of_what_would_be_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(DiskStore(tmp_path), range(3))
    taken = sum(path.stat().st_size for path in (tmp_path / "features").glob("*/*.safetensors"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10 * PACK))
    assert store_limit.StoreLimit(tmp_path / "features", None).bytes == (10 * PACK + taken) // 5
    add(DiskStore(tmp_path / "other"), range(4))
    assert stored(tmp_path / "other") == [0, 1]


def test_a_long_run_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    with caplog.at_level(logging.INFO):
        store = DiskStore(tmp_path, limit=4 * 10**8)
        add(store, range(1))
        for required in (0, 10**7, 3 * 10**8, 5 * 10**8, 2 * 10**9):
            store.announce(required)
        DiskStore(tmp_path, limit=float("inf")).announce(3 * 10**8)
    fits, exceeds, too_large, unlimited = caplog.records
    assert (fits.levelname, exceeds.levelname, too_large.levelname) == ("INFO", "WARNING", "WARNING")
    assert "adds up to 300.0 MB" in fits.message
    assert "takes 4.5 kB of at most 400.0 MB" in fits.message
    assert "may take 400.0 MB" in exceeds.message
    assert "--cache-size" in exceeds.message
    assert "1.0 GB free" in too_large.message
    assert "--cache" in too_large.message
    assert unlimited.message.endswith("which takes 4.5 kB")


def test_prune_spares_what_is_in_use(tmp_path: Path) -> None:
    add(DiskStore(tmp_path), range(4))
    (tmp_path / "derived").mkdir()
    (tmp_path / "derived" / "anchors.safetensors").write_bytes(bytes(10))
    (tmp_path / "derived" / ".hidden").write_bytes(bytes(10))
    reader = DiskStore(tmp_path)
    reader.counts(SPACE, IDS[:1])
    removed = DiskStore(tmp_path).prune(max_bytes=0)
    assert sorted(file.size for file in removed)[0] == 10
    assert len(removed) == 4
    assert stored(tmp_path) == [0]
    assert [path.name for path in (tmp_path / "derived").iterdir()] == [".hidden"]
    del reader
    assert DiskStore(tmp_path).prune(older_than_days=1) == []
    assert len(DiskStore(tmp_path).prune(older_than_days=0)) == 1
    folder = tmp_path / "features" / SPACE.digest
    os.utime(folder, (1, 1))
    assert DiskStore(tmp_path).prune(older_than_days=0) == []
    assert not folder.exists()
