"""Which pack has the rows of an item: an index of one space, derived from its packs and kept on a local disk.

Entries are sorted by the first eight bytes of their ids, found by binary search in memory-mapped arrays, and compared
in full. Packs that are new are held in memory until there are enough of them to write the file again. Whatever is wrong
with the file, it is made again from the packs.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from abs_classify.encoding.packs import ENTRY, PackHeader, RowForm
from abs_core.errors import StorageError
from abs_core.files import atomic_write

__all__ = ["IndexTier", "IndexedPack", "PackIndex", "PackSource", "parse_index"]

_FORMAT = 1

# bytes of the JSON before the arrays; a pack takes about 200
_LARGEST_HEADER = 1 << 26

# runs of entries in memory; more are merged into one, since each is searched
_MOST_TIERS = 12

# entries in memory after which the file is written again, and the share of those in the file that may be more
_FEW, _SHARE = 50_000, 8

# entries of packs that others wrote that are taken in at once
_MOST_WAITING = 1 << 18


@dataclass(frozen=True)
class IndexedPack:
    """A pack as it was when its table was read.

    Args:
        name: of its file.
        size, modified: bytes, and the time of modification in nanoseconds; another file under its name has others.
        header: what it says of itself.
    """

    name: str
    size: int
    modified: int
    header: PackHeader


@dataclass(frozen=True, eq=False)
class IndexTier:
    """Entries [n] in the order of ``keys`` [n]: the first eight bytes of their ids as numbers."""

    keys: np.ndarray
    entries: np.ndarray

    @classmethod
    def of(cls, entries: np.ndarray) -> IndexTier:
        keys = _prefixes(entries["id"])
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], entries[order])


class PackSource(Protocol):
    """Where the packs of one space are."""

    def listing(self, known: Mapping[str, tuple[int, int]], *, force: bool) -> Mapping[str, tuple[int, int]] | None:
        """Size and time of modification of every file with the name of a pack, by its name.

        Args:
            known: those that the index has.
            force: look, even if nothing seems to have changed.

        Returns:
            None if nothing seems to have changed since it was last asked.
        """
        ...

    def tables(self, names: Sequence[str]) -> Iterator[tuple[str, tuple[PackHeader, np.ndarray] | None]]:
        """Header and entries of packs, with any number of the pack; None for what is not to be believed.

        What is gone is left out.
        """
        ...

    def stamp(self, name: str, header: PackHeader) -> tuple[int, int] | None:
        """Size and time of modification of a pack that was just written; None if it is gone."""
        ...


class PackIndex:
    """The index of the packs of one space; not for several threads at once.

    Args:
        source: of the packs.
        file: where the index is kept; it need not exist, and may be deleted at any time.
        space: the digest of the space; packs of others are not believed.
    """

    def __init__(self, source: PackSource, file: Path, space: str) -> None:
        self._source, self._file, self._space = source, file, space
        self._packs: list[IndexedPack] = []
        self._numbers: dict[str, int] = {}
        self._alive = np.zeros(0, bool)
        self._tiers: list[IndexTier] = []
        # entries of the first tier, which is that of the file where it can be written; those of packs that are gone
        self._stored = self._gone = 0
        # of files that are no packs to be believed: their size and time
        self._damaged: dict[str, tuple[int, int]] = {}
        self._rejected = set[tuple[int, int]]()
        self._load()
        self.refresh()

    @property
    def packs(self) -> list[IndexedPack]:
        """The packs that are there, as of the last refresh."""
        return [pack for pack, alive in zip(self._packs, self._alive.tolist(), strict=False) if alive]

    @property
    def damaged(self) -> list[str]:
        """The names of files that are no packs to be believed."""
        return list(self._damaged)

    def pack(self, number: int) -> IndexedPack:
        """The pack of the number that entries have."""
        return self._packs[number]

    def refresh(self, *, force: bool = False) -> bool:
        """Take in what other processes added and removed; cheap if the folder did not change.

        Returns:
            Whether anything was added or removed.
        """
        known = {pack.name: (pack.size, pack.modified) for pack in self.packs}
        present = self._source.listing(known, force=force)
        if present is None:
            return False
        packs = [self._packs[number] for number in self._numbers.values()]
        removed = [pack.name for pack in packs if present.get(pack.name) != (pack.size, pack.modified)]
        for name in removed:
            self.remove(name)
        self._damaged = {name: stamp for name, stamp in self._damaged.items() if present.get(name) == stamp}
        fresh = [name for name in present if name not in self._numbers and name not in self._damaged]
        waiting: list[np.ndarray] = []
        for name, table in self._source.tables(sorted(fresh)):
            if table is None or table[0].space != self._space:
                self._damaged[name] = present[name]
                continue
            header, entries = table
            entries["pack"] = self._number(IndexedPack(name, *present[name], header))
            waiting.append(entries)
            if sum(map(len, waiting)) > _MOST_WAITING:
                self._add(np.concatenate(waiting))
                waiting.clear()
        if waiting:
            self._add(np.concatenate(waiting))
        return bool(removed or fresh)

    def add(self, name: str, header: PackHeader, entries: np.ndarray) -> None:
        """Take in a pack that this process just wrote.

        Args:
            name: of its file.
            header: of the pack.
            entries: of all its segments; the numbers of the pack are set.
        """
        if name in self._numbers:
            return
        stamp = self._source.stamp(name, header)
        if stamp is not None:  # another process may have merged it already
            entries["pack"] = self._number(IndexedPack(name, *stamp, header))
            self._add(entries)

    def remove(self, name: str) -> None:
        """Forget a pack that this process just removed."""
        number = self._numbers.pop(name, None)
        if number is not None:
            self._alive[number] = False
            self._gone += self._packs[number].header.segments
        self._damaged.pop(name, None)

    def reject(self, name: str, row: int) -> None:
        """Leave out a segment that turned out to be damaged.

        Args:
            name: of the pack.
            row: of its first row in the pack.
        """
        if name in self._numbers:
            self._rejected.add((self._numbers[name], row))

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The segments of items.

        Args:
            keys: uint8 [m, 32].

        Returns:
            The positions in ``keys`` [n], ascending, and the entries [n] that belong to them; those of an item by
            start, then the longer first, then the newer first.
        """
        prefixes = _prefixes(keys)
        positions, entries = [np.zeros(0, np.int64)], [np.zeros(0, ENTRY)]
        for tier in self._tiers:
            left = np.searchsorted(tier.keys, prefixes, "left")
            sizes = np.searchsorted(tier.keys, prefixes, "right") - left
            of_key = np.repeat(np.arange(len(keys)), sizes)
            places = np.repeat(left - np.cumsum(sizes) + sizes, sizes) + np.arange(len(of_key))
            matches = tier.entries[places]
            sound = (matches["id"] == keys[of_key]).all(1) & self._alive[matches["pack"]]
            positions.append(of_key[sound])
            entries.append(matches[sound])
        items, segments = np.concatenate(positions), np.concatenate(entries)
        if self._rejected and len(items):
            kept = self._not_rejected(segments)
            items, segments = items[kept], segments[kept]
        newer, longer = (-segments[name].astype(np.int64) for name in ("pack", "count"))
        order = np.lexsort((newer, longer, segments["start"], items))
        return items[order], segments[order]

    def item_count(self) -> int:
        """How many items have rows, at most: two that agree in the first eight bytes of their ids count as one."""
        alive = [tier.keys[self._alive[tier.entries["pack"]]] for tier in self._tiers]
        return len(np.unique(np.concatenate(alive))) if alive else 0

    def _number(self, pack: IndexedPack) -> int:
        number = len(self._packs)
        self._packs.append(pack)
        self._numbers[pack.name] = number
        if number >= len(self._alive):
            self._alive = np.concatenate([self._alive, np.zeros(max(64, number), bool)])
        self._alive[number] = True
        return number

    def _add(self, entries: np.ndarray) -> None:
        self._tiers.append(IndexTier.of(entries))
        recent = self._tiers[1:] if self._stored else self._tiers
        if self._gone + sum(len(tier.keys) for tier in recent) > max(_FEW, self._stored // _SHARE):
            self._save()
        elif len(recent) > _MOST_TIERS:
            sound = np.concatenate([tier.entries[self._is_sound(tier)] for tier in recent])
            self._tiers[-len(recent) :] = [IndexTier.of(sound)]

    def _is_sound(self, tier: IndexTier) -> np.ndarray:
        """Which entries of a tier are of packs that are there, and were not found damaged: bool [n]."""
        sound: np.ndarray = self._alive[tier.entries["pack"]]
        return sound & self._not_rejected(tier.entries) if self._rejected else sound

    def _not_rejected(self, entries: np.ndarray) -> np.ndarray:
        places = zip(entries["pack"].tolist(), entries["row"].tolist(), strict=True)
        return np.array([place not in self._rejected for place in places], bool)

    def _save(self) -> None:
        """Write the file again; where that is not possible, what would be in it stays in memory."""
        tiers, kept = self._tiers, [self._is_sound(tier) for tier in self._tiers]
        alive = np.flatnonzero(self._alive[: len(self._packs)])
        numbers = np.zeros(len(self._packs), np.uint32)
        numbers[alive] = np.arange(len(alive))
        self._packs = [self._packs[number] for number in alive.tolist()]
        self._numbers = {pack.name: number for number, pack in enumerate(self._packs)}
        self._alive = np.ones(len(alive), bool)
        self._rejected.clear()
        self._stored, self._gone = sum(int(sound.sum()) for sound in kept), 0
        try:
            self._write(self._file, self._packs, _Selection(tiers, kept, numbers))
            packs, tier = _read_file(self._file, self._space)
            if [pack.name for pack in packs] != [pack.name for pack in self._packs]:
                raise ValueError("another process wrote its own meanwhile, whose packs have other numbers")
            self._tiers = [tier]
        except (StorageError, OSError, ValueError):
            entries = np.concatenate([tier.entries[sound] for tier, sound in zip(tiers, kept, strict=True)])
            entries["pack"] = numbers[entries["pack"]]
            self._tiers = [IndexTier.of(entries)]

    def keep(self) -> None:
        """Write what is new into the file, where reading it again is dear."""
        if len(self._tiers) > bool(self._stored):
            self._save()

    def export(self, file: Path, names: Collection[str]) -> int:
        """Write an index of some of the packs, in the form of the own one.

        Returns:
            How many packs are in it; where there is none of them, nothing is written.
        """
        chosen = [number for number, pack in enumerate(self._packs) if self._alive[number] and pack.name in names]
        if not chosen:
            return 0
        numbers = np.zeros(len(self._packs), np.uint32)
        numbers[chosen] = np.arange(len(chosen))
        wanted = np.zeros(len(self._alive), bool)
        wanted[chosen] = True
        kept = [self._is_sound(tier) & wanted[tier.entries["pack"]] for tier in self._tiers]
        self._write(file, [self._packs[number] for number in chosen], _Selection(self._tiers, kept, numbers))
        return len(chosen)

    def _write(self, file: Path, packs: Sequence[IndexedPack], chosen: _Selection) -> None:
        """Write the entries that are chosen, with their new numbers of packs.

        Of a million entries only their keys and their order are in memory, which is a fifth of them.
        """
        keys = chosen.keys()
        order = np.argsort(keys, kind="stable")
        rows = [_describe(pack) for pack in packs]
        text = json.dumps({"format": _FORMAT, "space": self._space, "entries": len(keys), "packs": rows}).encode()
        text += b" " * (-len(text) % 8)
        with atomic_write(file, durable=False) as stream:
            stream.write(bytes(_FIRST.size))
            check = hashlib.sha256()
            for part in _parts(text, keys, order, chosen):
                check.update(part)
                stream.write(part)
            stream.seek(0)
            stream.write(_FIRST.pack(len(text), check.digest()))

    def _load(self) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            packs, tier = _read_file(self._file, self._space)
            self._packs, self._tiers = packs, [tier]
            self._numbers = {pack.name: number for number, pack in enumerate(packs)}
            self._alive = np.ones(len(packs), bool)
            self._stored = len(tier.keys)


# the length of the JSON, and the sha256 of everything that follows
_FIRST = struct.Struct("<Q32s")

_BLOCK = 1 << 14


class _Selection:
    """The entries of tiers that are kept, one tier after the other, without a copy of them all."""

    def __init__(self, tiers: Sequence[IndexTier], kept: Sequence[np.ndarray], numbers: np.ndarray) -> None:
        self._tiers, self._kept, self._numbers = tiers, kept, numbers
        # a tier of which everything is kept, as most are, needs no places
        self._places = [None if sound.all() else np.flatnonzero(sound).astype(np.uint32) for sound in kept]
        self._ends = np.cumsum([int(sound.sum()) for sound in kept])

    def keys(self) -> np.ndarray:
        """The keys of the entries [n]."""
        return np.concatenate([tier.keys[sound] for tier, sound in zip(self._tiers, self._kept, strict=True)])

    def take(self, positions: np.ndarray) -> np.ndarray:
        """The entries [n] at positions [n], with the new numbers of their packs."""
        entries = np.empty(len(positions), ENTRY)
        of_tier = np.searchsorted(self._ends, positions, "right")
        for number, (tier, places) in enumerate(zip(self._tiers, self._places, strict=True)):
            chosen = of_tier == number
            inside = positions[chosen] - (self._ends[number - 1] if number else 0)
            entries[chosen] = tier.entries[inside if places is None else places[inside]]
        entries["pack"] = self._numbers[entries["pack"]]
        return entries


def _parts(text: bytes, keys: np.ndarray, order: np.ndarray, entries: _Selection) -> Iterator[bytes]:
    """The file in blocks, so that a sorted copy of the whole is never in memory."""
    yield text
    blocks = [order[start : start + _BLOCK] for start in range(0, len(order), _BLOCK)]
    yield from (keys[block].tobytes() for block in blocks)
    yield from (entries.take(block).tobytes() for block in blocks)


def _read_file(file: Path, space: str) -> tuple[list[IndexedPack], IndexTier]:
    """What an index file holds; whatever is wrong with it is an error.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it is damaged or of another space or version.
        OSError: it cannot be read.
    """
    if not file.is_file():
        raise ValueError("no file")
    return parse_index(np.memmap(file, np.uint8, "r"), space)


def parse_index(data: np.ndarray, space: str) -> tuple[list[IndexedPack], IndexTier]:
    """The packs and the entries in the bytes of an index file.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it is damaged or of another space or version.
    """
    length, checksum = _FIRST.unpack(data[: _FIRST.size].tobytes().ljust(_FIRST.size, b"\0"))
    if length > min(_LARGEST_HEADER, len(data)) or hashlib.sha256(data[_FIRST.size :].data).digest() != checksum:
        raise ValueError("damaged")
    header = json.loads(data[_FIRST.size : _FIRST.size + length].tobytes())
    n = header["entries"]
    if header["format"] != _FORMAT or header["space"] != space:
        raise ValueError("of another space or version")
    arrays = _FIRST.size + length
    keys = data[arrays : arrays + 8 * n].view(np.uint64)
    entries = data[arrays + 8 * n : arrays + (8 + ENTRY.itemsize) * n].view(ENTRY)
    packs = [_parse(row, space) for row in header["packs"]]
    if len(keys) != n or len(entries) != n or (n and int(entries["pack"].max()) >= len(packs)):
        raise ValueError("damaged")
    return packs, IndexTier(keys, entries)


def _describe(pack: IndexedPack) -> list[Any]:
    header = pack.header
    form = [header.form.dtype, list(header.form.shape)]
    return [pack.name, pack.size, pack.modified, header.segments, header.rows, *form, header.table]


def _parse(row: Sequence[Any], space: str) -> IndexedPack:
    name, size, modified, segments, rows, dtype, shape, table = row
    header = PackHeader(space, segments, rows, RowForm(dtype, tuple(shape)), table)
    if not header.is_possible or type(name) is not str:
        raise ValueError("a pack that cannot be")
    return IndexedPack(name, size, modified, header)


def _prefixes(ids: np.ndarray) -> np.ndarray:
    """The first eight bytes of ids [n, 32] as numbers [n] that sort alike."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
