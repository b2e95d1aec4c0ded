"""Rows of items, put together from segments that lie in packs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from abs_classify.encoding.pack_index import IndexedPack, PackIndex
from abs_classify.encoding.packs import PackStream, read_segments

__all__ = ["PackOpener", "count_rows", "first_rows", "load_rows", "reach_of"]

# of an item whose packs are damaged or are merged by others meanwhile
_ATTEMPTS = 8


def reach_of(parts: Sequence[tuple[int, int]]) -> int:
    """How many rows from 0 on parts (start, count), sorted by start, hold without a gap."""
    reach = 0
    for start, count in parts:
        if start <= reach:
            reach = max(reach, start + count)
    return reach


def first_rows(parts: Sequence[tuple[int, np.ndarray]], count: int | None) -> np.ndarray | None:
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


class PackOpener(Protocol):
    """What opens packs for reading."""

    def open_each(self, wanted: Sequence[tuple[IndexedPack, np.ndarray]]) -> Iterator[PackStream | None]:
        """Each pack for reading, until the next one is asked for; None for one that is gone.

        Args:
            wanted: packs, and the entries that will be read of them, by row.
        """
        ...


def load_rows(
    index: PackIndex,
    opener: PackOpener,
    keys: np.ndarray,
    count: int | None,
    use: Callable[[Sequence[IndexedPack]], None],
    repair: Callable[[set[str]], None],
) -> list[np.ndarray | None]:
    """The rows of items from 0 on, at most ``count``; None where row 0 is not there.

    Args:
        index: of the packs; whatever is damaged is left out of it.
        opener: of the packs.
        keys: of the items: uint8 [n, 32].
        count: rows of each item; None for all.
        use: is told of packs before they are read.
        repair: is told the names of packs in which something is damaged.

    Raises:
        CacheError, StorageError: a pack may not, or cannot, be read.
    """
    rows: list[np.ndarray | None] = [None] * len(keys)
    pending = np.arange(len(keys))
    # again for items of which a segment was damaged or gone: another one may have the same rows
    for _ in range(_ATTEMPTS):
        read = _read(index, opener, keys[pending], count, use)
        for position, parts in read.parts.items():
            rows[pending[position]] = first_rows(sorted(parts, key=lambda part: part[0]), count)
        repair(read.damaged)
        if not read.again:
            break
        pending = pending[sorted(read.again)]
        for position in pending.tolist():
            rows[position] = None
    return [_owned(values) for values in rows]


def count_rows(index: PackIndex, keys: np.ndarray, use: Callable[[Sequence[IndexedPack]], None]) -> list[int]:
    """How many rows from 0 on each item has, without reading them."""
    counts = [0] * len(keys)
    items, entries = index.find(keys)
    use([index.pack(number) for number in np.unique(entries["pack"]).tolist()])
    for item, start, size in zip(items.tolist(), entries["start"].tolist(), entries["count"].tolist(), strict=True):
        if start <= counts[item]:
            counts[item] = max(counts[item], start + size)
    return counts


@dataclass(frozen=True)
class _ReadRows:
    """What one attempt to read rows gave.

    Args:
        parts: by item, (start, rows) of its segments.
        again: the items that are to be looked up again.
        damaged: the names of packs with damaged rows.
    """

    parts: dict[int, list[tuple[int, np.ndarray]]] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)

    def add(self, item: int, start: int, values: np.ndarray | None) -> None:
        """Take in a segment that was read, or is damaged."""
        if values is None:
            self.again.add(item)
        else:
            self.parts.setdefault(item, []).append((start, values))


def _read(
    index: PackIndex,
    opener: PackOpener,
    keys: np.ndarray,
    count: int | None,
    use: Callable[[Sequence[IndexedPack]], None],
) -> _ReadRows:
    """One attempt to read the rows of items; whatever is damaged is left out of the index."""
    items, entries = index.find(keys)
    forms = {number: index.pack(number).header.form for number in np.unique(entries["pack"]).tolist()}
    if len(set(forms.values())) > 1:  # not of our writing: rows of the newest form can be told from the others
        newest = forms[max(forms, key=lambda number: index.pack(number).name)]
        alike = np.isin(entries["pack"], [number for number, form in forms.items() if form == newest])
        items, entries = items[alike], entries[alike]
    chosen = _choose(items, entries, count)
    items, entries = items[chosen], entries[chosen]
    read = _ReadRows()
    order = np.lexsort((entries["row"], entries["pack"]))
    groups = np.split(order, np.flatnonzero(np.diff(entries["pack"][order])) + 1) if len(order) else []
    # before anything is looked up anew, after which numbers are of other packs
    packs = [index.pack(int(entries["pack"][group[0]])) for group in groups]
    use(packs)
    wanted = [(pack, entries[group]) for pack, group in zip(packs, groups, strict=True)]
    is_stale = False
    for (pack, segments), group, stream in zip(wanted, groups, opener.open_each(wanted), strict=True):
        if stream is None:
            is_stale = True
            read.again.update(items[group].tolist())
            continue
        for place, values in zip(group, read_segments(stream, pack.header, segments), strict=True):
            read.add(int(items[place]), int(entries["start"][place]), values)
            if values is None:
                index.reject(pack.name, int(entries["row"][place]))
                read.damaged.add(pack.name)
    if is_stale:
        index.refresh(force=True)
    return read


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
