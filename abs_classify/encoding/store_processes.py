"""What the processes that share a feature store know of each other: who computes what, and which packs are in use.

Both are files under locks, which the system releases when a process ends, however it ends. Where a file system has no
locks, every claim is granted, and a list of used packs counts for a day.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
import weakref
from collections.abc import Collection, Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from abs_core.files import lock_file

__all__ = ["UsedPacks", "claim_work", "remove_dead_files", "wait_for_work"]

_LIST_SUFFIX, _CLAIM_SUFFIX = ".uses", ".claim"

# seconds
_LONGEST_WITHOUT_LOCKS = 86_400.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


class UsedPacks:
    """The names of the packs that this process has used, in a file that it holds locked while it lives.

    Args:
        folder: of the lists of all processes; where it cannot be written there is no list.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = set[str]()
        self._file: FileIO | None = None
        self._path: Path | None = None
        self._failed = False

    def add(self, names: Iterable[str]) -> None:
        """Take note of packs."""
        fresh = [name for name in names if name not in self._names]
        if not fresh:
            return
        self._names.update(fresh)
        if self._open():
            assert self._file is not None
            with suppress(OSError):
                self._file.write("".join(f"{name}\n" for name in fresh).encode())

    @property
    def names(self) -> Set[str]:
        """The packs that this process has used."""
        return self._names

    def of_others(self) -> set[str]:
        """The packs that other living processes use; the lists of dead ones are removed."""
        has_locks = self._has_locks()
        names = set[str]()
        for path in _files(self._folder, _LIST_SUFFIX):
            if path == self._path:
                continue
            with suppress(OSError):
                age = time.time() - path.stat().st_mtime
                if _is_held(path) if has_locks else age < _LONGEST_WITHOUT_LOCKS:
                    names.update(path.read_bytes().decode("ascii", "replace").split())
                else:
                    path.unlink()
        return names

    def hand_on(self, names: Collection[str], merged: str) -> None:
        """Let a pack be in use by every process that used one of those that were merged into it."""
        self.add([merged])
        for path in _files(self._folder, _LIST_SUFFIX):
            if path != self._path:
                with suppress(OSError):
                    if not set(names).isdisjoint(path.read_bytes().decode("ascii", "replace").split()):
                        with path.open("ab", buffering=0) as stream:
                            stream.write(f"{merged}\n".encode())

    def _has_locks(self) -> bool:
        """Whether the file system keeps locks: the own one is held."""
        if not self._open() or self._path is None:
            return True
        return _is_held(self._path)

    def _open(self) -> bool:
        """Whether there is a list of this process; it is locked before others can see it."""
        if self._file is not None or self._failed:
            return self._file is not None
        part = self._folder / f".{secrets.token_hex(16)}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = part.open("xb", buffering=0)
            lock_file(file, wait=False)
            path = part.with_name(f"{os.getpid()}-{part.name[1:9]}{_LIST_SUFFIX}")
            part.rename(path)
        except OSError:
            self._failed = True
            return False
        self._file, self._path = file, path
        weakref.finalize(self, _forget, path, file, os.getpid())
        self._remove_dead_files()
        return True

    def _remove_dead_files(self) -> None:
        """Remove what killed processes left here, where locks tell who is alive, so that it does not add up."""
        if self._has_locks():
            self.of_others()
            remove_dead_files(self._folder)


def _forget(path: Path, file: FileIO, process: int) -> None:
    # a fork has this object, too
    if os.getpid() == process:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    file.close()


@contextmanager
def claim_work(folder: Path, work: str) -> Iterator[bool]:
    """Claim a piece of work until the block ends, so that others need not do it too.

    Args:
        folder: of the claims.
        work: names it for all processes.

    Yields:
        False while another process, or thread, has claimed it. True as well where nothing can be written or locked.
    """
    path = _claim_path(folder, work)
    stream = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            stream = path.open("ab")
            if not lock_file(stream, wait=False):
                stream.close()
                stream = None
                break
            # whoever held it before has removed it
            with suppress(FileNotFoundError):
                if os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
                    break
            stream.close()
        is_granted = stream is not None
    except PermissionError:  # another user's
        is_granted = not _is_held(path)
    except OSError:
        is_granted = True
    try:
        yield is_granted
    finally:
        if stream is not None:
            # before the lock goes, so that nobody waits for a file that is about to be removed
            with suppress(OSError):
                path.unlink()
            stream.close()


def wait_for_work(folder: Path, work: str, timeout: float) -> bool:
    """Wait until nobody claims a piece of work.

    Args:
        folder: of the claims.
        work: as for ``claim_work``.
        timeout: seconds to wait at most.

    Returns:
        Whether it is free.
    """
    path = _claim_path(folder, work)
    end, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        if not _is_held(path):
            return True
        left = end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def remove_dead_files(folder: Path) -> None:
    """Remove the claims of processes that were killed."""
    for path in _files(folder, _CLAIM_SUFFIX):
        if not _is_held(path):
            with suppress(OSError):
                path.unlink()


def _is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    for mode in ("r+b", "rb"):
        try:
            with path.open(mode) as stream:
                # network file systems want a file that may be written, others do with one of another user
                return not lock_file(stream, wait=False)
        except PermissionError:
            continue
        except OSError as error:
            return error.errno == errno.EBADF
    return True


def _claim_path(folder: Path, work: str) -> Path:
    name = hashlib.sha256(work.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return folder / f"{name}{_CLAIM_SUFFIX}"


def _files(folder: Path, suffix: str) -> list[Path]:
    with suppress(OSError):
        return [path for path in folder.iterdir() if path.suffix == suffix and not path.name.startswith(".")]
    return []
