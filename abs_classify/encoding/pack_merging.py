"""Packs made of packs: small ones merged, so that there are few, and damaged ones without what is damaged.

The new pack is written beside the old ones, which are removed when it is there: whoever is killed in between leaves
rows twice, which is harmless, and whoever reads an old pack goes on reading it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

import numpy as np

from abs_classify.encoding.pack_index import IndexedPack
from abs_classify.encoding.packs import (
    ENTRY,
    LARGEST_SEGMENT,
    DamagedPackError,
    PackHeader,
    make_entries,
    pack_name,
    read_entries,
    read_header,
    read_segments,
    segment_checksum,
    write_table,
)
from abs_core.files import atomic_write

__all__ = ["MergedPack", "check_pack", "choose_packs", "merge_packs"]

# packs of one size class that are merged, and the most at once
_FEWEST, _MOST = 16, 64

# bytes: a class ends at 1, 16 and 256 MiB; what is larger stays as it is
_FIRST_CLASS, _CLASS_FACTOR, _CLASSES = 1 << 20, 16, 3

# segments of a pack that is merged, and of all that are merged at once: what is in memory of each
_MOST_SEGMENTS, _MOST_MERGED = 1 << 15, 1 << 17


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


def choose_packs(packs: Sequence[IndexedPack]) -> list[IndexedPack]:
    """The packs that should be merged now: the oldest small ones of one size, if there are many; else none.

    Args:
        packs: of one space.
    """
    classes: dict[tuple[int, object], list[IndexedPack]] = {}
    for pack in sorted(packs, key=lambda pack: pack.name):
        level = max(0, math.ceil(math.log(max(pack.size, 1) / _FIRST_CLASS, _CLASS_FACTOR)))
        if level < _CLASSES and pack.header.segments <= _MOST_SEGMENTS:
            classes.setdefault((level, pack.header.form), []).append(pack)
    for members in classes.values():
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
    """Write the sound rows of packs as one new pack, and remove the old ones.

    Segments of an item that follow each other become one; what is there twice is written once.

    Args:
        folder: of the packs.
        names: of packs whose rows have one form; a pack whose header is damaged has no sound rows.
        space: the digest of the space.

    Raises:
        StorageError: the new pack cannot be written; the old ones stay.
        OSError: an old one cannot be read, or is gone; the old ones stay.
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
    for name in names:
        with suppress(FileNotFoundError):
            (folder / name).unlink()
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


# rows of a segment of a source: the number of the source, that of the entry, the rows to leave out and those to take
_Piece = tuple[int, int, int, int]


def _plan(entries: np.ndarray, of_source: np.ndarray, numbers: np.ndarray, most_rows: int) -> list[list[_Piece]]:
    """The pieces of each segment of the new pack, in the order in which their items come first.

    Args:
        entries: of all sources, [n].
        of_source, numbers: [n], the source of each entry, and its number there.
        most_rows: of a segment.
    """
    ids = np.ascontiguousarray(entries["id"]).view("V32").reshape(-1)
    _, positions, items = np.unique(ids, return_index=True, return_inverse=True)
    items = positions[items.reshape(-1)]
    order = np.lexsort((-entries["count"].astype(np.int64), entries["start"], items))
    columns = (items[order], of_source[order], numbers[order], entries["start"][order], entries["count"][order])
    segments: list[list[_Piece]] = []
    item, reach, first = -1, 0, 0
    for of_item, source, number, start, count in zip(*(column.tolist() for column in columns), strict=True):
        if of_item != item or start > reach:
            item, reach, first = of_item, start, start
            segments.append([])
        elif start + count - first > most_rows and start + count > reach:
            first = reach
            segments.append([])
        if start + count > reach:
            segments[-1].append((source, number, reach - start, start + count - reach))
            reach = start + count
    return segments


def _write(
    folder: Path, sources: Sequence[_Source], names: Sequence[str], space: str
) -> tuple[str, PackHeader, np.ndarray]:
    sizes = [len(source.entries) for source in sources]
    of_source = np.repeat(np.arange(len(sources)), sizes)
    numbers = np.concatenate([np.arange(size) for size in sizes])
    most_rows = LARGEST_SEGMENT // sources[0].header.form.size
    segments = _plan(np.concatenate([source.entries for source in sources]), of_source, numbers, most_rows)
    firsts = [(sources[source].entries[number], skip) for (source, number, skip, _), *_ in segments]
    keys, starts = (
        [first["id"].tobytes() for first, _ in firsts],
        [int(first["start"]) + skip for first, skip in firsts],
    )
    counts = [sum(rows for *_, rows in pieces) for pieces in segments]
    entries = make_entries(keys, starts, counts, [bytes(16)] * len(segments))
    form = sources[0].header.form
    header = PackHeader(space, len(segments), sum(counts), form, 0, tuple(names))
    first_bytes = header.encode()
    header = replace(header, table=len(first_bytes))
    name, checksums = pack_name(), []
    # durable, since what it replaces is removed
    with atomic_write(folder / name) as stream:
        stream.write(first_bytes)
        write_table(stream, entries)
        readers = _readers(sources, segments)
        for key, start, count, pieces in zip(keys, starts, counts, segments, strict=True):
            check = segment_checksum(key, start, count, form)
            for source, _, skip, _ in pieces:
                values = next(readers[source])
                if values is None:
                    raise OSError("a pack changed while it was merged")
                check.update(values[skip:].data)
                stream.write(values[skip:].data)
            checksums.append(check.digest()[:16])
        entries["checksum"] = np.frombuffer(b"".join(checksums), np.uint8).reshape(-1, 16)
        stream.seek(len(first_bytes))
        write_table(stream, entries)
    return name, header, entries


def _readers(sources: Sequence[_Source], segments: Sequence[Sequence[_Piece]]) -> list[Iterator[np.ndarray | None]]:
    """Of each source the values of its pieces, in their order."""
    numbers: list[list[int]] = [[] for _ in sources]
    for pieces in segments:
        for source, number, *_ in pieces:
            numbers[source].append(number)
    return [
        read_segments(source.stream, source.header, source.entries[chosen])
        for source, chosen in zip(sources, numbers, strict=True)
    ]
