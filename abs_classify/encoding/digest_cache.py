"""Digests that are expensive to compute, remembered by path, size, mtime_ns and ctime_ns of the files they stand for.

The time of modification alone is not enough: `cp -p`, archives and image builders set it to what it was before.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from abs_core.canonical import digest
from abs_core.files import sha256_file, storage_errors

__all__ = ["DigestCache"]

# Files of one step: a step is remembered when it is done, and bounds what is in memory of millions of files.
_FILES_PER_STEP = 2000

# Threads that read files; hashing releases the interpreter.
_THREADS = 4


class DigestCache:
    """A small database beside the cache, shared by processes. Losing it costs time, never a result.

    Args:
        folder: the cache folder. Where it cannot be written, and without one, digests are computed anew each time.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / "digests.sqlite"

    def file(self, path: Path) -> str:
        """The sha256 of a file's bytes, read only if the file changed since it was last read.

        Raises:
            StorageError: the file cannot be read.
        """
        return self.files([path])[0]

    def files(self, paths: Sequence[Path]) -> list[str]:
        """The sha256 of each file's bytes, as ``file``. What was read stays remembered when a later file cannot be."""
        digests: list[str] = []
        for start in range(0, len(paths), _FILES_PER_STEP):
            step = paths[start : start + _FILES_PER_STEP]
            digests += self._remembered(
                [[_stamp(path)] for path in step], [partial(sha256_file, path) for path in step]
            )
        return digests

    def derived(self, inputs: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
        """A digest that follows from ``inputs`` (names, options, versions) and from the bytes of ``files``.

        Raises:
            StorageError: a file cannot be read.
        """
        return self._remembered([[inputs, *(_stamp(path) for path in files)]], [compute])[0]

    def _remembered(self, identities: Sequence[Sequence[str]], computes: Sequence[Callable[[], str]]) -> list[str]:
        keys = [digest(list(identity)) for identity in identities]
        known = self._look_up(keys)
        missing = {key: compute for key, compute in zip(keys, computes, strict=True) if key not in known}
        fresh = dict(zip(missing, _all_of(list(missing.values())), strict=True))
        self._write(fresh)
        known |= fresh
        return [known[key] for key in keys]

    def _look_up(self, keys: Sequence[str]) -> dict[str, str]:
        digests: dict[str, str] = {}
        if self._path is None or not self._path.is_file():
            return digests
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as base:
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                digests.update(base.execute(f"SELECT key, digest FROM digests WHERE key IN ({marks})", part))  # noqa: S608
        return digests

    def _write(self, fresh: dict[str, str]) -> None:
        if not fresh or self._path is None:
            return
        with suppress(OSError, sqlite3.Error):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=30)) as base, base:
                base.execute("CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT NOT NULL)")
                base.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?)", fresh.items())


def _all_of(computes: Sequence[Callable[[], str]]) -> list[str]:
    if len(computes) <= 1:
        return [compute() for compute in computes]
    with ThreadPoolExecutor(min(_THREADS, len(computes)), thread_name_prefix="abs-digest") as pool:
        pending = [pool.submit(compute) for compute in computes]
        try:
            return [future.result() for future in pending]
        finally:
            pool.shutdown(cancel_futures=True)


def _stamp(path: Path) -> str:
    with storage_errors(path, "read"):
        status = path.stat()
    # the bytes of the path: names need not be valid Unicode, and two that differ only in its form are two files
    return f"{os.fsencode(path.absolute()).hex()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
