"""Small packs become few, whatever happens in between; nothing is lost and nothing is there twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from abs_classify.encoding import pack_merging
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.pack_folder import FolderPacks
from abs_classify.encoding.pack_index import PackIndex
from abs_classify.encoding.pack_merging import choose_packs, merge_packs
from abs_classify.encoding.spaces import Segment, Space, text_id

SPACE = Space("view-features", 4, {"seed": 1})
IDS = [text_id(str(number)) for number in range(400)]
ROWS = np.random.default_rng(0).normal(size=(400, 6, 4)).astype(np.float32)


def packs_of(root: Path) -> list[Path]:
    return sorted((root / "features" / SPACE.digest).glob("*.safetensors"))


def assert_all(store: DiskStore, items: range, count: int = 6) -> None:
    for item, rows in zip(items, store.load(SPACE, [IDS[item] for item in items]), strict=True):
        assert rows is not None
        np.testing.assert_array_equal(rows, ROWS[item, :count])


def test_many_small_appends_leave_few_packs(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    readers = [DiskStore(tmp_path) for _ in range(8)]
    for item in range(400):
        store.append(SPACE, [Segment(IDS[item], 0, ROWS[item])])
        assert len(packs_of(tmp_path)) < 16
        if item % 50 == 7:
            assert readers[item // 50].counts(SPACE, [text_id("none")]) == [0]
    # also with the index of packs that are gone
    for opened in (store, DiskStore(tmp_path), *readers):
        assert_all(opened, range(400))


def test_a_merged_pack_is_in_use_by_who_used_its_parts(tmp_path: Path) -> None:
    store, reader = DiskStore(tmp_path), DiskStore(tmp_path)
    store.append(SPACE, [Segment(IDS[0], 0, ROWS[0])])
    (used,) = packs_of(tmp_path)
    assert_all(reader, range(1))
    for item in range(1, 20):
        store.append(SPACE, [Segment(IDS[item], 0, ROWS[item])])
    assert used not in packs_of(tmp_path)
    del store
    DiskStore(tmp_path).prune(max_bytes=0)
    (merged,) = packs_of(tmp_path)
    assert_all(reader, range(16))
    del reader
    DiskStore(tmp_path).prune(max_bytes=0)
    assert not merged.exists()


def test_rounds_of_views_become_one_segment(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    for start, end in [(0, 2), (1, 3), (0, 2), (3, 4), (4, 6)]:
        store.append(SPACE, [Segment(IDS[item], start, ROWS[item, start:end]) for item in range(20)])
    folder = tmp_path / "features" / SPACE.digest
    merged = merge_packs(folder, [path.name for path in packs_of(tmp_path)], SPACE.digest)
    assert (merged.entries["start"].tolist(), merged.entries["count"].tolist()) == ([0] * 20, [6] * 20)
    assert (merged.rows, merged.damaged) == (20 * 9, 0)
    assert [path.name for path in packs_of(tmp_path)] == [merged.name]
    assert_all(DiskStore(tmp_path), range(20))
    assert_all(store, range(20))


def test_segments_with_a_gap_stay_apart(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    store.append(SPACE, [Segment(IDS[0], 4, ROWS[0, 4:]), Segment(IDS[1], 0, ROWS[1])])
    store.append(SPACE, [Segment(IDS[0], 0, ROWS[0, :2])])
    names = [path.name for path in packs_of(tmp_path)]
    merged = merge_packs(tmp_path / "features" / SPACE.digest, names, SPACE.digest)
    assert sorted(zip(merged.entries["start"], merged.entries["count"], strict=True)) == [(0, 2), (0, 6), (4, 2)]
    assert store.counts(SPACE, IDS[:2]) == [2, 6]
    store.append(SPACE, [Segment(IDS[0], 2, ROWS[0, 2:4])])
    assert_all(store, range(2))


def test_a_segment_does_not_outgrow_what_is_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_merging, "LARGEST_SEGMENT", 4 * 16)
    store = DiskStore(tmp_path)
    for start, end in [(0, 3), (2, 4), (3, 6)]:
        store.append(SPACE, [Segment(IDS[0], start, ROWS[0, start:end])])
    names = [path.name for path in packs_of(tmp_path)]
    merged = merge_packs(tmp_path / "features" / SPACE.digest, names, SPACE.digest)
    assert (merged.entries["start"].tolist(), merged.entries["count"].tolist()) == ([0, 4], [4, 2])
    assert_all(DiskStore(tmp_path), range(1))


def test_what_a_killed_merge_left_is_removed(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    for item in range(3):
        store.append(SPACE, [Segment(IDS[item], 0, ROWS[item])])
    left = {path.name: path.read_bytes() for path in packs_of(tmp_path)}
    merge_packs(tmp_path / "features" / SPACE.digest, list(left), SPACE.digest)
    for name, data in left.items():
        (tmp_path / "features" / SPACE.digest / name).write_bytes(data)
    later = DiskStore(tmp_path)
    assert_all(later, range(3))
    later.append(SPACE, [Segment(IDS[3], 0, ROWS[3])])
    assert len(packs_of(tmp_path)) == 2
    assert_all(later, range(4))


def test_damaged_rows_are_left_out(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    for item in range(3):
        store.append(SPACE, [Segment(IDS[item], 0, ROWS[item])])
    damaged = packs_of(tmp_path)[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    names = [path.name for path in packs_of(tmp_path)]
    merged = merge_packs(tmp_path / "features" / SPACE.digest, names, SPACE.digest)
    assert (merged.rows, merged.damaged) == (12, 6)
    assert DiskStore(tmp_path).counts(SPACE, IDS[:3]) == [6, 0, 6]


def test_large_packs_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_merging, "_FEWEST", 999)
    store = DiskStore(tmp_path)
    for item in range(40):
        store.append(SPACE, [Segment(IDS[item], 0, ROWS[item])])
    packs = PackIndex(FolderPacks(tmp_path / "features" / SPACE.digest), tmp_path / "x.index", SPACE.digest).packs
    monkeypatch.setattr(pack_merging, "_FEWEST", 16)
    names = sorted(pack.name for pack in packs)
    assert [pack.name for pack in choose_packs(packs)] == names
    assert choose_packs(packs[:15]) == []
    monkeypatch.setattr(pack_merging, "_FIRST_CLASS", packs[0].size / 16**2 - 1)
    assert choose_packs(packs) == []


def test_what_cannot_be_merged_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DiskStore(tmp_path)
    monkeypatch.setattr(pack_merging, "pack_name", lambda: "x" * 300)
    for item in range(20):
        store.append(SPACE, [Segment(IDS[item], 0, ROWS[item])])
    assert len(packs_of(tmp_path)) == 20
    assert_all(store, range(20))


def append_forever(root: Path, first: int) -> None:
    store = DiskStore(root)
    for number in range(1_000_000):
        item = first + number % 200
        start = number // 200 % 6
        store.append(SPACE, [Segment(IDS[item], start, ROWS[item, start : start + 1])])


@pytest.mark.faults
@pytest.mark.slow
def test_kills_at_any_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for attempt in range(3):
        workers = [context.Process(target=append_forever, args=(tmp_path, first)) for first in (0, 200)]
        for worker in workers:
            worker.start()
        while len(packs_of(tmp_path)) < 8:
            time.sleep(0.01)
        time.sleep(0.3 + 0.17 * attempt)
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
        store = DiskStore(tmp_path)
        for item, rows in enumerate(store.load(SPACE, IDS)):
            if rows is not None:
                np.testing.assert_array_equal(rows, ROWS[item, : len(rows)])
        assert sum(checked.damaged for checked in store.verify()) == 0
    # the locks of the dead hinder nobody
    store = DiskStore(tmp_path)
    store.append(SPACE, [Segment(item, 0, rows) for item, rows in zip(IDS, ROWS, strict=True)])
    assert_all(store, range(400))
    for number in range(40):
        store.append(SPACE, [Segment(IDS[number], 0, ROWS[number])])
    assert len(packs_of(tmp_path)) < 20
