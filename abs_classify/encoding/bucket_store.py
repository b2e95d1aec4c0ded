"""The feature store in a bucket of S3 or of Google Cloud Storage: what many machines share without a file system.

Rows that are appended lie on this machine at first, as packs of a folder, so that a kill loses none. They are uploaded
together, each time as one object by one conditional request, when there are enough of them, after half a minute, and
when a run ends. What a killed run left is uploaded by the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from abs_classify.encoding.bucket_claims import BucketClaims
from abs_classify.encoding.bucket_packs import BucketPacks
from abs_classify.encoding.bucket_ranges import RangeReader
from abs_classify.encoding.cache import CacheFile
from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.pack_index import PackIndex
from abs_classify.encoding.pack_merging import check_pack, choose_packs, write_merged
from abs_classify.encoding.packed_rows import count_rows, first_rows, load_rows, reach_of
from abs_classify.encoding.packs import (
    ENTRY,
    PACK_SUFFIX,
    DamagedPackError,
    PackHeader,
    keys_of,
    read_header,
    write_pack,
)
from abs_classify.encoding.spaces import CheckedPack, PersistentStore, Segment, Space, SpaceSummary, parse_space
from abs_classify.encoding.store_limit import space_folders
from abs_classify.encoding.store_processes import claim_work, remove_dead_files, wait_for_work
from abs_core.buckets import BucketObject, open_bucket
from abs_core.errors import AbsError, CacheError, StorageError, UsageError
from abs_core.files import atomic_write, ensure_writable
from abs_core.home import Home
from abs_core.locations import parse_location
from abs_core.text import format_bytes, printable

__all__ = ["BucketStore"]

_logger = logging.getLogger(__name__)

_FEATURES, _SPACE_FILE, _PROOF = "features/", "space.json", "conditional-write"
_OUTGOING, _PROCESSES = "outgoing", "processes"

# bytes on their way after which they are uploaded, and after which whoever appends more waits for it
_ENOUGH, _TOO_MUCH = 16 << 20, 256 << 20

# bytes of one object, and its segments
_LARGEST_PACK, _MOST_SEGMENTS = 64 << 20, 1 << 14

# seconds after which rows are uploaded however few they are, and after which what failed is tried again
_LATEST, _AGAIN = 30.0, 60.0

# classes of sizes that are merged: packs of up to 1 MiB, since what is read and written again has to be paid for
_MERGED_CLASSES = 1

# bytes and requests of a download that are in memory together: an object may be larger than any that was written here
_DOWNLOADED_AT_ONCE, _REQUESTS_AT_ONCE = 8 << 20, 16

# bytes
_LARGEST_DESCRIPTION, _WORTH_A_WORD = 1 << 22, 100_000_000

# of each space, items for which there was no room: more than the next step of a run asks for again
_MOST_UNKEPT = 64

# seconds to wait for another process of this machine that is uploading
_LONGEST_UPLOAD = 600.0


class BucketStore(PersistentStore):
    """Feature rows in a bucket. Safe for several machines, processes and threads at once; loads of several threads come
    one after the other, each with its requests at once.

    Args:
        place: the address, such as ``s3://bucket/folder``.
        index: a folder of this machine for indexes, and for rows on their way to the bucket.
        root: a folder of this machine for what belongs to it alone, such as the digests of its files.
        limit: the bytes that the rows may take: what exceeds them is not kept, and nothing is removed. None and ``inf``
            are no limit, 0 is to keep nothing new.

    Raises:
        UsageError: an address that is none, or of a service without conditional writes.
        MissingExtraError: the package that speaks with the bucket is not installed.
    """

    def __init__(self, place: str, *, index: Path, root: Path, limit: float | None = None) -> None:
        location = parse_location(place)
        if location.protocol not in ("s3", "gs"):
            raise UsageError(
                f"features are kept in a folder or a bucket, got an address of {location.protocol}",
                remedy="Name a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER",
            )
        self.place, self.root = str(location), root
        self._folder, self._limit = index, limit
        self._outgoing = index / _OUTGOING
        self._bucket = open_bucket(location)
        self._reader = RangeReader(self._bucket)
        self._claims = BucketClaims(self._bucket, index / _PROCESSES)
        self._packs: dict[str, BucketPacks] = {}
        self._indexes: dict[str, PackIndex] = {}
        self._described = set[str]()
        self._repaired = set[str]()
        self._unkept = MemoryStore(_MOST_UNKEPT)
        self._lock, self._uploading = threading.RLock(), threading.Lock()
        self._pending, self._paused_until = 0, float("-inf")
        self._timer: threading.Timer | None = None
        self._taken: int | None = None
        self._warned = self._proved_writable = False

    def __reduce__(self) -> tuple[object, ...]:
        return _open_again, (self.place, self._folder, self.root, self._limit)

    def load(self, space: Space, ids: Sequence[str], count: int | None = None) -> list[np.ndarray | None]:
        """The rows of each item from 0 on: [n, ...] with n at most ``count``, or None where row 0 is not there.

        Raises:
            StorageError: the bucket cannot be read.
        """
        if not ids:
            return []
        with self._lock:
            index = self._index(space.digest)
            index.refresh()
            packs, repair = self._packs[space.digest], partial(self._repair, space.digest)
            rows = load_rows(index, packs, keys_of(ids), count, lambda _: None, repair)
        for position, unkept in enumerate(self._unkept.segments(space, ids)):
            if unkept:
                kept = [(0, values)] if (values := rows[position]) is not None else []
                rows[position] = first_rows(sorted([*kept, *unkept], key=lambda part: part[0]), count)
        return rows

    def counts(self, space: Space, ids: Sequence[str]) -> list[int]:
        """How many rows from 0 on each item has, without reading them; damage may turn up when they are read.

        Raises:
            StorageError: the bucket cannot be listed.
        """
        if not ids:
            return []
        with self._lock:
            index = self._index(space.digest)
            index.refresh()
            counts = count_rows(index, keys_of(ids), lambda _: None)
        for position, unkept in enumerate(self._unkept.segments(space, ids)):
            if unkept:
                counts[position] = reach_of([(0, counts[position]), *((start, len(rows)) for start, rows in unkept)])
        return counts

    def append(self, space: Space, segments: Sequence[Segment]) -> None:
        """Keep segments; rows that are there already are harmless. They are in the bucket after half a minute at most.

        Raises:
            StorageError: this machine's disk is full or read-only; nothing half-written stays.
        """
        for first in range(0, len(segments), _MOST_SEGMENTS):
            self._append(space, segments[first : first + _MOST_SEGMENTS])
        if self._pending >= _TOO_MUCH and time.monotonic() >= self._paused_until:
            self.flush()

    def require_writable(self) -> None:
        """Prove, once, that rows can be kept, before long work whose results would be lost.

        Raises:
            CacheError: they cannot; names the place and the option that moves it.
        """
        if self._proved_writable or self._limit == 0:
            return
        try:
            ensure_writable(self._outgoing)
            is_honoured = self._bucket.honours_conditions(_FEATURES + _PROOF)
        except StorageError as error:
            raise CacheError(
                f"the cache cannot be used: {error.message}",
                remedy=f"{error.remedy}; or name another one with --cache or ABS_CACHE",
            ) from error
        if not is_honoured:  # every pack has a name of its own, so nothing is overwritten
            self._claims.disable()
            _logger.warning("%s ignores If-None-Match, so machines may compute the same rows", self.place)
        self._proved_writable = True

    def claim(self, work: str) -> AbstractContextManager[bool]:
        """Claim a piece of work until its rows are in the bucket; gives False while somebody else has claimed it.

        Args:
            work: names it for all machines, such as the digest of a space and of the ids of a shard.
        """
        if self._limit == 0:  # nobody would find what this one computes
            return nullcontext(enter_result=True)
        return self._claims.claim(work)

    def wait_for(self, work: str, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until nobody claims a piece of work; whether it is free.

        Raises:
            StorageError: the bucket cannot be asked.
        """
        is_free = self._claims.wait_for(work, timeout)
        self.refresh()
        return is_free

    def announce(self, required: int) -> None:
        """Say what a run is about to add to the bucket.

        Args:
            required: the bytes of the rows that it computes.

        Raises:
            CacheError: as ``require_writable``, if there are any.
        """
        if not required:
            return
        self.require_writable()
        if required >= _WORTH_A_WORD:
            _logger.info("this run adds up to %s to the cache %s", format_bytes(required), self.place)

    def refresh(self) -> None:
        """Let the bucket be listed when it is next asked for: somebody else is known to have written."""
        with self._lock:
            for packs in self._packs.values():
                packs.expire()

    def flush(self) -> bool:
        """Upload what is on its way, also what killed runs of this machine left; whether all of it is there.

        Why it is not is said as a warning, and the next run tries again.
        """
        try:
            self._upload_all()
            self._keep_indexes()
        except (StorageError, OSError) as error:
            reason = error.message if isinstance(error, AbsError) else type(error).__name__
            _logger.warning("features wait in %s: %s", printable(str(self._outgoing)), reason)
            self._paused_until = time.monotonic() + _AGAIN
            return False
        return True

    def summaries(self) -> Iterator[SpaceSummary]:
        """What the store has of each space.

        Raises:
            StorageError: the bucket cannot be read.
        """
        for digest in self._space_digests():
            with self._lock:
                index = self._index(digest)
                index.refresh(force=True)
                packs, items = index.packs, index.item_count()
                used = max((entry.modified or 0.0 for entry in self._packs[digest].objects.values()), default=0.0)
            if packs:
                rows, size = sum(pack.header.rows for pack in packs), sum(pack.size for pack in packs)
                yield SpaceSummary(digest, self.describe(digest), items, rows, len(packs), size, used)

    def describe(self, digest: str) -> Space | None:
        """The space with a digest; None if there is none or its description is damaged.

        Raises:
            StorageError: the bucket cannot be read.
        """
        with suppress(FileNotFoundError):
            data = self._bucket.read(f"{_FEATURES}{digest}/{_SPACE_FILE}", 0, _LARGEST_DESCRIPTION)
            return parse_space(data, digest)
        return None

    def verify(self) -> Iterator[CheckedPack]:
        """Read every row; damaged ones are dropped, so that they are computed again.

        Raises:
            StorageError: the bucket cannot be read.
        """
        for digest in self._space_digests():
            with self._lock:
                index = self._index(digest)
                index.refresh(force=True)
                packs = self._packs[digest]
                packs.remove_damaged_indexes()
            for name in sorted(packs.objects):
                with TemporaryDirectory(prefix="abs-") as folder:
                    if not self._download(digest, [name], Path(folder)):
                        continue
                    sound, damaged = check_pack(Path(folder) / name, digest)
                if damaged:
                    self._rebuild(digest, [name])
                yield CheckedPack(f"{self.place}/{packs.path(name)}", sound, damaged)

    def prune(self, *, older_than_days: float | None = None, max_bytes: int | None = None) -> list[CacheFile]:
        """Remove packs that were written long ago, then the oldest ones over a size; also claims that expired.

        A bucket does not say when a pack was read. Whoever uses one that is removed computes its rows again.

        Returns:
            The removed objects, by their paths in the bucket.

        Raises:
            StorageError: the bucket cannot be listed or written.
        """
        objects = self._bucket.objects(_FEATURES)
        packs = sorted(
            (entry for entry in objects if entry.path.endswith(PACK_SUFFIX)), key=lambda entry: entry.modified or 0.0
        )
        total = sum(entry.size for entry in packs)
        oldest = time.time() - older_than_days * 86400 if older_than_days is not None else float("-inf")
        removed: list[BucketObject] = []
        for entry in packs:
            if (entry.modified or 0.0) < oldest or (max_bytes is not None and total > max_bytes):
                total -= entry.size
                removed.append(entry)
        paths = {entry.path for entry in removed}
        kept = {entry.path.split("/")[1] for entry in packs if entry.path not in paths}
        emptied = {path.split("/")[1] for path in paths} - kept
        rest = [entry.path for entry in objects if entry.path.split("/")[1] in emptied]
        self._bucket.remove(sorted(paths.union(rest)))
        self._claims.remove_expired()
        remove_dead_files(self._folder / _PROCESSES)
        with self._lock:
            for known in self._packs.values():
                known.expire()
        return [CacheFile(Path(entry.path), entry.size, entry.modified or 0.0) for entry in removed]

    def _space_digests(self) -> list[str]:
        return sorted(name for name in self._bucket.folders(_FEATURES) if len(name) == 64)

    def _index(self, digest: str) -> PackIndex:
        if digest not in self._indexes:
            packs = self._packs[digest] = BucketPacks(self._bucket, self._reader, self._outgoing / digest, digest)
            self._indexes[digest] = PackIndex(packs, self._folder / f"{digest}.index", digest)
        return self._indexes[digest]

    def _append(self, space: Space, segments: Sequence[Segment]) -> None:
        size = sum(segment.values.nbytes + ENTRY.itemsize for segment in segments)
        if not self._has_room(size):
            self._unkept.append(space, segments)
            return
        folder = self._outgoing / space.digest
        with self._lock:
            index = self._index(space.digest)
            if space.digest not in self._described:
                with atomic_write(folder / _SPACE_FILE, durable=False) as stream:
                    stream.write(space.description)
                self._described.add(space.digest)
            name, header, entries = write_pack(folder, space.digest, segments)
            self._packs[space.digest].wrote(name, header.size)
            index.add(name, header, entries)
            self._pending += header.size
            is_enough = self._pending >= _ENOUGH and time.monotonic() >= self._paused_until
            self._upload_within(0.0 if is_enough else _LATEST)

    def _has_room(self, size: int) -> bool:
        if self._limit is None or self._limit == float("inf"):
            return True
        if self._limit and self._taken is None:
            self._taken = sum(entry.size for entry in self._bucket.objects(_FEATURES))
        if self._limit and (self._taken or 0) + size <= self._limit:
            self._taken = (self._taken or 0) + size
            return True
        if self._limit and not self._warned:
            self._warned = True
            _logger.warning(
                "the cache %s has no room for new rows within %s: they are not kept. "
                "Allow more with --cache-size or ABS_CACHE_SIZE, or remove old rows with `abs cache prune`",
                self.place,
                format_bytes(int(self._limit)),
            )
        return False

    def _upload_within(self, seconds: float) -> None:
        """Let a thread upload what is on its way, unless one will do so earlier."""
        if self._timer is not None and (seconds or not self._timer.interval):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self._upload_in_background)
        self._timer.daemon = True
        self._timer.start()

    def _upload_in_background(self) -> None:
        if not self.flush():
            with self._lock:
                self._upload_within(_AGAIN)

    def _keep_indexes(self) -> None:
        with self._lock:
            for index in self._indexes.values():
                index.keep()

    def _upload_all(self) -> None:
        with self._uploading:
            with self._lock:
                done, pending = self._claims.done(), self._pending
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = None
            for folder in space_folders(self._outgoing):
                self._upload(folder)
            with self._lock:
                self._pending -= pending
            self._claims.release(done)

    def _upload(self, folder: Path) -> None:
        """Upload the packs of a space, unless another process of this machine does."""
        work = f"upload {folder.name}"
        while True:
            with claim_work(self._folder / _PROCESSES, work) as is_mine:
                if is_mine:
                    names = sorted(path.name for path in folder.glob(f"[!.]*{PACK_SUFFIX}"))
                    for group in _groups(folder, names):
                        self._upload_group(folder, group)
                    if names:
                        self._tidy(folder.name)
                    return
            if not wait_for_work(self._folder / _PROCESSES, work, _LONGEST_UPLOAD):
                raise StorageError("another process of this machine is uploading for too long", remedy="Try again")

    def _upload_group(self, folder: Path, names: Sequence[str]) -> None:
        """Upload packs of one form as one object."""
        digest = folder.name
        with self._lock:
            self._index(digest)
            packs = self._packs[digest]
        name = names[0]
        if len(names) > 1:
            merged = write_merged(folder, names, digest)
            with self._lock:
                self._replace(digest, names, merged.name, merged.header, merged.entries)
                if merged.header is not None:
                    packs.wrote(merged.name, merged.header.size)
                for old in names:
                    (folder / old).unlink(missing_ok=True)
            if merged.header is None:
                return
            name = merged.name
        data = (folder / name).read_bytes()
        if not packs.is_described:
            with suppress(FileNotFoundError):
                self._bucket.create(packs.path(_SPACE_FILE), (folder / _SPACE_FILE).read_bytes())
            packs.is_described = True
        # if it is there already, the answer to an earlier request was lost
        self._bucket.create(packs.path(name), data)
        with self._lock:
            packs.uploaded(name, len(data))
            (folder / name).unlink(missing_ok=True)

    def _replace(
        self, digest: str, names: Sequence[str], name: str, header: PackHeader | None, entries: np.ndarray
    ) -> None:
        """Let a pack stand for others in the index."""
        for old in names:
            self._indexes[digest].remove(old)
        self._packs[digest].removed(names)
        if header is not None:
            self._indexes[digest].add(name, header, entries)

    def _tidy(self, digest: str) -> None:
        """Merge small packs, and write index objects, where there are many of them."""
        with self._lock:
            index, packs = self._index(digest), self._packs[digest]
            small = [pack for pack in index.packs if not packs.is_outgoing(pack.name)]
        if chosen := choose_packs(small, _MERGED_CLASSES):
            self._rebuild(digest, [pack.name for pack in chosen])
        with self._lock:
            packs.write_indexes(index)

    def _repair(self, digest: str, names: Collection[str]) -> None:
        """Drop the damaged rows of packs, where that is possible; it is tried once."""
        for name in set(names) - self._repaired:
            self._repaired.add(name)
            if name in self._packs[digest].objects:
                self._rebuild(digest, [name])

    def _rebuild(self, digest: str, names: Sequence[str]) -> bool:
        """Put one pack with the sound rows of others in their place; whether that was possible.

        Whoever reads an old one meanwhile finds that it is gone, and the new one.
        """
        packs = self._packs[digest]
        with self._claims.exclusive(f"merge {digest}") as is_granted, TemporaryDirectory(prefix="abs-") as folder:
            if not is_granted or not self._download(digest, names, Path(folder)):
                return False
            try:
                merged = write_merged(Path(folder), names, digest)
                if merged.header is not None:
                    self._bucket.create(packs.path(merged.name), (Path(folder) / merged.name).read_bytes())
                self._bucket.remove([packs.path(name) for name in names])
            except (OSError, StorageError):
                return False
            with self._lock:
                self._replace(digest, names, merged.name, merged.header, merged.entries)
                if merged.header is not None:
                    packs.uploaded(merged.name, merged.header.size)
        return True

    def _download(self, digest: str, names: Sequence[str], folder: Path) -> bool:
        """Copy packs of a space into a folder; whether all of them were there."""
        with self._lock:
            packs = self._packs[digest]
            known = {pack.name: pack.size for pack in self._indexes[digest].packs}
            known |= {name: entry.size for name, entry in packs.objects.items()}
        if not known.keys() >= set(names):
            return False
        sizes = [known[name] for name in names]
        requests = [
            (number, packs.path(name), start, min(start + _DOWNLOADED_AT_ONCE, size))
            for number, (name, size) in enumerate(zip(names, sizes, strict=True))
            for start in range(0, max(size, 1), _DOWNLOADED_AT_ONCE)
        ]
        for first in range(0, len(requests), _REQUESTS_AT_ONCE):
            part = requests[first : first + _REQUESTS_AT_ONCE]
            read = self._reader.read_all([(path, start, end) for _, path, start, end in part])
            for (number, *_), data in zip(part, read, strict=True):
                if data is None:
                    return False
                with (folder / names[number]).open("ab") as stream:
                    stream.write(data)
        return True


def _open_again(place: str, index: Path, root: Path, limit: float | None) -> BucketStore:
    """A store that was pickled, on another machine with the folders of its user where it has to be."""
    try:
        ensure_writable(index)
    except StorageError:
        user = Home.at(None, None)
        index, root = user.indexes_of(place), user.cache
    return BucketStore(place, index=index, root=root, limit=limit)


def _groups(folder: Path, names: Sequence[str]) -> Iterator[list[str]]:
    """Packs that are uploaded as one object: of one form, and not too large."""
    groups: dict[object, list[str]] = {}
    sizes: dict[object, int] = {}
    for name in names:
        try:
            with (folder / name).open("rb") as stream:
                header = read_header(stream)
        except DamagedPackError:  # of no use to anybody
            (folder / name).unlink(missing_ok=True)
            continue
        if groups.get(header.form) and sizes[header.form] + header.size > _LARGEST_PACK:
            yield groups.pop(header.form)
        group = groups.setdefault(header.form, [])
        sizes[header.form] = header.size if not group else sizes[header.form] + header.size
        group.append(name)
    yield from groups.values()
