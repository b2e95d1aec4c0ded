"""Packs made of packs: small ones merged, so that there are few, and damaged ones without what is damaged.

The new pack is written beside the old ones, which are removed when it is there: whoever is killed in between leaves
rows twice, which is harmless, and whoever reads an old pack goes on reading it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np

from abs_classify.encoding.pack_index import IndexedPack
from abs_classify.encoding.packs import (
    ENTRY,
    LARGEST_SEGMENT,
    DamagedPackError,
    PackHeader,
    pack_name,
    read_entries,
    read_header,
    read_segments,
    segment_checksum,
    write_table,
)
from abs_core.files import atomic_write

__all__ = ["MergedPack", "check_pack", "choose_packs", "merge_packs", "write_merged"]

# packs of one size class that are merged, and the most at once
_FEWEST, _MOST = 16, 64

# bytes: a class ends at 1, 16 and 256 MiB; what is larger stays as it is
_FIRST_CLASS, _CLASS_FACTOR, _CLASSES = 1 << 20, 16, 3

# segments of a pack that is merged, and of all that are merged at once: what is in memory of each
_MOST_SEGMENTS, _MOST_MERGED = 1 << 15, 1 << 17

# entries that are Python's numbers at once
_BLOCK = 1 << 13


@dataclass(frozen=True)
class MergedPack:
    """A pack that was written in the place of others.

    Args:
        name: of its file; empty if no row was sound, and nothing was written.
        header, entries: what is in it, as ``write_pack`` gives them.
        rows, damaged: of the packs it was made of, how many rows were sound, and how many were not.
    """

    name: str
    header: PackHeader | None
    entries: np.ndarray
    rows: int
    damaged: int


@dataclass(frozen=True, eq=False)
class _Source:
    """An open pack, its sound entries, and how many of its rows are damaged."""

    stream: BufferedReader
    header: PackHeader
    entries: np.ndarray
    damaged: int


def choose_packs(packs: Sequence[IndexedPack], classes: int = _CLASSES) -> list[IndexedPack]:
    """The packs that should be merged now: the oldest small ones of one size, if there are many; else none.

    Args:
        packs: of one space.
        classes: of sizes that are merged, from the smallest on.
    """
    members_of: dict[tuple[int, object], list[IndexedPack]] = {}
    for pack in sorted(packs, key=lambda pack: pack.name):
        level = max(0, math.ceil(math.log(max(pack.size, 1) / _FIRST_CLASS, _CLASS_FACTOR)))
        if level < classes and pack.header.segments <= _MOST_SEGMENTS:
            members_of.setdefault((level, pack.header.form), []).append(pack)
    for members in members_of.values():
        if len(members) >= _FEWEST:
            chosen, segments = [], 0
            for pack in members[:_MOST]:
                segments += pack.header.segments
                if segments > _MOST_MERGED:
                    break
                chosen.append(pack)
            if len(chosen) > 1:
                return chosen
    return []


def merge_packs(folder: Path, names: Sequence[str], space: str) -> MergedPack:
    """Write the sound rows of packs as one new pack, and remove the old ones: see ``write_merged``."""
    merged = write_merged(folder, names, space)
    for name in names:
        with suppress(FileNotFoundError):
            (folder / name).unlink()
    return merged


def write_merged(folder: Path, names: Sequence[str], space: str) -> MergedPack:
    """Write the sound rows of packs as one new pack beside them.

    Segments of an item that follow each other become one; what is there twice is written once.

    Args:
        folder: of the packs.
        names: of packs whose rows have one form; a pack whose header is damaged has no sound rows.
        space: the digest of the space.

    Raises:
        StorageError: the new pack cannot be written.
        OSError: an old one cannot be read, or is gone.
    """
    with ExitStack() as stack:
        sources = []
        damaged = 0
        for name in names:
            stream = stack.enter_context((folder / name).open("rb"))
            try:
                source = _open_source(stream, space)
                damaged += source.damaged
                if len(source.entries):
                    sources.append(source)
            except DamagedPackError:
                damaged += 1
        if len({source.header.form for source in sources}) > 1:
            raise OSError("rows of several forms in one merge")
        rows = sum(int(source.entries["count"].sum()) for source in sources)
        merged = _write(folder, sources, names, space) if sources else None
    name, header, entries = merged or ("", None, np.zeros(0, ENTRY))
    return MergedPack(name, header, entries, rows, damaged)


def check_pack(path: Path, space: str) -> tuple[int, int]:
    """How many rows of a pack are sound, and how many are not; a pack whose header is damaged counts as one.

    Raises:
        OSError: it cannot be read, or is gone.
    """
    with path.open("rb") as stream:
        try:
            source = _open_source(stream, space)
        except DamagedPackError:
            return 0, 1
    return int(source.entries["count"].sum()), source.damaged


def _open_source(stream: BufferedReader, space: str) -> _Source:
    header = read_header(stream)
    if header.space != space:
        raise DamagedPackError("of another space")
    entries = read_entries(stream, header)
    sound = np.array([values is not None for values in read_segments(stream, header, entries)], bool)
    return _Source(stream, header, entries[sound], int(entries["count"][~sound].sum()))


@dataclass(frozen=True, eq=False)
class _MergePlan:
    """What the new pack is made of: pieces of segments of the sources, and which begin a new segment.

    In arrays, since a hundred thousand segments are merged at once: as Python's objects they take 100 MB.

    Args:
        source, number: [n], the source of each piece, and the number of its entry there.
        skip, take: [n], the rows of that entry to leave out, and those to take.
        first: bool [n], whether the piece begins a segment.
    """

    source: np.ndarray
    number: np.ndarray
    skip: np.ndarray
    take: np.ndarray
    first: np.ndarray

    def blocks(self) -> Iterator[tuple[int, int, bool]]:
        """Source, rows to leave out, and whether a segment begins, piece by piece."""
        for start in range(0, len(self.source), _BLOCK):
            columns = (column[start : start + _BLOCK].tolist() for column in (self.source, self.skip, self.first))
            yield from zip(*columns, strict=True)


def _make_plan(entries: np.ndarray, of_source: np.ndarray, numbers: np.ndarray, most_rows: int) -> _MergePlan:
    """The pieces of the new pack, in the order in which their items come first.

    Args:
        entries: of all sources, [n].
        of_source, numbers: [n], the source of each entry, and its number there.
        most_rows: of a segment.
    """
    ids = np.ascontiguousarray(entries["id"]).view("V32").reshape(-1)
    _, positions, items = np.unique(ids, return_index=True, return_inverse=True)
    items = positions[items.reshape(-1)]
    order = np.lexsort((-entries["count"].astype(np.int64), entries["start"], items))
    chosen, skips, takes, firsts = (array(code) for code in "qqqb")
    item, reach, begin = -1, 0, 0
    for block in (order[start : start + _BLOCK] for start in range(0, len(order), _BLOCK)):
        columns = (block, items[block], entries["start"][block], entries["count"][block])
        for position, of_item, start, count in zip(*(column.tolist() for column in columns), strict=True):
            is_first = of_item != item or start > reach
            if is_first:
                item, reach, begin = of_item, start, start
            elif start + count - begin > most_rows and start + count > reach:
                is_first, begin = True, reach
            # what begins a segment has rows of its own, since the longer of those with one start come first
            if start + count > reach:
                chosen.append(position)
                skips.append(reach - start)
                takes.append(start + count - reach)
                firsts.append(is_first)
                reach = start + count
    pieces = np.array(chosen, np.int64)
    return _MergePlan(
        of_source[pieces], numbers[pieces], np.array(skips, np.int64), np.array(takes, np.int64), np.array(firsts, bool)
    )


def _write(
    folder: Path, sources: Sequence[_Source], names: Sequence[str], space: str
) -> tuple[str, PackHeader, np.ndarray]:
    form = sources[0].header.form
    sizes = [len(source.entries) for source in sources]
    of_source = np.repeat(np.arange(len(sources), dtype=np.uint16), sizes)
    numbers = np.concatenate([np.arange(size, dtype=np.uint32) for size in sizes])
    old = np.concatenate([source.entries for source in sources])
    plan = _make_plan(old, of_source, numbers, LARGEST_SEGMENT // form.size)
    del of_source, numbers
    begins = np.flatnonzero(plan.first)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    entries = old[offsets[plan.source[begins]] + plan.number[begins]]
    del old
    entries["start"] += plan.skip[begins].astype(np.uint32)
    entries["count"] = np.add.reduceat(plan.take, begins)
    entries["row"] = np.concatenate([[0], np.cumsum(entries["count"][:-1], dtype=np.uint64)])
    entries["pack"], entries["checksum"] = 0, 0
    header = PackHeader(space, len(entries), int(plan.take.sum()), form, 0, tuple(names))
    first_bytes = header.encode()
    header = replace(header, table=len(first_bytes))
    name = pack_name()
    # durable, since what it replaces is removed
    with atomic_write(folder / name) as stream:
        stream.write(first_bytes)
        write_table(stream, entries)
        checksums = _copy_values(stream, sources, plan, entries)
        entries["checksum"] = np.frombuffer(checksums, np.uint8).reshape(-1, 16)
        stream.seek(len(first_bytes))
        write_table(stream, entries)
    return name, header, entries


def _copy_values(stream: BinaryIO, sources: Sequence[_Source], plan: _MergePlan, entries: np.ndarray) -> bytes:
    """Write the values of the pieces, and return the checksums of the segments that they make."""
    readers = [
        read_segments(source.stream, source.header, source.entries[plan.number[plan.source == number]])
        for number, source in enumerate(sources)
    ]
    form = sources[0].header.form
    checks = (
        segment_checksum(entry["id"].tobytes(), int(entry["start"]), int(entry["count"]), form) for entry in entries
    )
    checksums, check = bytearray(), None
    for source, skip, is_first in plan.blocks():
        values = next(readers[source])
        if values is None:
            raise OSError("a pack changed while it was merged")
        if is_first:
            checksums += check.digest()[:16] if check else b""
            check = next(checks)
        assert check is not None
        check.update(values[skip:].data)
        stream.write(values[skip:].data)
    return bytes(checksums + check.digest()[:16] if check else checksums)
