"""The stage cache: arrays under the digest of everything that can change them.

A key is the canonical JSON of a stage's name, version and inputs; its sha256 names the entry. An entry is one
safetensors file that carries its key and a digest of its arrays, written beside and renamed, so that readers in other
processes see a whole entry or none. What is damaged is treated as absent, removed and rebuilt. Nothing is unpickled.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from abs_core.canonical import canonical_json, digest, sha256_bytes
from abs_core.errors import CacheError, StorageError
from abs_core.extras import require
from abs_core.files import atomic_write, ensure_writable

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DERIVED",
    "CacheEntry",
    "CacheKey",
    "KeyDifference",
    "LastRun",
    "MemoryCache",
    "ResultCache",
    "StageCache",
    "differences",
    "open_cache",
    "read_last_run",
    "write_last_run",
]

#: folder, and stage name in listings, of what models unpacked or computed from their weights once
DERIVED = "derived"
_LAYOUT = "v1"

# of a stage; a run may miss millions, and what made the first ones new made the others new
_MISSED_KEPT = 64

# the limit of the safetensors format itself
_LARGEST_HEADER = 100_000_000

# of the text of a key in the header of its entry; beyond it digests replace long lists
_LARGEST_KEY = 1 << 23
_LONG_LIST = 256


@dataclass(frozen=True)
class CacheKey:
    """What a cached result depends on.

    Args:
        stage: the name of the stage.
        version: raised whenever the code of the stage changes its result.
        inputs: everything else that can change the result, as JSON values; digests stand for large inputs.
        known_digest: the digest of the whole key where ``inputs`` is the abridged form of a large one.
    """

    stage: str
    version: int
    inputs: Mapping[str, Any]
    known_digest: str = ""

    @cached_property
    def text(self) -> str:
        """The canonical JSON of the key."""
        return canonical_json({"stage": self.stage, "version": self.version, "inputs": self.inputs})

    @cached_property
    def digest(self) -> str:
        """The hex sha256 of the canonical JSON."""
        return self.known_digest or sha256_bytes(self.text.encode("utf-8")).removeprefix("sha256:")

    @cached_property
    def abridged(self) -> CacheKey:
        """The key as it is written down: itself, or, where a million texts are part of it, with their digest."""
        if len(self.text) <= _LARGEST_KEY:
            return self
        return CacheKey(self.stage, self.version, _abridge(dict(self.inputs)), self.digest)


@dataclass(frozen=True)
class CacheEntry:
    """An entry on the disk."""

    path: Path
    stage: str
    bytes: int
    used: float

    @property
    def digest(self) -> str:
        """The hex digest of the entry's key."""
        return self.path.stem


@dataclass(frozen=True)
class KeyDifference:
    """One part of a key that differs between two entries: a dotted path and the two values."""

    path: str
    ours: Any
    theirs: Any


class ResultCache(Protocol):
    """Where results of stages are kept; a ``StageCache``, or a ``MemoryCache`` where nothing is to be stored."""

    def load(self, key: CacheKey) -> dict[str, np.ndarray] | None:
        """The arrays that were stored under ``key``, or None."""
        ...

    def holds(self, key: CacheKey) -> bool:
        """Whether there is an entry under ``key``."""
        ...

    def store(self, key: CacheKey, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays under ``key``."""
        ...

    def require_writable(self) -> None:
        """Prove that results can be stored, before long work whose results would be lost."""
        ...


class MemoryCache:
    """The latest results of a run, in memory: what the next stage and an explanation ask for again, and no more.

    Args:
        limit: entries of each stage that are kept; None for all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._entries: dict[str, dict[str, dict[str, np.ndarray]]] = {}

    def load(self, key: CacheKey) -> dict[str, np.ndarray] | None:
        """The arrays that were stored under ``key``, or None."""
        return self._entries.get(key.stage, {}).get(key.digest)

    def holds(self, key: CacheKey) -> bool:
        """Whether there is an entry under ``key``."""
        return key.digest in self._entries.get(key.stage, {})

    def store(self, key: CacheKey, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays under ``key``, and forget the oldest of the stage beyond the limit."""
        entries = self._entries.setdefault(key.stage, {})
        entries[key.digest] = dict(arrays)
        if self._limit is not None and len(entries) > self._limit:
            del entries[next(iter(entries))]

    def require_writable(self) -> None:
        """Memory can be written."""


def open_cache(place: StageCache | Path | str | None) -> StageCache | None:
    """A cache by its folder; one that is open, and None, stay what they are."""
    return StageCache(Path(place).expanduser().absolute()) if isinstance(place, str | Path) else place


@dataclass
class StageCache:
    """A folder of stage results. Safe for several processes at once.

    Args:
        root: the folder; it is created at the first write, so a read-only cache that holds everything works.
        hits, misses: how often an entry of a stage was found, and was not.
        missed: the first keys of each stage that were not found, for ``explain``.
    """

    root: Path
    hits: dict[str, int] = field(default_factory=dict)
    misses: dict[str, int] = field(default_factory=dict)
    missed: list[CacheKey] = field(default_factory=list)
    _proved_writable: bool = False

    def load(self, key: CacheKey) -> dict[str, np.ndarray] | None:
        """The arrays stored under ``key``, or None if they are absent or damaged (a damaged entry is removed)."""
        arrays = self._read(self._path(key), key)
        counts = self.misses if arrays is None else self.hits
        counts[key.stage] = counts.get(key.stage, 0) + 1
        if arrays is None and counts[key.stage] <= _MISSED_KEPT:
            self.missed.append(key)
        return arrays

    def holds(self, key: CacheKey) -> bool:
        """Whether there is an entry under ``key``; it may still turn out to be damaged when it is loaded."""
        return self._path(key).is_file()

    def store(self, key: CacheKey, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the arrays under ``key``; an entry that another process wrote meanwhile is replaced by an equal one.

        Raises:
            StorageError: a full disk or a read-only folder; nothing half-written stays.
        """
        save = require("safetensors.numpy").save
        payload = {name: array if array.flags.c_contiguous else array.copy() for name, array in arrays.items()}
        metadata = {"key": key.abridged.text, "key_digest": key.digest, "arrays": _arrays_digest(payload)}
        data: bytes = save(payload, metadata=metadata)
        # what a power cut tears is found by its digest and rebuilt; waiting for a busy disk takes 20 ms an entry
        with atomic_write(self._path(key), durable=False) as stream:
            stream.write(data)

    def require_writable(self) -> None:
        """Prove, once, that results can be stored, before long work whose results would be lost.

        Raises:
            CacheError: the folder cannot be written; names it and the option that moves it.
        """
        if self._proved_writable:
            return
        try:
            ensure_writable(self.root)
        except StorageError as error:
            raise CacheError(
                f"the cache folder cannot be used: {error.message}",
                remedy="Free or unlock it, or name another one with --cache DIR or ABS_CACHE",
            ) from error
        self._proved_writable = True

    def entries(self, stage: str | None = None) -> Iterator[CacheEntry]:
        """All entries, or those of one stage, in no particular order."""
        base = self.root / _LAYOUT
        for folder in [base / stage] if stage else sorted(base.glob("*")):
            for path in folder.glob("??/*.safetensors"):
                with suppress(FileNotFoundError):  # another process may prune
                    # of a link itself where it leads nowhere
                    status = path.stat() if path.exists() else path.lstat()
                    yield CacheEntry(path, folder.name, status.st_size, max(status.st_atime, status.st_mtime))

    def derived(self) -> Iterator[CacheEntry]:
        """What models unpacked or computed from their weights once: files and folders without a key."""
        # hidden is what a process is writing just now, or was when it was killed
        for path in sorted((self.root / DERIVED).glob("[!.]*")):
            with suppress(FileNotFoundError):
                files = [file.stat() for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
                used = max((max(status.st_atime, status.st_mtime) for status in files), default=0.0)
                yield CacheEntry(path, DERIVED, sum(status.st_size for status in files), used)

    def verify(self) -> Iterator[tuple[CacheEntry, bool]]:
        """Read every entry; False marks a damaged one, which is removed so that it is rebuilt."""
        for entry in self.entries():
            yield entry, self._read(entry.path, None) is not None

    def prune(self, *, older_than_days: float | None = None, max_bytes: int | None = None) -> list[CacheEntry]:
        """Remove entries that were not used for a time, then the least recently used ones over a size.

        What is derived from weights counts and goes like any entry: it is made again when it is needed.

        Returns:
            The removed entries.
        """
        by_age = sorted([*self.entries(), *self.derived()], key=lambda entry: entry.used)
        total = sum(entry.bytes for entry in by_age)
        limit = time.time() - older_than_days * 86400 if older_than_days is not None else float("-inf")
        removed = []
        for entry in by_age:
            if entry.used < limit or (max_bytes is not None and total > max_bytes):
                _discard(entry.path)
                total -= entry.bytes
                removed.append(entry)
        return removed

    def explain(self, key: CacheKey) -> tuple[CacheEntry, list[KeyDifference]] | None:
        """The nearest other entry of the key's stage and the parts in which its key differs; None if there is none."""
        best: tuple[CacheEntry, list[KeyDifference]] | None = None
        ours = json.loads(key.abridged.text)
        for entry in self.entries(key.stage):
            if entry.digest == key.digest:
                continue
            theirs = _read_metadata(entry.path).get("key")
            if theirs is None:
                continue
            parts = differences(ours, json.loads(theirs))
            if best is None or _distance(parts) < _distance(best[1]):
                best = (entry, parts)
        return best

    def _path(self, key: CacheKey) -> Path:
        return self.root / _LAYOUT / key.stage / key.digest[:2] / f"{key.digest}.safetensors"

    def _read(self, path: Path, key: CacheKey | None) -> dict[str, np.ndarray] | None:
        safetensors = require("safetensors")
        data = self._read_bytes(path)
        if data is None:
            return None
        try:
            arrays: dict[str, np.ndarray] = require("safetensors.numpy").load(data)
            metadata = _parse_metadata(data)
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
            _discard(path)
            return None
        if metadata.get("arrays") != _arrays_digest(arrays) or not _is_of(key, metadata, path):
            _discard(path)
            return None
        # Reading marks the entry as used; with noatime mounts only this does.
        with suppress(OSError):
            os.utime(path)
        return arrays

    def _read_bytes(self, path: Path) -> bytes | None:
        """The bytes of an entry; None if there is none, or if something that is no file stands in its place."""
        try:
            if stat.S_ISREG(path.stat().st_mode):
                return path.read_bytes()
            _discard(path)
        except FileNotFoundError:
            pass
        except NotADirectoryError as error:
            blocking = next((parent for parent in path.parents if parent.is_file()), path)
            if self.root not in blocking.parents:
                raise _unreadable(path, error) from error
            _discard(blocking)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise _unreadable(path, error) from error
            _discard(path)
        return None


def _unreadable(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"the cache entry {str(path)!r} cannot be read: {(error.strerror or str(error)).lower()}",
        remedy="Check the permissions of the cache folder, or name another one with --cache DIR",
    )


def _is_of(key: CacheKey | None, metadata: Mapping[str, str], path: Path) -> bool:
    """Whether an entry says that it is of a key, or, without one, of the key that its file is named after."""
    stated = str(metadata.get("key", ""))
    if key is not None:
        # entries of before keys were abridged have them whole
        return stated in (key.abridged.text, key.text)
    whole = sha256_bytes(stated.encode("utf-8")).removeprefix("sha256:")
    return path.stem in (whole, metadata.get("key_digest"))


def _abridge(value: Any) -> Any:
    """A JSON value with the digest of every long list in its place."""
    if isinstance(value, Mapping):
        return {name: _abridge(item) for name, item in value.items()}
    if isinstance(value, list):
        if len(value) > _LONG_LIST:
            return {"count": len(value), "digest": digest(value)}
        return [_abridge(item) for item in value]
    return value


def differences(ours: Any, theirs: Any, path: str = "") -> list[KeyDifference]:
    """The leaves in which two JSON values differ, as dotted paths."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        parts = []
        for name in sorted(ours.keys() | theirs.keys()):
            parts += differences(ours.get(name), theirs.get(name), f"{path}.{name}" if path else name)
        return parts
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        parts = []
        for position, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            parts += differences(left, right, f"{path}[{position}]")
        return parts
    return [] if ours == theirs else [KeyDifference(path, ours, theirs)]


def _distance(parts: Sequence[KeyDifference]) -> int:
    """How far two keys are apart; results of another kind are far, however few their parts."""
    return len(parts) + 100 * sum(part.path.endswith("kind") for part in parts)


def _arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    parts = {
        name: [str(array.dtype), list(array.shape), sha256_bytes(array.tobytes())] for name, array in arrays.items()
    }
    return sha256_bytes(canonical_json(parts).encode("utf-8"))


def _parse_metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def _read_metadata(path: Path) -> dict[str, str]:
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as stream:
            prefix = stream.read(8)
            return _parse_metadata(prefix + stream.read(min(int.from_bytes(prefix, "little"), _LARGEST_HEADER)))
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _discard(path: Path) -> None:
    # On a read-only cache the damaged entry stays; it is still treated as absent.
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


_NAME = "last-run.json"


@dataclass(frozen=True)
class LastRun:
    """A run as the cache saw it; the fields are those of ``StageCache``."""

    hits: Mapping[str, int]
    misses: Mapping[str, int]
    missed: Sequence[CacheKey]


def write_last_run(cache: StageCache) -> None:
    """Remember what a run asked of its cache. A folder that cannot be written is left alone."""
    missed = [
        {"stage": key.stage, "version": key.version, "inputs": key.inputs, "digest": key.digest}
        for key in (key.abridged for key in cache.missed)
    ]
    run = {"hits": cache.hits, "misses": cache.misses, "missed": missed}
    with suppress(StorageError), atomic_write(cache.root / _NAME) as stream:
        stream.write(json.dumps(run).encode("utf-8"))


def read_last_run(folder: Path) -> LastRun | None:
    """The last run that used this cache folder; None if there was none or its record is damaged."""
    try:
        run = json.loads((folder / _NAME).read_bytes())
        missed = [
            CacheKey(key["stage"], key["version"], key["inputs"], str(key.get("digest", ""))) for key in run["missed"]
        ]
        return LastRun(dict(run["hits"]), dict(run["misses"]), missed)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
