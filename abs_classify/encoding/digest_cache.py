"""Digests that are expensive to compute, remembered by path, size, mtime_ns and ctime_ns of the files they stand for.

The time of modification alone is not enough: `cp -p`, archives and image builders set it to what it was before. Every
row carries a checksum, so that one that a disk changed is computed again, and a damaged database is begun anew.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from abs_core.canonical import digest, sha256_bytes
from abs_core.errors import AbsError
from abs_core.files import sha256_file, storage_errors

__all__ = ["DigestCache", "FileState"]

T = TypeVar("T")

# Files of one step: a step is remembered when it is done, and bounds what is in memory of millions of files.
_FILES_PER_STEP = 2000

# Threads that read files; hashing releases the interpreter.
_THREADS = 4


class FileState(NamedTuple):
    """What tells on every machine that shares a file that it was not changed: size and time of modification."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state of a file.

        Raises:
            StorageError: it cannot be asked for.
        """
        with storage_errors(path, "read"):
            status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


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
        """The sha256 of each file's bytes, as ``file``. What was read stays remembered where another file cannot be."""
        digests: list[str] = []
        for outcome in self.files_each(paths):
            if isinstance(outcome, AbsError):
                raise outcome
            digests.append(outcome)
        return digests

    def files_each(self, paths: Sequence[Path]) -> list[str | AbsError]:
        """As ``files``; in place of a digest the error of a file that cannot be read."""
        return self._each([((), path, partial(sha256_file, path)) for path in paths])

    def derived(self, inputs: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
        """A digest that follows from ``inputs`` (names, options, versions) and from the bytes of ``files``.

        Raises:
            StorageError: a file cannot be read.
        """
        key = digest([inputs, *(_stamp(path) for path in files)])
        known = self._look_up([key]).get(key)
        if known is not None:
            return known
        fresh = compute()
        self._write({key: fresh})
        return fresh

    def derived_each(self, requests: Sequence[tuple[str, Path, Callable[[], str]]]) -> list[str | AbsError]:
        """As ``derived`` for each of many, in one look-up and one commit; in place of a digest the error there was.

        Args:
            requests: of each the inputs, the file that it depends on besides, and how to compute it.
        """
        return self._each([((inputs,), path, compute) for inputs, path, compute in requests])

    def _each(self, requests: Sequence[tuple[tuple[str, ...], Path, Callable[[], str]]]) -> list[str | AbsError]:
        stamps = _stamps(path for _, path, _ in requests)
        outcomes: list[str | AbsError] = []
        for start in range(0, len(requests), _FILES_PER_STEP):
            step = requests[start : start + _FILES_PER_STEP]
            # what has no stamp is looked up under a key that nothing has
            keys = [digest([*inputs, str(stamps[path])]) for inputs, path, _ in step]
            known: dict[str, str | AbsError] = {**self._look_up(keys)}
            missing = {
                key: partial(_outcome, stamps[path], compute)
                for key, (_, path, compute) in zip(keys, step, strict=True)
                if key not in known
            }
            fresh = dict(zip(missing, _all_of(list(missing.values())), strict=True))
            self._write({key: value for key, value in fresh.items() if isinstance(value, str)})
            known |= fresh
            outcomes += [known[key] for key in keys]
        return outcomes

    def known_each(self, requests: Sequence[tuple[tuple[str, ...], Path]]) -> list[str | None]:
        """What is remembered for each of many; None where it would have to be computed.

        Args:
            requests: of each the inputs, as ``derived_each`` takes them and none for a file's own digest, and the file.
        """
        stamps = _stamps(path for _, path in requests)
        keys = [digest([*inputs, str(stamps[path])]) for inputs, path in requests]
        known = self._look_up(list(dict.fromkeys(keys)))
        return [known.get(key) for key in keys]

    def remember_each(self, entries: Sequence[tuple[tuple[str, ...], Path, FileState, str]]) -> None:
        """Remember what another process computed, perhaps on another machine.

        Args:
            entries: of each the inputs and the file, as in ``known_each``, the state of the file before it was read
                there, and the digest. What is in another state here is not remembered.
        """
        fresh = {}
        for inputs, path, state, value in entries:
            with suppress(AbsError):
                if FileState.of(path) == state:
                    fresh[digest([*inputs, _stamp(path)])] = value
        self._write(fresh)

    def verify(self) -> tuple[int, int]:
        """Check every row; damaged ones are removed, so that they are computed again.

        Returns:
            How many are sound, and how many were damaged; a database that cannot be read counts as one.
        """
        if self._path is None or not self._path.exists():
            return 0, 0
        sound, damaged = 0, []
        with suppress(OSError, sqlite3.Error, UnicodeDecodeError):
            with closing(self._open()) as base, base:
                if base.execute("PRAGMA quick_check(1)").fetchone()[0] != b"ok":
                    raise sqlite3.DatabaseError("damaged")
                for row, *values in base.execute("SELECT rowid, key, digest, checksum FROM digests"):
                    if _is_sound(*values):
                        sound += 1
                    else:
                        damaged.append((row,))
                base.executemany("DELETE FROM digests WHERE rowid = ?", damaged)
            return sound, len(damaged)
        self._discard()
        return 0, 1

    def _look_up(self, keys: Sequence[str]) -> dict[str, str]:
        digests: dict[str, str] = {}
        if self._path is None or not self._path.is_file():
            return digests
        with self._damage_ends_it(), closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as base:
            base.text_factory = bytes
            columns = {row[1] for row in base.execute("PRAGMA table_info(digests)")}
            # written before rows had checksums, and believed for the last time
            checksum = "checksum" if b"checksum" in columns else "NULL"
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, digest, {checksum} FROM digests WHERE key IN ({marks})"  # noqa: S608
                for key, value, check in base.execute(query, part):
                    if check is None or _is_sound(key, value, check):
                        digests[key.decode()] = value.decode()
        return digests

    def _write(self, fresh: dict[str, str]) -> None:
        if not fresh or self._path is None:
            return
        if self._path.is_dir():
            self._discard()
        # once more if the first attempt found a damaged database, and removed it
        for _ in range(2):
            with self._damage_ends_it():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with closing(self._open()) as base, base:
                    rows = [(key, value, _checksum(key, value)) for key, value in fresh.items()]
                    base.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)
            if self._path.exists():
                return

    def _open(self) -> sqlite3.Connection:
        """The database for writing, with its table in the present form."""
        assert self._path is not None  # the caller asked
        base = sqlite3.connect(self._path, timeout=30)
        base.text_factory = bytes
        base.create_function("checksum_of", 2, lambda key, value: _checksum(str(key), str(value)))
        base.execute(
            "CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT NOT NULL, checksum TEXT NOT NULL)"
        )
        if len(base.execute("PRAGMA table_info(digests)").fetchall()) < _COLUMNS:
            with base:
                base.execute("ALTER TABLE digests ADD COLUMN checksum TEXT NOT NULL DEFAULT ''")
                base.execute("UPDATE digests SET checksum = checksum_of(key, digest)")
        return base

    @contextmanager
    def _damage_ends_it(self) -> Iterator[None]:
        """Whatever goes wrong in the block costs time only; a database that is damaged is removed."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            # what the statements here name is there unless the schema is damaged
            if error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
                self._discard()
        except UnicodeDecodeError:  # of a text in the database, or of a message about one
            self._discard()
        except (OSError, sqlite3.Error):
            pass

    def _discard(self) -> None:
        """Remove what stands in the place of the database; in a folder that cannot be written it stays."""
        assert self._path is not None  # the caller asked
        with suppress(OSError):
            if self._path.is_dir() and not self._path.is_symlink():
                shutil.rmtree(self._path, ignore_errors=True)
            else:
                self._path.unlink(missing_ok=True)
                self._path.with_name(f"{self._path.name}-journal").unlink(missing_ok=True)


# of the table: key, digest, checksum
_COLUMNS = 3


def _checksum(key: str, value: str) -> str:
    return sha256_bytes(f"{key} {value}".encode())[-16:]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)


def _is_sound(key: object, value: object, checksum: object) -> bool:
    return _text(checksum) == _checksum(_text(key), _text(value))


def _stamps(paths: Iterable[Path]) -> dict[Path, str | AbsError]:
    """The stamp of each file, which is asked for once; in its place why there is none."""
    stamps: dict[Path, str | AbsError] = {}
    for path in paths:
        if path not in stamps:
            try:
                stamps[path] = _stamp(path)
            except AbsError as error:
                stamps[path] = error
    return stamps


def _outcome(stamp: str | AbsError, compute: Callable[[], str]) -> str | AbsError:
    if isinstance(stamp, AbsError):
        return stamp
    try:
        return compute()
    except AbsError as error:
        return error


def _all_of(computes: Sequence[Callable[[], T]]) -> list[T]:
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
