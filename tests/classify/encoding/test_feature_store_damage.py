"""Whatever is done to the files, what is found is right; damage costs the damaged rows, which can be added again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_classify.encoding import pack_index
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.spaces import Segment, Space, text_id
from abs_core.errors import CacheError

SPACE = Space("view-features", 4, {"seed": 1})
IDS = [text_id(str(number)) for number in range(30)]
ROWS = np.random.default_rng(0).normal(size=(30, 4, 6)).astype(np.float32)


def fill(root: Path, *, packs: int = 3) -> list[Path]:
    """Three packs of ten items with four rows each; their paths in that order."""
    store, paths = DiskStore(root), list[Path]()
    for first in range(0, 10 * packs, 10):
        store.append(SPACE, [Segment(IDS[item], 0, ROWS[item]) for item in range(first, first + 10)])
        paths += sorted({*packs_of(root)} - {*paths})
    return paths


def packs_of(root: Path) -> list[Path]:
    return sorted((root / "features" / SPACE.digest).glob("*.safetensors"))


def assert_right(store: DiskStore) -> int:
    """Whatever is found is right; how many items are found."""
    loaded = store.load(SPACE, IDS)
    for item, rows in enumerate(loaded):
        if rows is not None:
            np.testing.assert_array_equal(rows, ROWS[item, : len(rows)])
            assert rows.dtype == np.float32
    return sum(rows is not None for rows in loaded)


def add_missing(store: DiskStore) -> None:
    counts = store.counts(SPACE, IDS)
    store.append(SPACE, [Segment(IDS[i], n, ROWS[i, n:]) for i, n in enumerate(counts) if n < 4])
    assert store.counts(SPACE, IDS) == [4] * 30


def test_a_flipped_bit_costs_one_item_which_is_dropped_and_added_again(tmp_path: Path) -> None:
    damaged = fill(tmp_path)[1]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    store = DiskStore(tmp_path)
    assert store.counts(SPACE, IDS) == [4] * 30  # until it is read
    assert assert_right(store) == 29
    assert not damaged.exists()
    assert store.counts(SPACE, IDS) == [4] * 19 + [0] + [4] * 10
    add_missing(DiskStore(tmp_path))
    assert assert_right(DiskStore(tmp_path)) == assert_right(store) == 30


@pytest.mark.parametrize("keep", [0, 7, 300, -1, -96, -97, -500])
def test_a_pack_that_was_cut_off_costs_what_is_lost(tmp_path: Path, keep: int) -> None:
    damaged = fill(tmp_path)[1]
    data = damaged.read_bytes()[:keep]
    damaged.write_bytes(data)
    store = DiskStore(tmp_path)
    lost = -(keep // 96) if keep < 0 else 10
    assert assert_right(store) == 30 - lost
    add_missing(store)
    assert assert_right(DiskStore(tmp_path)) == 30
    assert not damaged.exists()


def test_damage_while_the_store_is_open(tmp_path: Path) -> None:
    first, second, third = fill(tmp_path)
    store = DiskStore(tmp_path)
    assert assert_right(store) == 30
    data = first.read_bytes()
    first.write_bytes(data[:-96])
    second.unlink()
    second.mkdir()
    (second / "file").touch()
    third.unlink()
    third.symlink_to(third)
    assert assert_right(store) == 9
    add_missing(store)
    assert assert_right(DiskStore(tmp_path)) == 30


def test_what_is_no_file_is_no_pack(tmp_path: Path) -> None:
    fill(tmp_path)
    folder = tmp_path / "features" / SPACE.digest
    os.mkfifo(folder / "a.safetensors")
    (folder / "b.safetensors").mkdir()
    (folder / "c.safetensors").symlink_to("c.safetensors")
    assert assert_right(DiskStore(tmp_path)) == 30


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path), Path.touch])
def test_what_is_in_the_place_of_a_file_or_folder_of_the_store(tmp_path: Path, put: Callable[[Path], None]) -> None:
    folder = tmp_path / "features" / SPACE.digest
    fill(tmp_path)
    (folder / "space.json").unlink()
    put(folder / "space.json")
    assert DiskStore(tmp_path).describe(SPACE.digest) is None
    fill(tmp_path)
    assert DiskStore(tmp_path).describe(SPACE.digest) == SPACE
    shutil.rmtree(folder)
    put(folder)
    assert assert_right(DiskStore(tmp_path)) == 0
    fill(tmp_path)
    assert assert_right(DiskStore(tmp_path)) == 30
    shutil.rmtree(tmp_path / "features" / "processes")
    put(tmp_path / "features" / "processes")
    with DiskStore(tmp_path).claim("work") as is_granted:
        assert is_granted
    assert assert_right(DiskStore(tmp_path)) == 30


def test_a_pack_of_another_space_is_not_believed(tmp_path: Path) -> None:
    path = fill(tmp_path)[0]
    other = Space("view-features", 4, {"seed": 2})
    store = DiskStore(tmp_path)
    store.append(other, [Segment(IDS[0], 0, ROWS[1])])
    path.rename(tmp_path / "features" / other.digest / path.name)
    (rows,) = DiskStore(tmp_path).load(other, IDS[:1])
    assert rows is not None
    np.testing.assert_array_equal(rows, ROWS[1])
    assert assert_right(DiskStore(tmp_path)) == 20


def test_a_sound_row_is_preferred_to_a_damaged_one(tmp_path: Path) -> None:
    path = fill(tmp_path)[0]
    store = DiskStore(tmp_path)
    store.append(SPACE, [Segment(IDS[0], 0, ROWS[0, :2]), Segment(IDS[0], 2, ROWS[0, 2:3])])
    data = path.read_bytes()
    path.write_bytes(data[: -10 * 96] + bytes(10 * 96))
    (rows,) = DiskStore(tmp_path).load(SPACE, IDS[:1])
    assert rows is not None
    np.testing.assert_array_equal(rows, ROWS[0, :3])


def test_the_index_may_be_damaged_or_deleted_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_index, "_FEW", 5)
    fill(tmp_path)
    (file,) = (tmp_path / "index").iterdir()
    whole = file.read_bytes()
    opened = DiskStore(tmp_path)
    for data in (b"", whole[:30], whole[:-1], whole[:100] + b"x" + whole[101:], whole[:-5] + b"x" + whole[-4:], None):
        file.unlink()
        if data is not None:
            file.write_bytes(data)
        assert assert_right(DiskStore(tmp_path)) == assert_right(opened) == 30
    for blocker in (Path.mkdir, lambda path: path.symlink_to(path)):
        (tmp_path / "index").exists() and [path.unlink() for path in (tmp_path / "index").iterdir()]
        blocker(file)
        assert assert_right(DiskStore(tmp_path)) == 30
        file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path: Path) -> None:
    damaged = fill(tmp_path / "cache")[1]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    bound = tmp_path / "bound"
    bound.mkdir()
    mounts = [["mount", "--bind", str(tmp_path / "cache"), str(bound)], ["mount", "-o", "remount,bind,ro", str(bound)]]
    if any(subprocess.run(mount, capture_output=True, check=False).returncode for mount in mounts):
        pytest.skip("a folder cannot be mounted read-only here")
    try:
        store = DiskStore(bound)
        assert assert_right(store) == assert_right(store) == 29
        assert store.counts(SPACE, IDS) == [4] * 19 + [0] + [4] * 10
        with pytest.raises(CacheError, match=r"read-only.*--cache DIR"):
            store.require_writable()
        with store.claim("work") as is_granted:
            assert is_granted
        assert sum(checked.damaged for checked in store.verify()) == 4
        assert store.prune(max_bytes=0) == []
    finally:
        subprocess.run(["umount", str(bound)], check=True)


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = fill(tmp_path)[0]
    store = DiskStore(tmp_path)
    assert assert_right(store) == 30

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:  # root may read everything
        patch.setattr(Path, "open", refuse)
        with pytest.raises(CacheError, match=rf"{pack.name}' in the cache cannot be read.*--cache DIR"):
            store.load(SPACE, IDS)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CacheError, match=rf"{SPACE.digest}' in the cache cannot be read.*--cache DIR"):
        DiskStore(tmp_path).counts(SPACE, IDS)


@pytest.mark.fuzz
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 1 << 14), st.sampled_from(["flip", "cut", "zero", "insert", "swap"])
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_damage_leaves_what_is_right(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[int, int, str]]
) -> None:
    root = tmp_path_factory.mktemp("store")
    paths = fill(root)
    for number, place, kind in damages:
        data = bytearray(paths[number].read_bytes())
        place = place % max(1, len(data))
        changes: dict[str, Callable[[], bytes]] = {
            "flip": lambda data=data, place=place: data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :],
            "cut": lambda data=data, place=place: data[:place],
            "zero": lambda data=data, place=place: (
                data[:place] + bytes(len(data[place : place + 40])) + data[place + 40 :]
            ),
            "insert": lambda data=data, place=place: data[:place] + b"\xff" + data[place:],
            "swap": lambda number=number: paths[number - 1].read_bytes(),
        }
        if data:
            paths[number].write_bytes(changes[kind]())
    store = DiskStore(root)
    assert_right(store)
    add_missing(store)
    assert assert_right(store) == assert_right(DiskStore(root)) == 30
