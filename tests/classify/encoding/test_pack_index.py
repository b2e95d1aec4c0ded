"""The index answers from its file, takes in what others add and remove, and holds little in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from abs_classify.encoding import pack_folder, pack_index
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.pack_folder import FolderPacks
from abs_classify.encoding.pack_index import PackIndex
from abs_classify.encoding.packs import keys_of, write_pack
from abs_classify.encoding.spaces import Segment, Space, text_id

SPACE = Space("images", 1, {})
ROW = np.zeros((1, 8), np.uint8)


def write(folder: Path, ids: list[str]) -> str:
    return write_pack(folder, SPACE.digest, [Segment(item, 0, ROW) for item in ids])[0]


def index_of(folder: Path) -> PackIndex:
    return PackIndex(FolderPacks(folder), folder.parent / "index", SPACE.digest)


def found(index: PackIndex, ids: list[str]) -> list[int]:
    return index.find(keys_of(ids))[0].tolist()


def test_many_items_are_found_without_a_look_at_the_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_index, "_FEW", 1000)
    ids = [text_id(str(number)) for number in range(6000)]
    for first in range(0, 6000, 500):
        write(tmp_path / "packs", ids[first : first + 500])
    assert found(index_of(tmp_path / "packs"), ids) == list(range(6000))
    monkeypatch.setattr(pack_folder, "read_entries", lambda *_: pytest.fail("a pack was read"))
    index = index_of(tmp_path / "packs")
    assert found(index, [*ids[::-1], text_id("none")]) == list(range(6000))
    assert index.item_count() == 6000
    # mapped, and so no memory of this process
    assert all(isinstance(tier.entries.base, np.memmap) for tier in index._tiers)


def test_what_is_new_since_the_index_was_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_index, "_FEW", 10)
    ids = [text_id(str(number)) for number in range(40)]
    first = write(tmp_path / "packs", ids[:20])
    index = index_of(tmp_path / "packs")
    written = (tmp_path / "index").stat().st_mtime_ns
    write(tmp_path / "packs", ids[20:25])
    assert found(index_of(tmp_path / "packs"), ids) == list(range(25))
    assert (tmp_path / "index").stat().st_mtime_ns == written  # a few are read again at each start
    assert index.refresh()
    assert not index.refresh(force=True)
    (tmp_path / "packs" / first).unlink()
    assert index.refresh()
    assert found(index, ids) == list(range(20, 25))
    write(tmp_path / "packs", ids[25:])
    for opened in (index, index_of(tmp_path / "packs")):
        opened.refresh()
        assert found(opened, ids) == list(range(20, 40))


def test_ids_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    alike = [f"sha256:{'00' * 8}{number:048x}" for number in range(6)]
    write(tmp_path / "packs", alike[:3])
    write(tmp_path / "packs", alike[3:5])
    index = index_of(tmp_path / "packs")
    assert found(index, alike[::-1]) == [1, 2, 3, 4, 5]
    assert [entry.tobytes().hex() for entry in index.find(keys_of(alike))[1]["id"]] == [
        item.removeprefix("sha256:") for item in alike[:5]
    ]


def test_packs_of_one_process_are_merged_in_memory(tmp_path: Path) -> None:
    ids = [text_id(str(number)) for number in range(50)]
    index = index_of(tmp_path / "packs")
    for item in ids:
        name, header, entries = write_pack(tmp_path / "packs", SPACE.digest, [Segment(item, 0, ROW)])
        index.add(name, header, entries)
        index.add(name, header, entries)  # harmless
    assert found(index, ids) == list(range(50))
    assert len(index._tiers) <= 13
    assert not (tmp_path / "index").exists()


def test_the_index_lies_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_index, "_FEW", 0)
    store = DiskStore(tmp_path / "network", index=tmp_path / "local")
    store.append(SPACE, [Segment(text_id("a"), 0, ROW)])
    assert [path.name for path in (tmp_path / "local").iterdir()] == [f"{SPACE.digest}.index"]
    assert not (tmp_path / "network" / "index").exists()


def test_a_file_that_another_process_wrote_at_the_same_time_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_index, "_FEW", 1)
    folder, ids = tmp_path / "packs", [text_id(str(number)) for number in range(20)]
    names = sorted([write(folder, ids[:10]), write(folder, ids[10:])])
    aside = (folder / names[0]).rename(tmp_path / "aside")
    other = PackIndex(FolderPacks(folder), tmp_path / "other", SPACE.digest)  # which sees the packs in another order
    aside.rename(folder / names[0])
    other.refresh(force=True)
    original = PackIndex._write

    def write_and_lose(index: PackIndex, *parts: object) -> None:
        original(index, *parts)  # type: ignore[arg-type]
        (tmp_path / "index").write_bytes((tmp_path / "other").read_bytes())

    expected = index_of(folder).find(keys_of(ids))[1]["pack"].tolist()
    (tmp_path / "index").unlink()
    monkeypatch.setattr(PackIndex, "_write", write_and_lose)
    assert index_of(folder).find(keys_of(ids))[1]["pack"].tolist() == expected
