"""How much of the disk the feature store may take, and what makes room where that is not enough."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from abs_classify.encoding.cache import CacheFile, cache_file, remove_path
from abs_classify.encoding.packs import PACK_SUFFIX
from abs_core.text import format_bytes, printable

__all__ = ["StoreLimit", "space_folders", "stored_packs"]

_logger = logging.getLogger(__name__)

# of the disk that would be free without the store, the divisor
_SHARE = 5

# seconds: how long the sum of the packs of all processes is believed, and how long what had no room is not tried again
_COUNTED_FOR, _REFUSED_FOR = 60.0, 30.0

# bytes: what fits and is less is not announced
_WORTH_A_WORD = 100_000_000

_REMEDY = "Allow more with --cache-size or ABS_CACHE_SIZE, or remove old rows with `abs cache prune`"
_OTHER_FOLDER = "Name a folder on another disk with --cache or ABS_CACHE"

_DIGEST = re.compile(r"[0-9a-f]{64}")


class StoreLimit:
    """The bytes that the packs of all spaces may take; those that were not used for the longest time make room.

    Args:
        features: the folder of the folders of spaces.
        limit: in bytes; ``inf`` for none, None for a fifth of what would be free without the packs.
    """

    def __init__(self, features: Path, limit: float | None) -> None:
        self._features = features
        # of all packs, as of when they were last counted and with what was added since
        self._taken, self._counted = 0, float("-inf")
        self._refused: tuple[float, int] | None = None
        self._warned = False
        if limit is None:
            free = _free_bytes(features)
            self._count()
            limit = float("inf") if free is None else (free + self._taken) // _SHARE
        self.bytes = limit

    def announce(self, required: int) -> None:
        """Say what a run is about to add, and warn where it will not fit.

        Args:
            required: the bytes of the rows that it computes.
        """
        if not required or not self.bytes:
            return
        self._count()
        free = _free_bytes(self._features)
        wanted = f"this run adds up to {format_bytes(required)} to the cache {printable(str(self._features.parent))!r}"
        if free is not None and required > free:
            _logger.warning("%s, whose disk has %s free. %s", wanted, format_bytes(free), _OTHER_FOLDER)
        elif required > self.bytes:
            allowed = format_bytes(int(self.bytes))
            _logger.warning("%s, which may take %s: what exceeds that is not kept. %s", wanted, allowed, _REMEDY)
        elif required >= _WORTH_A_WORD:
            limit = "" if self.bytes == float("inf") else f" of at most {format_bytes(int(self.bytes))}"
            _logger.info("%s, which takes %s%s", wanted, format_bytes(self._taken), limit)

    def add(self, size: int) -> None:
        """Count what was just written."""
        self._taken += size

    def make_room(self, size: int, in_use: Callable[[], Collection[str]]) -> list[Path] | None:
        """Let new rows have room.

        Args:
            size: their bytes.
            in_use: the names of the packs that stay; asked for only where something has to go.

        Returns:
            The packs that were removed for them; None if there is no room.
        """
        now = time.monotonic()
        if self.bytes == float("inf") or (now - self._counted < _COUNTED_FOR and self._taken + size <= self.bytes):
            return []
        if self._refused is not None and now - self._refused[0] < _REFUSED_FOR and size >= self._refused[1]:
            return None
        if size <= self.bytes:
            removed = self._evict(size, in_use)
            if self._taken + size <= self.bytes:
                return removed
        self._refused = (now, size)
        if not self._warned and self.bytes:
            self._warned = True
            folder, allowed = printable(str(self._features.parent)), format_bytes(int(self.bytes))
            _logger.warning(
                "the cache %r has no room for new rows within %s: they are not kept. %s", folder, allowed, _REMEDY
            )
        return None

    def _evict(self, size: int, in_use: Callable[[], Collection[str]]) -> list[Path]:
        files = self._count()
        removed: list[Path] = []
        if self._taken + size <= self.bytes:
            return removed
        kept = in_use()
        candidates = sorted((file for file in files if file.path.name not in kept), key=lambda file: file.used)
        # nothing is given up for rows that have no room even then
        if self._taken - sum(file.size for file in candidates) + size > self.bytes:
            return removed
        for file in candidates:
            if self._taken + size <= self.bytes:
                break
            if remove_path(file.path):
                self._taken -= file.size
                removed.append(file.path)
        return removed

    def _count(self) -> Sequence[CacheFile]:
        files = list(stored_packs(self._features))
        self._taken, self._counted = sum(file.size for file in files), time.monotonic()
        return files


def space_folders(features: Path) -> list[Path]:
    """The folders of spaces."""
    with suppress(OSError):
        return sorted(path for path in features.iterdir() if _DIGEST.fullmatch(path.name))
    return []


def stored_packs(features: Path) -> Iterator[CacheFile]:
    """The packs of all spaces."""
    for folder in space_folders(features):
        for path in folder.glob(f"[!.]*{PACK_SUFFIX}"):
            with suppress(OSError):
                yield cache_file(path)


def _free_bytes(folder: Path) -> int | None:
    """The free bytes of the disk that has a folder, or will have it; None if they cannot be told."""
    for parent in (folder, *folder.parents):
        with suppress(OSError):
            return shutil.disk_usage(parent).free
    return None
