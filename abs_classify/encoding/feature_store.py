"""The feature store: rows of images and texts in spaces, each computed once and found by space and id.

Rows lie in packs (``packs``), in a folder for each space, and are found through an index (``pack_index``). What is
damaged is treated as absent. Several processes may use one folder at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from abs_classify.encoding.cache import CacheFile, cache_file, derived_files, remove_path, require_writable_cache
from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.pack_folder import FolderPacks
from abs_classify.encoding.pack_index import IndexedPack, PackIndex
from abs_classify.encoding.pack_merging import check_pack, choose_packs, merge_packs
from abs_classify.encoding.packed_rows import count_rows, first_rows, load_rows, reach_of
from abs_classify.encoding.packs import ENTRY, keys_of, write_pack
from abs_classify.encoding.spaces import CheckedPack, PersistentStore, Segment, Space, SpaceSummary, parse_space
from abs_classify.encoding.store_limit import StoreLimit, space_folders, stored_packs
from abs_classify.encoding.store_processes import UsedPacks, claim_work, remove_dead_files, wait_for_work
from abs_core.errors import StorageError
from abs_core.files import atomic_write
from abs_core.home import Home
from abs_core.locations import is_address

__all__ = ["DiskStore", "open_store", "opened_store"]

_FEATURES, _INDEX, _PROCESSES, _SPACE_FILE = "features", "index", "processes", "space.json"

# bytes
_LARGEST_DESCRIPTION = 1 << 22

# seconds: how long a pack counts as just used, and how long merging that was tried in vain is not tried again
_MARKED_FOR, _PAUSE = 600.0, 30.0
_EMPTY_FOR = 3600.0

# of a pack that is written, so that it can still be merged
_MOST_SEGMENTS = 1 << 14

# of each space, items for which there was no room: more than the next step of a run asks for again
_MOST_UNKEPT = 64


class DiskStore(PersistentStore):
    """A folder of feature rows. Safe for several processes and threads at once.

    Args:
        root: the cache folder; it is created at the first write, so a read-only one that holds everything works.
        index: a local folder for the indexes, which may be deleted at any time; by default inside ``root``.
        limit: the bytes that the rows may take: the packs that were not used for the longest time make room for new
            ones, and where all are in use, new rows are not kept. ``inf`` for no limit, 0 to keep nothing new, None for
            a fifth of what would be free without the rows.
    """

    def __init__(self, root: Path, *, index: Path | None = None, limit: float | None = None) -> None:
        self.root = root
        self.place = str(root)
        self._features = root / _FEATURES
        self._index_folder = index or root / _INDEX
        self._given_limit = limit
        self._known_limit: StoreLimit | None = None
        self._indexes: dict[str, PackIndex] = {}
        self._described = set[str]()
        self._used = UsedPacks(self._features / _PROCESSES)
        # when packs were last marked as used, and merging was last tried in vain, as ``time.monotonic`` counts
        self._marked: dict[str, float] = {}
        self._tried: dict[str, float] = {}
        # or a run would compute twice what it asks for twice
        self._unkept = MemoryStore(_MOST_UNKEPT)
        self._lock = threading.RLock()
        self._proved_writable = False

    def __reduce__(self) -> tuple[object, ...]:
        return partial(DiskStore, index=self._index_folder, limit=self._given_limit), (self.root,)

    def load(self, space: Space, ids: Sequence[str], count: int | None = None) -> list[np.ndarray | None]:
        """The rows of each item from 0 on: [n, ...] with n at most ``count``, or None where row 0 is not there.

        Raises:
            CacheError: a pack may not be read.
        """
        if not ids:
            return []
        with self._lock:
            index = self._index(space)
            index.refresh()
            rows = load_rows(
                index,
                FolderPacks(self._features / space.digest),
                keys_of(ids),
                count,
                partial(self._mark_used, space),
                partial(self._repair, space.digest, index),
            )
        for position, unkept in enumerate(self._unkept.segments(space, ids)):
            if unkept:
                kept = [(0, values)] if (values := rows[position]) is not None else []
                rows[position] = first_rows(sorted([*kept, *unkept], key=lambda part: part[0]), count)
        return rows

    def counts(self, space: Space, ids: Sequence[str]) -> list[int]:
        """How many rows from 0 on each item has, without reading them; damage may turn up when they are read.

        What is counted is in use: a run that first counts all its items keeps them from making room for others.
        """
        if not ids:
            return []
        with self._lock:
            index = self._index(space)
            index.refresh()
            counts = count_rows(index, keys_of(ids), partial(self._mark_used, space))
        for position, unkept in enumerate(self._unkept.segments(space, ids)):
            if unkept:
                counts[position] = reach_of([(0, counts[position]), *((start, len(rows)) for start, rows in unkept)])
        return counts

    def append(self, space: Space, segments: Sequence[Segment]) -> None:
        """Keep segments; rows that are there already are harmless.

        Where there is no room they are not written, and memory holds the newest for the next step of a run.

        Raises:
            StorageError: a full disk or a read-only folder; nothing half-written stays.
        """
        if not segments:
            return
        with self._lock:
            if len(segments) > _MOST_SEGMENTS:
                for start in range(0, len(segments), _MOST_SEGMENTS):
                    self.append(space, segments[start : start + _MOST_SEGMENTS])
                return
            size = sum(segment.values.nbytes + ENTRY.itemsize for segment in segments)
            removed = self._limit.make_room(size, self._in_use)
            if removed is None:
                self._unkept.append(space, segments)
                return
            for path in removed:
                if path.parent.name in self._indexes:
                    self._indexes[path.parent.name].remove(path.name)
            index = self._index(space)
            self._describe(space)
            name, header, entries = write_pack(self._features / space.digest, space.digest, segments)
            self._used.add([name])
            self._limit.add(header.size)
            index.add(name, header, entries)
            self._merge_small_packs(space.digest, index)

    def require_writable(self) -> None:
        """Prove, once, that rows can be kept, before long work whose results would be lost.

        Raises:
            CacheError: the folder cannot be written; names it and the option that moves it.
        """
        if self._proved_writable or self._given_limit == 0:
            return
        require_writable_cache(self.root)
        self._proved_writable = True

    def claim(self, work: str) -> AbstractContextManager[bool]:
        """Claim a piece of work until the block ends; gives False while another process or thread has claimed it.

        Args:
            work: names it for all processes, such as the digest of a space and of the ids of a shard.
        """
        if self._given_limit == 0:  # nobody would find what this one computes
            return nullcontext(enter_result=True)
        return claim_work(self._features / _PROCESSES, work)

    def wait_for(self, work: str, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until nobody claims a piece of work; whether it is free."""
        return wait_for_work(self._features / _PROCESSES, work, timeout)

    def announce(self, required: int) -> None:
        """Say what a run is about to add to the disk, and warn where it will not fit.

        Args:
            required: the bytes of the rows that it computes.

        Raises:
            CacheError: as ``require_writable``, if there are any.
        """
        if not required:
            return
        self.require_writable()
        with self._lock:
            self._limit.announce(required)

    def refresh(self) -> None:
        """A folder is looked at each time."""

    def flush(self) -> bool:
        """Rows are in the folder as soon as they are appended."""
        return True

    def summaries(self) -> Iterator[SpaceSummary]:
        """What the store has of each space."""
        for digest in self._space_digests():
            with self._lock:
                index = self._index_of(digest)
                index.refresh()
                packs = index.packs
                used = max((_last_use(self._features / digest / pack.name) for pack in packs), default=0.0)
                rows = sum(pack.header.rows for pack in packs)
                items = index.item_count()
            if packs:
                size = sum(pack.size for pack in packs)
                yield SpaceSummary(digest, self.describe(digest), items, rows, len(packs), size, used)

    def describe(self, digest: str) -> Space | None:
        """The space with a digest; None if there is none or its description is damaged."""
        with suppress(OSError):
            path = self._features / digest / _SPACE_FILE
            if path.is_file():
                with path.open("rb") as stream:
                    return parse_space(stream.read(_LARGEST_DESCRIPTION), digest)
        return None

    def verify(self) -> Iterator[CheckedPack]:
        """Read every row; damaged ones are dropped, so that they are computed again."""
        for digest in self._space_digests():
            index = self._index_of(digest)
            index.refresh(force=True)
            for name in [*index.damaged, *(pack.name for pack in index.packs)]:
                path = self._features / digest / name
                try:
                    sound, damaged = check_pack(path, digest)
                except OSError:  # another process merged or removed it
                    continue
                if damaged:
                    with self._lock:
                        self._rebuild(digest, index, [name])
                yield CheckedPack(path, sound, damaged)

    def prune(self, *, older_than_days: float | None = None, max_bytes: int | None = None) -> list[CacheFile]:
        """Remove packs that were not used for a time, then the least recently used ones over a size.

        What is derived from weights counts and goes like any pack: it is made again when it is needed. What a running
        process uses stays.

        Returns:
            The removed files.
        """
        remove_dead_files(self._features / _PROCESSES)
        in_use = self._in_use()
        files = sorted([*stored_packs(self._features), *derived_files(self.root)], key=lambda file: file.used)
        total = sum(file.size for file in files)
        oldest = time.time() - older_than_days * 86400 if older_than_days is not None else float("-inf")
        removed = []
        for file in files:
            is_wanted = file.used >= oldest and (max_bytes is None or total <= max_bytes)
            if not is_wanted and file.path.name not in in_use and remove_path(file.path):
                total -= file.size
                removed.append(file)
        self._drop_empty_spaces()
        return removed

    def _space_digests(self) -> list[str]:
        return [folder.name for folder in space_folders(self._features)]

    @property
    def _limit(self) -> StoreLimit:
        if self._known_limit is None:  # a run that adds nothing need not count what there is
            self._known_limit = StoreLimit(self._features, self._given_limit)
        return self._known_limit

    def _in_use(self) -> set[str]:
        return {*self._used.names, *self._used.of_others()}

    def _index(self, space: Space) -> PackIndex:
        return self._index_of(space.digest)

    def _index_of(self, digest: str) -> PackIndex:
        if digest not in self._indexes:
            self._indexes[digest] = PackIndex(
                FolderPacks(self._features / digest), self._index_folder / f"{digest}.index", digest
            )
        return self._indexes[digest]

    def _describe(self, space: Space) -> None:
        """Write what the space is beside its packs, for people and for ``explain``."""
        if space.digest in self._described:
            return
        if self.describe(space.digest) is None:
            for path in (self._features / space.digest, self._features / space.digest / _SPACE_FILE):
                if path.is_symlink() or (path.exists() and path.is_dir() == (path.name == _SPACE_FILE)):
                    remove_path(path)  # something else is in its place
            with atomic_write(self._features / space.digest / _SPACE_FILE, durable=False) as stream:
                stream.write(space.description)
        self._described.add(space.digest)

    def _mark_used(self, space: Space, packs: Sequence[IndexedPack]) -> None:
        """Mark packs as used by this process, and when, at most once in some minutes each."""
        now = time.monotonic()
        due = [pack for pack in packs if now - self._marked.get(pack.name, -_MARKED_FOR) >= _MARKED_FOR]
        self._used.add([pack.name for pack in due])
        for pack in due:
            self._marked[pack.name] = now
            # the time of modification stays: with it the index knows the file again
            with suppress(OSError):
                os.utime(self._features / space.digest / pack.name, ns=(time.time_ns(), pack.modified))

    def _merge_small_packs(self, digest: str, index: PackIndex) -> None:
        """Merge small packs if there are many; whatever stands against it, they stay."""
        self._repair(digest, index, index.damaged)
        self._remove_replaced(digest, index)
        chosen = choose_packs(index.packs)
        if not chosen or time.monotonic() - self._tried.get(digest, -_PAUSE) < _PAUSE:
            return
        if not self._rebuild(digest, index, [pack.name for pack in chosen]):
            self._tried[digest] = time.monotonic()

    def _remove_replaced(self, digest: str, index: PackIndex) -> None:
        """Remove what a process that was killed while it merged left: packs whose rows are in the merged one, too."""
        names = {pack.name for pack in index.packs}
        for name in {name for pack in index.packs for name in pack.header.replaces} & names:
            remove_path(self._features / digest / name)
            index.remove(name)

    def _repair(self, digest: str, index: PackIndex, names: Collection[str]) -> None:
        """Drop the damaged rows of packs, where that is possible; where not, it is tried once."""
        for name in names:
            if name not in self._tried:
                self._tried[name] = time.monotonic()
                self._rebuild(digest, index, [name])

    def _rebuild(self, digest: str, index: PackIndex, names: Sequence[str]) -> bool:
        """Put one pack with the sound rows of others in their place; whether that was possible."""
        folder = self._features / digest
        with claim_work(self._features / _PROCESSES, f"merge {digest}") as is_granted:
            if not is_granted:
                return False
            try:
                merged = merge_packs(folder, names, digest)
            except (OSError, StorageError):
                index.refresh(force=True)
                return False
            for name in names:
                index.remove(name)
            if merged.header is not None:
                self._used.hand_on(names, merged.name)
                index.add(merged.name, merged.header, merged.entries)
        return True

    def _drop_empty_spaces(self) -> None:
        """Remove the folders of spaces that have had no packs for an hour."""
        for digest in self._space_digests():
            folder = self._features / digest
            with suppress(OSError):
                is_old = time.time() - folder.stat().st_mtime > _EMPTY_FOR
                if is_old and [path.name for path in folder.iterdir()] == [_SPACE_FILE]:
                    (folder / _SPACE_FILE).unlink()
                    folder.rmdir()
                    (self._index_folder / f"{digest}.index").unlink(missing_ok=True)


def _last_use(path: Path) -> float:
    with suppress(OSError):
        return cache_file(path).used
    return 0.0


def open_store(
    place: PersistentStore | Path | str | None,
    *,
    index: Path | None = None,
    limit: float | None = None,
    home: Path | None = None,
) -> PersistentStore | None:
    """The store at a place; one that is open, and None, stay what they are.

    Args:
        place: a cache folder, or an address such as ``s3://bucket/folder``. A store can be pickled, as its place.
        index: a local folder for the indexes, which may be deleted at any time, and for rows that are on their way to
            a bucket. By default in the folder, or in the user's home for a bucket.
        limit: the bytes that the rows may take, as ``DiskStore``; in a bucket None is no limit.
        home: a local folder for what is of this machine, such as the digests of its files, where the place is a
            bucket; by default the user's cache folder.

    Raises:
        UsageError: an address that is none, of a service without conditional writes, or with credentials in it.
        MissingExtraError: the package that speaks with the bucket is not installed.
    """
    if not isinstance(place, str | Path):
        return place
    if isinstance(place, str) and is_address(place):
        from abs_classify.encoding.bucket_store import BucketStore

        user = Home.at(None, None)
        return BucketStore(place, index=index or user.indexes_of(place), root=home or user.cache, limit=limit)
    return DiskStore(Path(place).expanduser().absolute(), index=index, limit=limit)


@contextmanager
def opened_store(place: PersistentStore | Path | str | None) -> Iterator[PersistentStore]:
    """The store of a run; a passing one where nothing is kept."""
    store = open_store(place)
    if store is None:
        with TemporaryDirectory(prefix="abs-") as folder:
            yield DiskStore(Path(folder))
        return
    try:
        yield store
    finally:
        store.flush()
