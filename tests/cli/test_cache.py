"""`abs cache`: features listed, explained, verified and pruned."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support import Abs

from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.last_run import SpaceUse, write_last_run
from abs_classify.encoding.spaces import Segment, Space, text_id

SPACE = Space("view-features", 1, {"seed": 1, "view": {"kind": "box"}}, "embedded\x1b[31m, float32")
IDS = [text_id("a"), text_id("b")]


def filled(folder: Path) -> DiskStore:
    store = DiskStore(folder)
    store.append(SPACE, [Segment(item, 0, np.zeros((3, 4), dtype=np.float32)) for item in IDS])
    return store


def only_pack(store: DiskStore) -> Path:
    (path,) = store.root.glob("features/*/*.safetensors")
    return path


def test_prune_removes_what_killed_runs_left(abs_command: Abs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(tmp_path / "own")
    pack = only_pack(cache)
    home = abs_command.home
    left = [
        pack.with_name(f".{pack.name}.abcdefgh.part"),
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
    assert abs_command(*prune, cache=cache.root).out == "removed 0 files, 0 B\n"
    assert all(path.exists() for path in left)
    later = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    said = abs_command(*prune, cache=cache.root).out.splitlines()
    assert said[1:] == ["removed 8 half-written files and folders of killed runs"]
    assert not any(path.exists() for path in left)
    assert (home / "own" / ".abcdefgh.part").exists()
    assert cache.counts(SPACE, IDS) == [3, 3]


def test_a_folder_whose_name_is_no_unicode(abs_command: Abs, tmp_path: Path) -> None:
    folder = tmp_path / "cache\udcff"
    pack = only_pack(filled(folder))
    for arguments in (["ls"], ["ls", "--json"]):
        assert "cache\\udcff" in abs_command("cache", *arguments, cache=folder).out
    pack.write_bytes(b"damaged")
    assert "cache\\udcff" in abs_command("cache", "verify", cache=folder).out


def test_spaces_are_listed_by_stage(abs_command: Abs, tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.append(Space("text-features", 1, {}), [Segment(IDS[0], 0, np.zeros((1, 4), dtype=np.float32))])
    (tmp_path / "derived").mkdir()
    (tmp_path / "derived" / "anchors").write_bytes(bytes(1500))
    (tmp_path / "v1" / "scores").mkdir(parents=True)
    (tmp_path / "v1" / "scores" / "entry").write_bytes(bytes(2500))
    listing = json.loads(abs_command("cache", "ls", "--json", cache=tmp_path).out)
    stages = {space["stage"]: space for space in listing["spaces"]}
    assert stages.keys() == {"view-features", "text-features"}
    views = stages["view-features"]
    assert [views[name] for name in ("space", "items", "rows", "packs")] == [SPACE.digest, 2, 6, 1]
    assert views["bytes"] == only_pack_of(tmp_path, SPACE).stat().st_size
    assert (listing["derived"], listing["former"]["bytes"]) == ({"entries": 1, "bytes": 1500}, 2500)
    lines = abs_command("cache", "ls", cache=tmp_path).out.splitlines()
    assert lines[1].split()[:3] == ["text-features", "1", "items"]
    assert "2 items           6 rows" in lines[2]
    assert lines[2].endswith("embedded\\x1b[31m, float32, box views, seed 1")
    assert "1.5 kB" in lines[3]
    assert "v1: 2.5 kB of a former version" in lines[4]
    (tmp_path / "features" / SPACE.digest / "space.json").write_text("{")
    assert "the description of this space is damaged" in abs_command("cache", "ls", cache=tmp_path).out


def only_pack_of(root: Path, space: Space) -> Path:
    (path,) = (root / "features" / space.digest).glob("*.safetensors")
    return path


def test_a_former_cache_is_left_alone_until_it_is_named(abs_command: Abs, tmp_path: Path) -> None:
    filled(tmp_path)
    former = tmp_path / "v1" / "scores"
    former.mkdir(parents=True)
    (former / "entry").write_bytes(bytes(2500))
    abs_command("cache", "prune", "--older-than", "0", "--max-size", "0", cache=tmp_path)
    assert list(tmp_path.glob("features/*/*.safetensors")) == []
    assert former.exists()
    assert abs_command("cache", "prune", "--former", cache=tmp_path).out == f"removed {tmp_path / 'v1'}, 2.5 kB\n"
    assert not (tmp_path / "v1").exists()
    assert abs_command("cache", "prune", "--former", cache=tmp_path).out == ""


def test_what_a_new_space_differs_in_is_explained(abs_command: Abs, tmp_path: Path) -> None:
    filled(tmp_path)
    other = Space("view-features", 1, {"seed": 2, "view": {"kind": "box"}})
    whole = Space("view-features", 1, {"view": {"kind": "whole"}})
    write_last_run(tmp_path, [SpaceUse(other, 2, 0, 6, 0), SpaceUse(SPACE, 5, 4, 15, 13), SpaceUse(whole, 2, 0, 2, 0)])
    lines = abs_command("cache", "explain", cache=tmp_path).out.splitlines()
    assert lines[0] == "view-features (box views, seed 2): computed 2 of 2 items, 6 of 6 views"
    assert lines[1].startswith("  nothing was there of this space; the nearest one (embedded")
    assert lines[2] == "    seed: 1 there, 2 here"
    assert "computed 1 of 5 items, 2 of 15 views" in lines[3]
    assert "the others were there" in lines[4]
    assert lines[6:] == ["  nothing of this kind was there"]


def test_the_size_of_the_cache_is_an_option_of_every_command(abs_command: Abs, tmp_path: Path) -> None:
    for size in ("500M", "none", "0"):
        assert abs_command("cache", "ls", "--cache-size", size, cache=tmp_path).code == 0
    line = abs_command.refuses("cache", "ls", "--cache-size=much", cache=tmp_path)
    assert "--cache-size must be a size such as 500M or 5G, got 'much'" in line


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
    assert "text-features (embedded, float32): computed 2 of 2 items" in explained
    abs_command.refuses(*command, "--attention", "magic", cache=cache)
    assert abs_command("cache", "explain", cache=cache).out == explained
    (root / "cat" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert abs_command(*command, cache=cache).code == 2
    assert "text-features (embedded, float32): all 2 items" in abs_command("cache", "explain", cache=cache).out


def test_verify_checks_rows_and_remembered_digests(abs_command: Abs, tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    DigestCache(cache.root).files([Path(__file__)])
    assert abs_command("cache", "verify", cache=cache.root).out == "7 sound, 0 damaged\n"
    pack = only_pack(cache)
    pack.write_bytes(pack.read_bytes()[:-1])
    with closing(sqlite3.connect(cache.root / "digests.sqlite")) as base, base:
        base.execute("UPDATE digests SET digest = digest || '0'")
    ran = abs_command("cache", "verify", cache=cache.root)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "3 sound, 4 damaged")
    assert f"damaged, dropped: 3 of 6 rows of {pack}" in ran.out
    assert "1 of 1 remembered digests of files" in ran.out
    assert abs_command("cache", "verify", cache=cache.root).out == "3 sound, 0 damaged\n"
    assert cache.counts(SPACE, IDS) == [3, 0]
