"""The cache on a disk that is full or read-only."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support import Abs

from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.spaces import Segment, Space, text_id
from abs_core.errors import StorageError

PLAIN = ("--threads", "1")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here, so neither a full nor a read-only one was tested")
    yield path
    gc.collect()  # the frames of an error may still hold a database that lies there open
    subprocess.run(["umount", str(path)], check=True)


def test_a_read_only_cache_folder(abs_command: Abs, disk: Path, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"], dog=["b.png"])
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    arguments = ("eval", "--dataset", f"imagefolder:{root}", "--method", "clip", *PLAIN)
    line = abs_command.refuses(*arguments, cache=disk / "cache")
    assert str(disk) in line
    assert "--cache" in line
    assert list(disk.iterdir()) == []


@pytest.mark.slow
def test_a_read_only_cache_that_holds_everything_works(
    abs_command: Abs, tmp_path: Path, folder: Callable[..., Path], shared_cache: Path
) -> None:
    root = folder(cat=["a.png"], dog=["b.png"])
    arguments = ("eval", "--dataset", f"imagefolder:{root}", "--labels", "cat,dog", "--method", "clip", *PLAIN)
    full = abs_command(*arguments)
    assert full.code == 0
    bound = tmp_path / "bound"
    bound.mkdir()
    mounts = [["mount", "--bind", str(shared_cache), str(bound)], ["mount", "-o", "remount,bind,ro", str(bound)]]
    if any(subprocess.run(mount, capture_output=True, check=False).returncode for mount in mounts):
        pytest.skip("a folder cannot be mounted read-only here")
    try:
        again = abs_command(*arguments, cache=bound)
        assert (again.code, again.out) == (0, full.out)
        assert "everything came from the cache" in again.err
    finally:
        subprocess.run(["umount", str(bound)], check=True)


def test_a_full_disk(abs_command: Abs, disk: Path, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"], dog=["b.png"])
    store, space = DiskStore(disk / "cache", limit=float("inf")), Space("view-features", 1, {})
    small, large = Segment(text_id("a"), 0, np.zeros((1, 10))), Segment(text_id("b"), 0, np.zeros((1, 100_000)))
    store.append(space, [small])
    with pytest.raises(StorageError, match=r"no space left.*another disk"):
        store.append(space, [large])
    DiskStore(disk / "cache").append(space, [large])  # by default nothing is kept that does not fit
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 1024)
    arguments = ("eval", "--dataset", f"imagefolder:{root}", "--method", "clip", *PLAIN)
    line = abs_command.refuses(*arguments, cache=disk / "cache")
    assert str(disk) in line
    assert "no space left" in line
    assert not list(disk.rglob("*.part"))
    assert store.counts(space, [small.id, large.id]) == [1, 0]
