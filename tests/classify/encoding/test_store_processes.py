"""Work that one process has claimed is not done by another; the locks of dead processes do not count."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import pytest

from abs_classify.encoding.store_processes import UsedPacks, claim_work, remove_dead_files, wait_for_work


def hold(folder: Path, connection: Connection) -> None:
    used = UsedPacks(folder)
    used.add(["a.safetensors", "b.safetensors"])
    with claim_work(folder, "shard 1") as is_granted:
        connection.send(is_granted)
        connection.recv()


@pytest.mark.faults
def test_claims_and_lists_end_with_their_process(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() is True
    used = UsedPacks(tmp_path)
    assert used.of_others() == {"a.safetensors", "b.safetensors"}
    with claim_work(tmp_path, "shard 1") as is_granted, claim_work(tmp_path, "shard 2") as is_other_granted:
        assert (is_granted, is_other_granted) == (False, True)
    assert not wait_for_work(tmp_path, "shard 1", 0.05)
    assert wait_for_work(tmp_path, "shard 2", 0)
    remove_dead_files(tmp_path)
    assert len(list(tmp_path.glob("*.claim"))) == 1
    assert process.pid is not None
    os.kill(process.pid, 9)
    process.join()
    assert wait_for_work(tmp_path, "shard 1", 10)
    remove_dead_files(tmp_path)
    assert list(tmp_path.glob("*.claim")) == []
    assert used.of_others() == set()
    with claim_work(tmp_path, "shard 1") as is_granted:
        assert is_granted
    assert [path.suffix for path in tmp_path.iterdir()] == [".uses"]


def test_a_claim_is_granted_once_among_threads(tmp_path: Path) -> None:
    running, most, turns = 0, 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most, turns
        for _ in range(6):
            with claim_work(tmp_path, "work") as is_granted:
                if is_granted:
                    with lock:
                        running, turns = running + 1, turns + 1
                        most = max(most, running)
                    time.sleep(0.001)
                    with lock:
                        running -= 1
            assert wait_for_work(tmp_path, "work", 10)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert turns >= 6


def test_a_list_goes_with_its_store(tmp_path: Path) -> None:
    used = UsedPacks(tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing was used yet
    used.add(["a"])
    assert len(list(tmp_path.iterdir())) == 1
    del used
    assert list(tmp_path.iterdir()) == []


def test_who_begins_removes_what_killed_processes_left(tmp_path: Path) -> None:
    for name in ("4711-0a0b0c0d.uses", f"{'0a' * 16}.claim"):
        (tmp_path / name).write_bytes(b"x.safetensors\n")
    with claim_work(tmp_path, "of a living process"):
        used = UsedPacks(tmp_path)
        used.add(["y.safetensors"])
        (ours,) = tmp_path.glob("*.uses")
        assert ours.read_bytes() == b"y.safetensors\n"
        assert len(list(tmp_path.glob("*.claim"))) == 1


@pytest.mark.parametrize("suffix", ["uses", "claim"])
def test_without_locks_nobody_is_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    def refuse(stream: IO[bytes], operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / f"4711.{suffix}").write_bytes(b"x.safetensors\n")
    UsedPacks(tmp_path).add(["y.safetensors"])
    assert (tmp_path / f"4711.{suffix}").exists()


def test_without_locks_every_claim_is_granted_and_lists_count_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    with claim_work(tmp_path, "work") as first, claim_work(tmp_path, "work") as second:
        assert (first, second) == (True, True)
    assert wait_for_work(tmp_path, "work", 0)
    alive, dead, own = UsedPacks(tmp_path), UsedPacks(tmp_path), UsedPacks(tmp_path)
    dead.add(["dead"])
    (path,) = tmp_path.glob("*.uses")
    os.utime(path, (1, 1))
    alive.add(["alive"])
    assert own.of_others() == {"alive"}


def test_locks_are_asked_for_on_files_that_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS wants it."""
    flock = fcntl.flock

    def as_nfs(stream: IO[bytes], operation: int) -> None:
        if not stream.writable():
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(stream, operation)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    used, other = UsedPacks(tmp_path), UsedPacks(tmp_path)
    used.add(["a"])
    assert other.of_others() == {"a"}
    with claim_work(tmp_path, "work") as is_granted:
        assert is_granted
        assert not wait_for_work(tmp_path, "work", 0)
        remove_dead_files(tmp_path)
        with claim_work(tmp_path, "work") as is_other_granted:
            assert not is_other_granted
    assert wait_for_work(tmp_path, "work", 0)
