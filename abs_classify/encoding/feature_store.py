"""The feature store: rows of images and texts in spaces, each computed once and found by space and id.

Rows lie in packs (``packs``), in a folder for each space, and are found through an index (``pack_index``). What is
damaged is treated as absent. Several processes may use one folder at once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abs_classify.encoding.pack_index import PackIndex
from abs_classify.encoding.packs import keys_of, read_segments, write_pack
from abs_classify.encoding.spaces import Segment, Space
from abs_core.errors import CacheError, StorageError
from abs_core.files import atomic_write, ensure_writable

__all__ = ["DiskStore", "MemoryStore", "open_store"]

_FEATURES, _INDEX, _SPACE_FILE = "features", "index", "space.json"


class MemoryStore:
    """Rows of a run that keeps nothing: what the next step and an explanation ask for again.

    Args:
        limit: items of each space that are kept, the newest ones; None for all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._items: dict[str, dict[str, list[tuple[int, np.ndarray]]]] = {}
        self._lock = threading.Lock()

    def load(self, space: Space, ids: Sequence[str], count: int | None = None) -> list[np.ndarray | None]:
        """The rows of each item from 0 on: [n, ...] with n at most ``count``, or None where row 0 is not there."""
        with self._lock:
            items = self._items.get(space.digest, {})
            return [_first_rows(items.get(item, []), count) for item in ids]

    def counts(self, space: Space, ids: Sequence[str]) -> list[int]:
        """How many rows from 0 on each item has."""
        with self._lock:
            items = self._items.get(space.digest, {})
            return [_reach([(start, len(rows)) for start, rows in items.get(item, [])]) for item in ids]

    def append(self, space: Space, segments: Sequence[Segment]) -> None:
        """Keep segments, and forget the oldest items beyond the limit."""
        with self._lock:
            items = self._items.setdefault(space.digest, {})
            for segment in segments:
                known = items.pop(segment.id, [])
                items[segment.id] = sorted([*known, (segment.start, segment.values)], key=lambda part: part[0])
            while self._limit is not None and len(items) > self._limit:
                del items[next(iter(items))]

    def require_writable(self) -> None:
        """Memory can be written."""


def _reach(parts: Sequence[tuple[int, int]]) -> int:
    """How many rows from 0 on parts (start, count), sorted by start, hold without a gap."""
    reach = 0
    for start, count in parts:
        if start <= reach:
            reach = max(reach, start + count)
    return reach


def _first_rows(parts: Sequence[tuple[int, np.ndarray]], count: int | None) -> np.ndarray | None:
    """The rows from 0 on of parts (start, rows), sorted by start, up to the first gap or ``count``."""
    pieces: list[np.ndarray] = []
    reach = 0
    for start, rows in parts:
        if start <= reach < start + len(rows) and (count is None or reach < count):
            end = len(rows) if count is None else min(len(rows), count - start)
            pieces.append(rows[reach - start : end])
            reach = start + end
    if not pieces:
        return None
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class DiskStore:
    """A folder of feature rows. Safe for several processes and threads at once.

    Args:
        root: the cache folder; it is created at the first write, so a read-only one that holds everything works.
        index: a local folder for the indexes, which may be deleted at any time; by default inside ``root``.
    """

    def __init__(self, root: Path, *, index: Path | None = None) -> None:
        self.root = root
        self._features = root / _FEATURES
        self._index_folder = index or root / _INDEX
        self._indexes: dict[str, PackIndex] = {}
        self._lock = threading.RLock()
        self._proved_writable = False

    def load(self, space: Space, ids: Sequence[str], count: int | None = None) -> list[np.ndarray | None]:
        """The rows of each item from 0 on: [n, ...] with n at most ``count``, or None where row 0 is not there."""
        rows: list[np.ndarray | None] = [None] * len(ids)
        if not ids:
            return rows
        keys = keys_of(ids)
        with self._lock:
            index = self._index(space)
            index.refresh()
            pending = np.arange(len(ids))
            # again for items of which a segment was damaged or gone: another one may have the same rows
            for _ in range(_ATTEMPTS):
                read = self._read(space, index, keys[pending], count)
                for position, parts in read.parts.items():
                    rows[pending[position]] = _owned(_first_rows(parts, count))
                if not read.again:
                    break
                pending = pending[read.again]
        return rows

    def counts(self, space: Space, ids: Sequence[str]) -> list[int]:
        """How many rows from 0 on each item has, without reading them; damage may turn up when they are read."""
        counts = [0] * len(ids)
        if not ids:
            return counts
        with self._lock:
            index = self._index(space)
            index.refresh()
            items, entries = index.find(keys_of(ids))
        for item, start, size in zip(items.tolist(), entries["start"].tolist(), entries["count"].tolist(), strict=True):
            if start <= counts[item]:
                counts[item] = max(counts[item], start + size)
        return counts

    def append(self, space: Space, segments: Sequence[Segment]) -> None:
        """Keep segments; rows that are there already are harmless.

        Raises:
            StorageError: a full disk or a read-only folder; nothing half-written stays.
        """
        if not segments:
            return
        folder = self._folder(space)
        with self._lock:
            index = self._index(space)
            self._describe(space)
            name, header, entries = write_pack(folder, space.digest, segments)
            index.add(name, header, entries)

    def require_writable(self) -> None:
        """Prove, once, that rows can be kept, before long work whose results would be lost.

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

    def _folder(self, space: Space) -> Path:
        return self._features / space.digest

    def _index(self, space: Space) -> PackIndex:
        if space.digest not in self._indexes:
            file = self._index_folder / f"{space.digest}.index"
            self._indexes[space.digest] = PackIndex(self._folder(space), file, space.digest)
        return self._indexes[space.digest]

    def _describe(self, space: Space) -> None:
        """Write what the space is beside its packs, for people and for ``explain``."""
        file = self._folder(space) / _SPACE_FILE
        text = space.text.encode("utf-8")
        with suppress(OSError):
            if file.stat().st_size == len(text):
                return
        with atomic_write(file, durable=False) as stream:
            stream.write(text)

    def _read(self, space: Space, index: PackIndex, keys: np.ndarray, count: int | None) -> _ReadRows:
        """One attempt to read the rows of items; whatever is damaged is left out of the index."""
        items, entries = index.find(keys)
        chosen = _choose(items, entries, count)
        items, entries = items[chosen], entries[chosen]
        parts: dict[int, list[tuple[int, np.ndarray]]] = {}
        again = set[int]()
        order = np.lexsort((entries["row"], entries["pack"]))
        groups = np.split(order, np.flatnonzero(np.diff(entries["pack"][order])) + 1) if len(order) else []
        # before anything is looked up anew, after which numbers are of other packs
        packs = [index.pack(int(entries["pack"][group[0]])) for group in groups]
        for pack, group in zip(packs, groups, strict=True):
            try:
                with (self._folder(space) / pack.name).open("rb") as stream:
                    for place, values in zip(group, read_segments(stream, pack.header, entries[group]), strict=True):
                        item = int(items[place])
                        if values is None:
                            index.reject(pack.name, int(entries["row"][place]))
                            again.add(item)
                        else:
                            parts.setdefault(item, []).append((int(entries["start"][place]), values))
            except FileNotFoundError:
                index.refresh(force=True)
                again |= set(items[group].tolist())
        for segments in parts.values():
            segments.sort(key=lambda part: part[0])
        return _ReadRows(parts, sorted(again))


@dataclass(frozen=True)
class _ReadRows:
    """Parts (start, rows) of items, and the items that are to be looked up again."""

    parts: dict[int, list[tuple[int, np.ndarray]]]
    again: list[int]


_ATTEMPTS = 8


def _choose(items: np.ndarray, entries: np.ndarray, count: int | None) -> list[int]:
    """The places of the entries that are needed for the rows from 0 on of each item."""
    chosen = []
    item, reach = -1, 0
    columns = (items.tolist(), entries["start"].tolist(), entries["count"].tolist())
    for place, (of_item, start, size) in enumerate(zip(*columns, strict=True)):
        if of_item != item:
            item, reach = of_item, 0
        if start <= reach < start + size and (count is None or reach < count):
            chosen.append(place)
            reach = start + size
    return chosen


def _owned(rows: np.ndarray | None) -> np.ndarray | None:
    """Rows that do not keep more than themselves in memory."""
    return rows if rows is None or rows.base is None else rows.copy()


def open_store(place: DiskStore | Path | str | None) -> DiskStore | None:
    """A store by its cache folder; one that is open, and None, stay what they are."""
    return DiskStore(Path(place).expanduser().absolute()) if isinstance(place, str | Path) else place
