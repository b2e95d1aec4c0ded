"""Files are there whole or not at all, and errors name the path and the remedy."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from abs_core.errors import StorageError
from abs_core.files import (
    atomic_write,
    ensure_writable,
    open_regular,
    publish,
    remove_abandoned,
    remove_leftovers,
    sha256_file,
)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    with atomic_write(target) as stream:
        stream.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert sorted(p.name for p in target.parent.iterdir()) == ["file.bin"]


def test_an_error_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def stop_halfway() -> None:
        with atomic_write(target) as stream:
            stream.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop_halfway()
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.bin"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "shared") as stream:
            stream.write(b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_of_a_shared_folder_go_before_the_umask(tmp_path: Path, umask: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    old = os.umask(umask)
    try:
        with atomic_write(shared / "a" / "b" / "file", rights_of=shared) as stream:
            stream.write(b"x")
        assert publish(shared / "c" / "manifest", b"x", rights_of=shared)
    finally:
        os.umask(old)
    for folder in (shared / "a", shared / "a" / "b", shared / "c"):
        assert folder.stat().st_mode & 0o7777 == 0o2775
    for file in (shared / "a" / "b" / "file", shared / "c" / "manifest"):
        assert file.stat().st_mode & 0o7777 == 0o664


def test_a_folder_that_others_made_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    tmp_path.chmod(0o775)
    with atomic_write(tmp_path / "closed" / "file", rights_of=tmp_path) as stream:
        stream.write(b"x")
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o700


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    with pytest.raises(StorageError, match="plain"), atomic_write(tmp_path / "plain" / "child"):
        pass


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_file(path) == "sha256:" + hashlib.sha256(b"abc" * 100_000).hexdigest()
    with pytest.raises(StorageError, match="absent"):
        sha256_file(tmp_path / "absent")


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    code = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from pathlib import Path\n"
        "from abs_core.errors import StorageError\n"
        "from abs_core.files import ensure_writable\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: ensure_writable(Path(sys.argv[1]) / 'cache')\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(locked)], capture_output=True, text=True, check=False, cwd="/"
    )
    assert "locked" in done.stdout, done.stderr
    assert "permission denied" in done.stdout
    ensure_writable(tmp_path / "open")


ROOT = Path(__file__).parents[2]
_KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from abs_core.files import atomic_write
folder = Path(sys.argv[1])
with atomic_write(folder / "deep" / "a.bin") as stream, tempfile.TemporaryDirectory(dir=folder, prefix=".writing-"):
    stream.write(bytes(100_000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_when_it_is_a_day_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [".keep", ".part", ".config.part", "a.12345678.part", ".input-x", ".other-12345678"]
    for name in kept:
        (tmp_path / name).write_text("x")
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = sorted(path for path in tmp_path.rglob(".*") if path.name not in kept)
    assert [path.name.partition("-")[0][:7] for path in left] == [".writin", ".a.bin."]
    assert remove_leftovers(tmp_path) == []
    later = time.time() + 1.5 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    young = Path(tempfile.mkdtemp(dir=tmp_path, prefix=".input-"))
    (young / "input.jsonl").write_text("x")
    os.utime(young / "input.jsonl", (later, later))
    assert remove_leftovers(tmp_path, deep=False) == left[:1]
    assert remove_leftovers(tmp_path) == left[1:]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, young.name, "deep"])
    assert remove_leftovers(tmp_path / "absent") == []


@pytest.mark.parametrize("losses", [1, 19])
def test_folder_that_is_replaced_while_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: int
) -> None:
    """The folder that a file needs is gone when the file is created, as where processes create it at the same time."""
    original, left = tempfile.mkstemp, [losses]

    def into_a_folder_that_is_gone(dir: Path, **names: str) -> tuple[int, str]:
        if left[0] and dir == tmp_path / "new":
            left[0] -= 1
            dir.rmdir()
        return original(dir=dir, **names)

    monkeypatch.setattr(tempfile, "mkstemp", into_a_folder_that_is_gone)
    with atomic_write(tmp_path / "new" / "file", rights_of=tmp_path) as stream:
        stream.write(b"bytes")
    assert (tmp_path / "new" / "file").read_bytes() == b"bytes"


def test_every_name_of_what_is_not_whole_yet_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [tmp_path / f".{uuid.uuid4().hex}.jsonl.{uuid.uuid4().hex}.part"]  # as FolderStorage.remove has it
    made[0].touch()
    sources = [
        path for package in ("core", "cli", "classify", "descriptions") for path in ROOT.glob(f"abs_{package}/**/*.py")
    ]
    for call in (
        call for path in sources for call in re.findall(r"(?:mk[ds]temp|Directory)\((.*dir=.*)\)", path.read_text())
    ):
        parts = [re.search(rf'{name}=f?"([^"]*)"', call) for name in ("prefix", "suffix")]
        prefix, suffix = (re.sub(r"{[^}]*}", "name", part[1]) if part else "" for part in parts)
        made.append(Path(tempfile.mkdtemp(dir=tmp_path, prefix=prefix, suffix=suffix)))
    assert len(made) > 8
    later = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    assert sorted(remove_leftovers(tmp_path)) == sorted(made)


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_stays(tmp_path: Path) -> None:
    dead = [tmp_path / ".predictions.jsonl.abcdefgh.part", tmp_path / ".abcdefgi.part"]
    fresh = tmp_path / ".predictions.jsonl.abcdefgj.part"
    others = [
        tmp_path / f".predictions.jsonl.{'0a' * 16}.part",
        tmp_path / ".predictions.jsonl.part",
        tmp_path / "x.part",
    ]
    for path in (*dead, fresh, *others):
        path.write_bytes(b"half a line")
    (tmp_path / ".folder.abcdefgh.part").mkdir()
    for path in (*dead, *others, tmp_path / ".folder.abcdefgh.part"):
        os.utime(path, (0, 0))
    with atomic_write(tmp_path / "predictions.jsonl") as stream:
        assert not any(path.exists() for path in dead)
        for path in dead:
            path.write_bytes(b"of another one that was killed")
            os.utime(path, (0, 0))
        (living,) = set(tmp_path.glob(".predictions.jsonl.????????.part")) - {*dead, fresh}
        os.utime(living, (0, 0))
        assert sorted(remove_abandoned(tmp_path)) == sorted(dead)
        stream.write(b"whole")
    assert (tmp_path / "predictions.jsonl").read_bytes() == b"whole"
    assert all(path.exists() for path in (fresh, *others, tmp_path / ".folder.abcdefgh.part"))
    assert remove_abandoned(tmp_path) == remove_abandoned(tmp_path / "nowhere") == []


@pytest.mark.parametrize("write", [publish, lambda path, data: ensure_writable(path.parent)])
def test_whoever_writes_in_a_folder_removes_what_killed_processes_left_there(
    tmp_path: Path, write: Callable[[Path, bytes], object]
) -> None:
    dead = tmp_path / ".result.json.abcdefgh.part"
    dead.write_bytes(b"half")
    os.utime(dead, (0, 0))
    write(tmp_path / "result.json", b"whole")
    assert not dead.exists()


def test_without_locks_what_was_written_to_within_a_day_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_core.files.lock_file", lambda stream, wait: True)
    parts = [tmp_path / f".{age}.abcdefgh.part" for age in ("hour", "week")]
    for path, age in zip(parts, (3600, 7 * 86400), strict=True):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    assert remove_abandoned(tmp_path) == parts[1:]


def test_a_locked_file_is_no_leftover_however_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 2 * 86400
    with atomic_write(tmp_path / "slow.jsonl") as stream:
        stream.write(b"a line now and then")
        monkeypatch.setattr(time, "time", lambda: later)
        assert remove_leftovers(tmp_path) == []


def test_a_pipe_is_no_regular_file_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    with open_regular(tmp_path / "file") as stream:
        assert stream.read() == b"x"
    for place, message in ((tmp_path / "pipe", "Not a regular file"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match=message):
            open_regular(place)
    with pytest.raises(StorageError, match="not a regular file"):
        sha256_file(tmp_path / "pipe")
