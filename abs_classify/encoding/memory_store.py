"""Rows that are kept in memory only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from abs_classify.encoding.packed_rows import first_rows, reach_of
from abs_classify.encoding.spaces import Segment, Space

__all__ = ["MemoryStore"]


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
            return [first_rows(items.get(item, []), count) for item in ids]

    def counts(self, space: Space, ids: Sequence[str]) -> list[int]:
        """How many rows from 0 on each item has."""
        with self._lock:
            items = self._items.get(space.digest, {})
            return [reach_of([(start, len(rows)) for start, rows in items.get(item, [])]) for item in ids]

    def segments(self, space: Space, ids: Sequence[str]) -> list[list[tuple[int, np.ndarray]]]:
        """The segments (start, rows) of each item, by start."""
        with self._lock:
            items = self._items.get(space.digest, {})
            return [items.get(item, []) for item in ids]

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

    def claim(self, work: str) -> AbstractContextManager[bool]:  # noqa: ARG002 - nobody else sees these rows
        """Nobody else works on rows of this process."""
        return nullcontext(enter_result=True)

    def wait_for(self, work: str, timeout: float) -> bool:  # noqa: ARG002
        """Nobody claims work on rows of this process."""
        return True

    def announce(self, required: int) -> None:
        """Memory that is needed for a shard at a time is not worth a word."""

    def refresh(self) -> None:
        """Nobody else adds rows to memory."""

    def flush(self) -> bool:
        """There is no other place where rows of memory should be."""
        return True
