"""The packs of one space in a bucket, and those on their way there.

What is in a bucket is listed from the newest known name on, and many packs are taken in at once from index objects,
each of which has the tables of packs whose names lie in one range. An index object is made by whoever writes, when
there are enough packs that none has; eight of one level become one of the next, so that there are few.
"""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from abs_classify.encoding.bucket_ranges import RangeReader, WantedRanges
from abs_classify.encoding.pack_folder import FolderPacks, open_pack
from abs_classify.encoding.pack_index import IndexedPack, IndexTier, PackIndex, parse_index
from abs_classify.encoding.packs import (
    PACK_SUFFIX,
    DamagedPackError,
    PackHeader,
    PackStream,
    read_entries,
    read_header,
)
from abs_core.buckets import Bucket, BucketObject
from abs_core.text import counted

__all__ = ["BucketPacks"]

_logger = logging.getLogger(__name__)

# seconds for which a listing is believed: less while others are writing, more while nobody is
_SHORTEST, _LONGEST = 5.0, 60.0

# seconds by which names may be older than those that were listed before them: S3 refuses clocks that are wrong by more
# than a quarter of it
_LATE = 3600

# bytes that are read of a pack for its table at first
_HEAD = 1 << 16

# packs that one index object is asked for, rather than their tables one by one
_FEWEST_OF_INDEX = 4

# packs that no index object has, and index objects of one level, after which there is a new one
_FEWEST_OF_PACKS, _FEWEST_OF_LEVEL = 32, 8

_MOST_LEVELS = 9

# bytes of an index object that are read however few packs its range has: those that it has may be merged since
_LARGEST_INDEX = 1 << 27

_INDEX_NAME = re.compile(r"(\d)-([0-9a-f]{16}-[0-9a-f]{8})-([0-9a-f]{16}-[0-9a-f]{8})-(\d{1,9})\.index")
_PACK_NAME = re.compile(r"([0-9a-f]{16}-[0-9a-f]{8})" + re.escape(PACK_SUFFIX))


@dataclass(frozen=True)
class _IndexObject:
    """An index object: its path and size, and what its name says: the level, and the first and last of its packs."""

    path: str
    size: int
    level: int
    first: str
    last: str


class BucketPacks:
    """The packs of one space.

    Args:
        bucket: where they are.
        reader: of parts of its objects.
        folder: of this machine, with the packs that are on their way to the bucket.
        space: the digest of the space.

    Attributes:
        objects: the packs in the bucket as they were listed, by name.
        is_described: whether the bucket says what the space is.
    """

    def __init__(self, bucket: Bucket, reader: RangeReader, folder: Path, space: str) -> None:
        self._bucket, self._reader, self._folder, self._space = bucket, reader, folder, space
        self._prefix = f"features/{space}/"
        self._outgoing = FolderPacks(folder)
        self._outgoing_listing: Mapping[str, tuple[int, int]] = {}
        self.objects: dict[str, BucketObject] = {}
        self.is_described = False
        self._indexes: list[_IndexObject] = []
        self._oversized, self._reported = set[str](), set[str]()
        self._listed, self._believed = float("-inf"), _SHORTEST
        self._was_listed_whole = False

    def path(self, name: str) -> str:
        """Where a pack is in the bucket."""
        return self._prefix + name

    def wrote(self, name: str, size: int) -> None:
        """Take note of a pack that is on its way now."""
        self._outgoing_listing = {**self._outgoing_listing, name: (size, 0)}

    def uploaded(self, name: str, size: int) -> None:
        """Take note of a pack that is in the bucket now, and not on its way any more."""
        self.objects[name] = BucketObject(self.path(name), size, time.time())
        self._outgoing_listing = {key: stamp for key, stamp in self._outgoing_listing.items() if key != name}

    def removed(self, names: Sequence[str]) -> None:
        """Take note of packs that are gone, wherever they were."""
        for name in names:
            self.objects.pop(name, None)
        self._outgoing_listing = {key: stamp for key, stamp in self._outgoing_listing.items() if key not in names}

    def is_outgoing(self, name: str) -> bool:
        """Whether a pack is still on its way, as far as is known."""
        return name in self._outgoing_listing

    def expire(self) -> None:
        """Let the bucket be listed when it is next asked for: somebody else is known to have written."""
        self._listed = float("-inf")

    def listing(self, known: Mapping[str, tuple[int, int]], *, force: bool) -> dict[str, tuple[int, int]] | None:
        """Size and 0 for every pack, since none ever changes; None if nothing changed.

        Raises:
            StorageError: the bucket cannot be listed.
        """
        outgoing = self._outgoing.listing({}, force=force)
        has_new = force or time.monotonic() - self._listed > self._believed
        if outgoing is None and not has_new:
            return None
        if outgoing is not None:
            self._outgoing_listing = {name: (size, 0) for name, (size, _) in outgoing.items()}
        if has_new:
            self._list(known, whole=force)
        present = {name: (entry.size, 0) for name, entry in self.objects.items()}
        if not self._was_listed_whole:
            # what an earlier process saw: a pack that is gone since is noticed when it is read
            present = {**known, **present}
        return {**present, **self._outgoing_listing}

    def tables(self, names: Sequence[str]) -> Iterator[tuple[str, tuple[PackHeader, np.ndarray] | None]]:
        """Header and entries of packs; None for what is not to be believed; what is gone is left out.

        Raises:
            StorageError: the bucket cannot be read.
        """
        outgoing = [name for name in names if name in self._outgoing_listing]
        for name, table in self._outgoing.tables(outgoing):
            yield name, table
        remaining = set(names).difference(outgoing)
        for index in sorted(self._indexes, key=lambda index: (-index.level, index.first)):
            inside = {name for name in remaining if index.first <= name[:25] <= index.last}
            if len(inside) >= _FEWEST_OF_INDEX:
                for name, table in self._read_index(index, inside):
                    remaining.discard(name)
                    yield name, table
        self._report_oversized()
        yield from self._read_heads(sorted(remaining))

    def stamp(self, name: str, header: PackHeader) -> tuple[int, int]:  # noqa: ARG002 - what is written is there
        """Size and 0 for a pack that was just written."""
        return header.size, 0

    def open_each(self, wanted: Sequence[tuple[IndexedPack, np.ndarray]]) -> Iterator[PackStream | None]:
        """What is wanted of each pack; None for one that is gone. All packs are asked for at once.

        Args:
            wanted: packs, and the entries that will be read of them, by row.

        Raises:
            StorageError: the bucket cannot be read.
        """
        streams = [self._open_outgoing(pack.name) for pack, _ in wanted]
        try:
            absent = [pair for pair, stream in zip(wanted, streams, strict=True) if stream is None]
            fetched = self._reader.fetch([self._ranges(pack, entries) for pack, entries in absent])
            for stream in streams:
                yield stream if stream is not None else next(fetched)
        finally:
            for stream in streams:
                if stream is not None:
                    stream.close()

    def write_indexes(self, index: PackIndex) -> None:
        """Write index objects where there are many packs that none has, or many of one level.

        Args:
            index: of all packs.

        Raises:
            StorageError: the bucket cannot be written.
        """
        last = max((known.last for known in self._indexes), default="")
        fresh = sorted(name[:25] for name in self._uploaded_names(index) if name[:25] > last)
        if len(fresh) >= _FEWEST_OF_PACKS:
            self._write_index(index, 0, fresh[0], fresh[-1])
        for level in range(_MOST_LEVELS):
            alike = [known for known in self._indexes if known.level == level]
            if len(alike) < _FEWEST_OF_LEVEL:
                continue
            if self._write_index(
                index, level + 1, min(known.first for known in alike), max(known.last for known in alike)
            ):
                self._bucket.remove([known.path for known in alike])
                self._indexes = [known for known in self._indexes if known not in alike]

    def remove_damaged_indexes(self) -> None:
        """Remove index objects that cannot be read or are too large; what they had is read from the packs.

        Raises:
            StorageError: the bucket cannot be read or written.
        """
        damaged = []
        for known in self._indexes:
            try:
                self._parse_index(known)
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError, RecursionError):
                damaged.append(known.path)
        self._bucket.remove(damaged)
        self._indexes = [known for known in self._indexes if known.path not in damaged]

    def _write_index(self, index: PackIndex, level: int, first: str, last: str) -> bool:
        """Write the index object of the packs of a range; whether there are any."""
        names = {name for name in self._uploaded_names(index) if first <= name[:25] <= last}
        with TemporaryDirectory(prefix="abs-") as folder:
            file = Path(folder) / "index"
            count = index.export(file, names)
            if not count:
                return False
            path = f"{self._prefix}index/{level}-{first}-{last}-{count}.index"
            data = file.read_bytes()
            self._bucket.create(path, data)
        self._indexes.append(_IndexObject(path, len(data), level, first, last))
        return True

    def _uploaded_names(self, index: PackIndex) -> list[str]:
        names = [pack.name for pack in index.packs if pack.name not in self._outgoing_listing]
        return [name for name in names if _PACK_NAME.fullmatch(name)]

    def _list(self, known: Mapping[str, tuple[int, int]], *, whole: bool) -> None:
        """Take in what is in the bucket: as a whole, or from the newest known name on."""
        newest = max((name for name in {*known, *self.objects} if _PACK_NAME.fullmatch(name)), default="")
        after = "" if whole or not newest else f"{max(0, int(newest[:16], 16) - _LATE * 10**9):016x}"
        packs, self._indexes = {}, []
        self.is_described = False
        for entry in self._bucket.objects(self._prefix, after):
            name = entry.path.removeprefix(self._prefix)
            match = _INDEX_NAME.fullmatch(name.removeprefix("index/"))
            if name.startswith("index/") and match is not None:
                self._indexes.append(_IndexObject(entry.path, entry.size, int(match[1]), match[2], match[3]))
            elif "/" not in name and name.endswith(PACK_SUFFIX):
                packs[name] = entry
            self.is_described |= name == "space.json"
        has_news = not packs.keys() <= self.objects.keys() | known.keys()
        self._believed = _SHORTEST if has_news else min(2 * self._believed, _LONGEST)
        self.objects = packs if not after else {**self.objects, **packs}
        self._was_listed_whole |= not after
        self._listed = time.monotonic()

    def _read_index(
        self, index: _IndexObject, names: set[str]
    ) -> Iterator[tuple[str, tuple[PackHeader, np.ndarray] | None]]:
        """What an index object has of packs; nothing if it is damaged."""
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
            packs, tier = self._parse_index(index)
            order = np.argsort(tier.entries["pack"], kind="stable")
            ends = np.searchsorted(tier.entries["pack"][order], np.arange(len(packs) + 1))
            for number, pack in enumerate(packs):
                known = self.objects.get(pack.name)
                if pack.name in names and known is not None and known.size == pack.size:
                    yield pack.name, (pack.header, tier.entries[order[ends[number] : ends[number + 1]]])

    def _parse_index(self, index: _IndexObject) -> tuple[list[IndexedPack], IndexTier]:
        """The packs and entries of an index object.

        Raises:
            FileNotFoundError: it is gone.
            ValueError, KeyError, TypeError, RecursionError: it is damaged, or larger than an index of packs can be.
            StorageError: it cannot be read.
        """
        packs = sum(entry.size for name, entry in self.objects.items() if index.first <= name[:25] <= index.last)
        # an entry of an index has no more than twice the bytes that it has in a pack
        if not 0 < index.size <= max(_LARGEST_INDEX, 2 * packs):
            self._oversized.update([index.path] if index.size else [])
            raise ValueError("empty or too large")
        return parse_index(np.frombuffer(self._bucket.read(index.path, 0, index.size), np.uint8), self._space)

    def _report_oversized(self) -> None:
        """Say, once for each, that index objects are not read."""
        if self._oversized - self._reported:
            _logger.warning(
                "%s: %s not read, larger than any index of these packs. `abs cache verify` removes such objects",
                self._bucket.address,
                counted(len(self._oversized), "index object was", "index objects were"),
            )
            self._reported |= self._oversized

    def _read_heads(self, names: Sequence[str]) -> Iterator[tuple[str, tuple[PackHeader, np.ndarray] | None]]:
        """The tables of packs, from their beginnings."""
        present = [name for name in names if name in self.objects]
        paths = [self.path(name) for name in present]
        first = self._reader.read_all([(path, 0, _HEAD) for path in paths])
        for name, path, head in zip(present, paths, first, strict=True):
            if head is None:
                continue
            try:
                header = read_header(io.BytesIO(head))
                if len(head) < header.values:
                    head += self._bucket.read(path, len(head), header.values)
                yield name, (header, read_entries(io.BytesIO(head), header))
            except FileNotFoundError:
                continue
            except DamagedPackError:
                yield name, None

    def _open_outgoing(self, name: str) -> io.BufferedReader | None:
        with suppress(FileNotFoundError):
            return open_pack(self._folder / name) if name in self._outgoing_listing else None
        return None

    def _ranges(self, pack: IndexedPack, entries: np.ndarray) -> WantedRanges:
        header = pack.header
        starts = header.values + entries["row"].astype(np.int64) * header.form.size
        ends = starts + entries["count"].astype(np.int64) * header.form.size
        within = ends <= min(pack.size, header.size)
        spans = list(zip(starts[within].tolist(), ends[within].tolist(), strict=True))
        return WantedRanges(self.path(pack.name), pack.size, header.values, spans)
